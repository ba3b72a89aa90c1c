"""What was asked for over HTTP in, calls of the stopper and of the reduction out, each answered with a sentence."""

from collections.abc import Callable
from typing import Literal

from ringwatch.control.stopper import Stopper
from ringwatch.errors import ControlError, MalformedOrder
from ringwatch.publish.orders import Ask, Facts
from ringwatch.reduction.pipeline import Reduction

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
    """

    def __init__(
        self,
        scope: Literal["series", "sample", "frame"],
        stopper: Stopper | None,
        reduction: Callable[[], Reduction],
    ) -> None:
        self._scope, self._stopper, self._reduction = scope, stopper, reduction

    def asks(self) -> dict[str, Ask]:
        """By name."""
        return {
            "stop": Ask(lambda _: self._control().stop_now()),
            "hold": Ask(lambda _: self._control().hold()),
            "reset": Ask(self._reset),
            "sample": Ask(self._change_sample, frozenset({"sample"})),
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
