"""A stop order in, commands to a DECTRIS detector's control unit out (SIMPLON API 1.6 and 1.8, HTTP).

Cancel ends the series after the next image, and nothing is dropped. Then the end message is awaited, and disarm makes
the detector idle. Abort drops the images on their way: it is the last resort. SIMPLON manuals; the order of the
commands is the one that DECTRIS recommends for EIGER2 (areaDetector/ADEiger, issue 39).
"""

import json
import re
import time
from typing import Literal

import httpx2
import structlog

from ringwatch.clock import Clock
from ringwatch.control.order import Order
from ringwatch.errors import ControlError

COMMANDS = ("cancel", "disarm", "abort")
_RUNNING = frozenset({"ready", "configure", "acquire"})
_IDLE = frozenset({"idle", "na"})
_VERSION = re.compile(r"\d{1,3}(\.\d{1,3}){1,2}")
_STATE = re.compile(r"[a-z]{1,20}")
_LARGEST_ANSWER_BYTES = 1 << 16
_POLL_S = 0.05
_LEAST_WAIT_S = 3.0

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

    def __init__(self, url: str, timeout_s: float, clock: Clock) -> None:
        self._url, self._timeout_s, self._clock = url.rstrip("/"), timeout_s, clock

    def stop(self, order: Order) -> str:
        """Cancel, wait for the end, disarm, wait until idle; abort if it goes on nevertheless.

        Raises
        ------
        ControlError
            The control unit cannot be reached, or the detector is still busy.
        """
        finish_s = 2 * (order.frame_time_s or 0.0)
        with httpx2.Client(timeout=self._timeout_s + finish_s, follow_redirects=False, trust_env=False) as client:
            unit = _ControlUnit(client, self._url)
            state = unit.state()
            if state not in _RUNNING:
                return f"nothing to stop, the detector is {state}"
            return self._stop(unit, order, max(_LEAST_WAIT_S, finish_s + 2))

    def _stop(self, unit: "_ControlUnit", order: Order, wait_s: float) -> str:
        self._try(unit, "cancel", order)
        self._wait(unit, order, wait_s)
        self._try(unit, "disarm", order)
        state = self._wait_until_idle(unit, wait_s)
        if state not in _IDLE:
            order.tell(f"The detector is still {_doing(state)}: it is told to abort.")
            self._try(unit, "abort", order)
            state = self._wait_until_idle(unit, wait_s)
        if state not in _IDLE:
            raise ControlError(f"it is still {_doing(state)}")
        return f"detector {state}"

    def _try(self, unit: "_ControlUnit", command: Command, order: Order) -> None:
        """Give a command; what is refused is told, and the next one tried."""
        try:
            unit.command(command)
            log.info("detector told", command=command, series=order.origin.series)
        except ControlError as error:
            log.warning("detector refused", command=command, series=order.origin.series, reason=str(error))
            order.tell(f"The detector did not take {command}: {error}.")

    def _wait(self, unit: "_ControlUnit", order: Order, wait_s: float) -> None:
        """Until the end of the series has come through the stream, so that disarm finds nothing on its way."""
        deadline_s = self._clock.monotonic_s() + wait_s
        while not order.is_over.wait(_POLL_S) and self._clock.monotonic_s() < deadline_s:
            if unit.state() in _IDLE:
                return

    def _wait_until_idle(self, unit: "_ControlUnit", wait_s: float) -> str:
        deadline_s = self._clock.monotonic_s() + wait_s
        while (state := unit.state()) not in _IDLE and self._clock.monotonic_s() < deadline_s:
            time.sleep(_POLL_S)
        return state


class _ControlUnit:
    """Commands and state of one detector; nothing it answers is trusted."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client, self._url = client, url
        version = self._value("detector/api/version", _VERSION)
        self._base = f"detector/api/{version}"

    def state(self) -> str:
        """idle, ready, acquire, ..."""
        return self._value(f"{self._base}/status/state", _STATE)

    def command(self, name: Command) -> None:
        """Give a command; raises ControlError unless it is answered with success."""
        self._request("PUT", f"{self._base}/command/{name}")

    def _value(self, path: str, pattern: re.Pattern[str]) -> str:
        try:
            answer = json.loads(self._request("GET", path))
        except ValueError:
            answer = None
        value = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ControlError(f"{self._url}/{path} gave no value that makes sense")
        return value

    def _request(self, method: str, path: str) -> bytes:
        try:
            with self._client.stream(method, f"{self._url}/{path}") as answer:
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _LARGEST_ANSWER_BYTES:
                        raise ControlError(f"{path} answered with more than {_LARGEST_ANSWER_BYTES} bytes")
                status = answer.status_code
        except httpx2.HTTPError as error:
            raise ControlError(f"{self._url}/{path}: {error or type(error).__name__}") from error
        if status != httpx2.codes.OK:
            raise ControlError(f"{path} answered {status}")
        return body


def _doing(state: str) -> str:
    return "acquiring" if state == "acquire" else state
