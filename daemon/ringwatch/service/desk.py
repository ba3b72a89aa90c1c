"""What was asked for over HTTP in, calls of the stopper and of the reduction out, each answered with a sentence."""

import math
import sys
from collections.abc import Callable
from typing import Literal

from ringwatch.control.stopper import Stopper
from ringwatch.errors import ControlError, MalformedOrder
from ringwatch.messages import MAX_FRAME_ID
from ringwatch.publish.orders import Ask, Facts
from ringwatch.reduction.pipeline import Reduction
from ringwatch.stream.monitored import MonitoredQueue

MAX_NAME_CHARS = 256


class Desk:
    """Takes what is asked for.

    Parameters
    ----------
    scope
        Over what frames are added up.
    stopper
        Who stops the detector; None where nobody may.
    reduction
        Gives the reduction, which is made later.
    monitored
        Where frames wait for their monitor; None where they do not.
    """

    def __init__(
        self,
        scope: Literal["series", "sample", "frame"],
        stopper: Stopper | None,
        reduction: Callable[[], Reduction],
        monitored: MonitoredQueue | None,
    ) -> None:
        self._scope, self._stopper, self._reduction, self._monitored = scope, stopper, reduction, monitored

    def asks(self) -> dict[str, Ask]:
        """By name."""
        return {
            "token": Ask(lambda _: "The token is right."),
            "stop": Ask(lambda _: self._control().stop_now()),
            "hold": Ask(lambda _: self._control().hold()),
            "reset": Ask(self._reset),
            "sample": Ask(self._change_sample, frozenset({"sample"})),
            "i0": Ask(self._monitor, frozenset({"series", "first", "i0"})),
        }

    def _control(self) -> Stopper:
        if self._stopper is None:
            raise ControlError("nothing is stopped from here: set stop.via")
        return self._stopper

    def _reset(self, _: Facts) -> str:
        if self._scope == "frame":
            raise ControlError('nothing is added up: accumulate.scope is "frame"')
        self._reduction().begin_anew()
        return "What is added up begins anew; results so far are kept."

    def _change_sample(self, facts: Facts) -> str:
        name = facts.get("sample")
        if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
            raise MalformedOrder(f"sample has to be a name of 1 to {MAX_NAME_CHARS} printable characters")
        self._reduction().change_sample(name)
        called = f", {name}" if name else ""
        return f"The next series begins another sample{called}, unless its header names one."

    def _monitor(self, facts: Facts) -> str:
        if self._monitored is None:
            raise ControlError("frames are not weighed with a monitor: set accumulate.monitor_wait_s")
        series, first, readings = _count(facts, "series"), _count(facts, "first"), _readings(facts.get("i0"))
        self._monitored.tell(series, first, readings)
        return f"Series {series}: the monitor of {len(readings)} frames from frame {first} on."


def _count(facts: Facts, name: str) -> int:
    value = facts.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_FRAME_ID:
        raise MalformedOrder(f"{name} has to be a number of a series or a frame")
    return value


def _readings(given: object) -> list[float]:
    """Of consecutive frames; NaN for null, where the monitor failed."""
    values = given if isinstance(given, list) else []
    if not values or not all(value is None or type(value) in {int, float} for value in values):
        raise MalformedOrder("i0 has to be a list of numbers, one for each frame, or null where there is none")
    return [math.nan if value is None else min(value, sys.float_info.max) for value in values]
