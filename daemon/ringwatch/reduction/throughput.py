"""Batches that were reduced in, frames a second and the lag out, for the status."""

from ringwatch.clock import Clock

STATUS_S = 2.0


class Throughput:
    """Frames a second and how far behind, since the last look at them.

    Attributes
    ----------
    total
        Number of frames ever.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s = clock.monotonic_s()
        self._frames = 0
        self._lag_s = 0.0
        self.total = 0

    def count(self, frames: int, received_s: float) -> None:
        """Note a batch whose oldest frame arrived at ``received_s``."""
        self._frames += frames
        self.total += frames
        self._lag_s = max(self._lag_s, self._clock.monotonic_s() - received_s)

    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return self._clock.monotonic_s() - self._since_s >= STATUS_S

    def look(self) -> tuple[float, float]:
        """Frames a second and the largest lag in seconds since the last look; begins anew."""
        now_s = self._clock.monotonic_s()
        found = self._frames / max(now_s - self._since_s, 1e-9), self._lag_s
        self._frames, self._lag_s, self._since_s = 0, 0.0, now_s
        return found
