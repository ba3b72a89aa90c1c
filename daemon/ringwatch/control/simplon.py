"""A stop order in, commands to a DECTRIS detector's control unit out (SIMPLON API 1.6 and 1.8, HTTP).

Cancel ends the series after the next image, and nothing is dropped. Then the end message is awaited, and disarm makes
the detector idle. Abort drops the images on their way: it is the last resort. SIMPLON manuals; the order of the
commands is the one that DECTRIS recommends for EIGER2 (areaDetector/ADEiger, issue 39). Each is given once at most, and
none once the detector sends another series.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Literal

import httpx2
import structlog

from ringwatch.clock import Clock
from ringwatch.control.http import exchange, open_client
from ringwatch.control.order import Order, Tell
from ringwatch.control.owner import POLL_S, has_ended
from ringwatch.errors import ControlError
from ringwatch.messages import MAX_FRAME_ID

_IDLE = frozenset({"idle", "na"})
_VERSION = re.compile(r"\d{1,3}(\.\d{1,3}){1,2}")
_USUAL_VERSION = "1.8.0"
_STATE = re.compile(r"[a-z]{1,20}")
_WAIT_S = 3.0
"""Longest wait for a state, beyond two frame times."""

Command = Literal["cancel", "disarm", "abort"]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Simplon:
    """A detector that is asked to stop over a connection of its own, opened for each order.

    Parameters
    ----------
    url
        Of the control unit, as http://10.42.41.10.
    timeout_s
        Longest wait for an answer, beyond the two frame times that the detector may need to finish an image.
    """

    via = "simplon"
    whom = "the detector"

    def __init__(self, url: str, timeout_s: float, clock: Clock) -> None:
        self._url, self._timeout_s, self._clock = url.rstrip("/"), timeout_s, clock

    def stop(self, order: Order, tell: Tell) -> str:
        """Cancel, wait for the end, disarm, wait until idle; abort if it goes on nevertheless. See `Actuator`."""
        with open_client(self._url, self._timeout_s + 2 * order.frame_time_s) as client:
            unit = ControlUnit(client, self._url)
            if _is_idle(unit.state()):
                return self._found_idle(order)
            return _Stop(unit, order, tell, self._clock).carry_out()

    def _found_idle(self, order: Order) -> str:
        """It may just have ended, or it is another detector."""
        if not has_ended(order, _WAIT_S, self._clock):
            raise ControlError(f"{self._url} says it is idle, but frames keep coming: is stop.url the right one?")
        return "detector idle"


class _Stop:
    """One stop, from the first command to the last."""

    def __init__(self, unit: "ControlUnit", order: Order, tell: Tell, clock: Clock) -> None:
        self._unit, self._order, self._tell, self._clock = unit, order, tell, clock
        self._wait_s = _WAIT_S + 2 * order.frame_time_s

    def carry_out(self) -> str:
        if self._give("cancel"):
            self._wait(lambda state: self._order.course != "running" or _is_idle(state))
        self._give("disarm")
        state = self._wait(_is_idle)
        if not _is_idle(state) and self._order.course != "replaced":
            self._tell(f"The detector is still {_doing(state)}: it is told to abort.")
            self._give("abort")
            state = self._wait(_is_idle)
        if self._order.course == "replaced":
            return "series over, another one has begun"
        if not _is_idle(state):
            raise ControlError(f"it is still {_doing(state)}")
        return "detector idle"

    def _give(self, command: Command) -> bool:
        """Give a command, unless it would meet another series; what is refused is told, and the next one tried."""
        if self._order.course == "replaced":
            return False
        try:
            self._unit.command(command)
        except ControlError as error:
            self._tell(f"The detector did not take {command}: {error}.")
            return False
        log.info("detector told", command=command, series=self._order.origin.series)
        return True

    def _wait(self, is_enough: Callable[[str], bool]) -> str:
        """Until its state is right, or nothing is left to wait for; the last state."""
        deadline_s = self._clock.monotonic_s() + self._wait_s
        while not is_enough(state := self._state()) and self._order.course != "replaced":
            if self._clock.monotonic_s() > deadline_s:
                break
            time.sleep(POLL_S)
        return state

    def _state(self) -> str:
        """One question without an answer is no reason to leave a detector running."""
        try:
            return self._unit.state()
        except ControlError as error:
            log.warning("detector did not tell its state", series=self._order.origin.series, reason=str(error))
            return "unknown"


class ControlUnit:
    """Commands, state and counter of one detector; nothing it answers is trusted."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client, self._url = client, url
        self._of = f"api/{self._version()}"

    def state(self) -> str:
        """idle, ready, acquire, ..."""
        return self._text(f"detector/{self._of}/status/state", _STATE)

    def dropped(self) -> int:
        """How many images of the series it could not send, as nobody took them; raises ControlError."""
        path = f"stream/{self._of}/status/dropped"
        number = self._value(path)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MAX_FRAME_ID:
            raise ControlError(f"{self._url}/{path} gave no number that makes sense")
        return number

    def command(self, name: Command) -> None:
        """Give a command; raises ControlError unless it is answered with success."""
        exchange(self._client, "PUT", f"{self._url}/detector/{self._of}/command/{name}")

    def _version(self) -> str:
        """As it says; not every control unit says it."""
        try:
            return self._text("detector/api/version", _VERSION)
        except ControlError as error:
            log.warning("version of the detector's interface not known", assumed=_USUAL_VERSION, reason=str(error))
            return _USUAL_VERSION

    def _text(self, path: str, pattern: re.Pattern[str]) -> str:
        value = self._value(path)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ControlError(f"{self._url}/{path} gave no value that makes sense")
        return value

    def _value(self, path: str) -> object:
        try:
            answer = json.loads(exchange(self._client, "GET", f"{self._url}/{path}"))
        except (ValueError, RecursionError):
            answer = None
        return answer.get("value") if isinstance(answer, dict) else None


def _is_idle(state: str) -> bool:
    return state in _IDLE


def _doing(state: str) -> str:
    return "acquiring" if state == "acquire" else f"in state {state}"
