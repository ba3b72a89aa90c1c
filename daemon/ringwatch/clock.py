"""Time as an argument: the monotonic clock for everything inside, the wall clock only for what is published."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests pass their own."""

    def monotonic_s(self) -> float:
        """Seconds that never jump, for durations and time-outs."""
        ...

    def time_ns(self) -> int:
        """Wall clock in nanoseconds since 1970, for published messages only."""
        ...


class SystemClock:
    """The clock of this machine."""

    def monotonic_s(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()
