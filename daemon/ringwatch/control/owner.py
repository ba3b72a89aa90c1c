"""A stop order in, the owner of the detector told, the series watched until it is over."""

import time
from typing import Protocol

from ringwatch.clock import Clock
from ringwatch.control.order import Order, Tell
from ringwatch.errors import ControlError, NoAnswer

POLL_S = 0.05
_SILENT_FRAMES = 3
_LEAST_SILENCE_S = 1.0


class Messenger(Protocol):
    """A way to tell somebody."""

    @property
    def via(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def whom(self) -> str:
        """Who is told, for sentences."""
        ...

    def deliver(self, order: Order) -> str:
        """Tell them once; what came of it, as a sentence.

        Raises
        ------
        ControlError
            They were not reached, or refused.
        NoAnswer
            They were reached, and may obey.
        """
        ...


class Owner:
    """Whoever armed the detector and is to stop it.

    Parameters
    ----------
    messenger
        How they are told.
    timeout_s
        Longest wait, beyond two frame times, for the series to end.
    """

    def __init__(self, messenger: Messenger, timeout_s: float, clock: Clock) -> None:
        self._messenger, self._timeout_s, self._clock = messenger, timeout_s, clock
        self.via, self.whom = messenger.via, messenger.whom

    def stop(self, order: Order, tell: Tell) -> str:
        """Tell them, once, and watch; see `Actuator`."""
        try:
            tell(self._messenger.deliver(order))
        except NoAnswer as silence:
            tell(f"{silence}; it may obey nevertheless.")
        if not has_ended(order, self._timeout_s, self._clock):
            raise ControlError("it is still acquiring")
        return "series over"


def has_ended(order: Order, timeout_s: float, clock: Clock) -> bool:
    """Wait for the series to end. Its end message may be lost: no frame in the last three frame times is an end too.

    Parameters
    ----------
    timeout_s
        Longest wait, beyond two frame times.
    """
    silence_s = max(_LEAST_SILENCE_S, _SILENT_FRAMES * order.frame_time_s)
    now_s = last_frame_s = clock.monotonic_s()
    deadline_s = now_s + timeout_s + 2 * order.frame_time_s
    seen = order.ongoing()
    while order.course == "running" and now_s < deadline_s:
        time.sleep(POLL_S)
        now_s, newest = clock.monotonic_s(), order.ongoing()
        if newest != seen:
            seen, last_frame_s = newest, now_s
    return order.course != "running" or now_s - last_frame_s >= silence_s
