"""Frames and, some time later, the beam monitor's readings in; the frames with their readings out, in order.

Frames that wait for a reading keep those behind them waiting in the queue, which is bounded in bytes.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from ringwatch.clock import Clock
from ringwatch.errors import ControlError
from ringwatch.messages import Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream.queue import IDLE_S, FrameQueue

MAX_READINGS = 1 << 18
"""Readings that wait for their frames, 60 MB of them; the oldest give way."""


class MonitoredQueue:
    """What the reduction takes from instead of the queue where frames are weighed with a monitor.

    Parameters
    ----------
    queue
        Where the frames come from.
    wait_s
        How long after its arrival a frame waits for its reading; then it goes without.
    clock
        That of ``Frame.received_s``.
    """

    def __init__(self, queue: FrameQueue, wait_s: float, clock: Clock) -> None:
        self._queue, self._wait_s, self._clock = queue, wait_s, clock
        self._held: list[StreamMessage] = []
        self._readings: dict[tuple[int, int], float] = {}
        self._over: int | None = None
        self._changed = threading.Condition()

    def tell(self, series: int, first: int, readings: Sequence[float]) -> None:
        """The readings of frames ``first``, ``first + 1``, ...; NaN where the monitor failed. From any thread.

        Raises
        ------
        ControlError
            All frames of this series are reduced.
        """
        with self._changed:
            if series == self._over:
                raise ControlError(f"series {series} is over")
            self._readings.update({(series, first + k): value for k, value in enumerate(readings)})
            for oldest in list(self._readings)[: max(0, len(self._readings) - MAX_READINGS)]:
                del self._readings[oldest]
            self._changed.notify_all()

    def get_batch(self, max_frames: int, timeout_s: float) -> list[StreamMessage]:
        """As `FrameQueue.get_batch`; empty, too, while the next frame waits for its reading."""
        self._held = self._held or self._queue.get_batch(max_frames, timeout_s)
        if not self._held:
            return []
        with self._changed:
            batch = self._weighed(max_frames) if isinstance(self._held[0], Frame) else self._passed_on()
        self._held = self._held[len(batch) :]
        return batch

    def take_full_batch(self, n_frames: int) -> list[Frame]:
        """Nothing: frames that are not needed yet may still wait for their readings."""
        return []

    @property
    def finished(self) -> bool:
        """Whether the queue is closed and everything was taken."""
        return not self._held and self._queue.finished

    def _passed_on(self) -> list[StreamMessage]:
        """A start or an end; what is known of a series that is over serves nobody."""
        match self._held[0]:
            case SeriesStart(series=series) if series == self._over:
                self._over = None
            case SeriesEnd(series=series):
                self._over = series
                self._readings = {key: value for key, value in self._readings.items() if key[0] != series}
        return self._held[:1]

    def _weighed(self, max_frames: int) -> list[StreamMessage]:
        """Those of the frames that need not wait any more."""
        frames = [frame for frame in self._held[:max_frames] if isinstance(frame, Frame)]
        self._changed.wait_for(lambda: self._is_ready(frames[0]), IDLE_S)
        ready = list(takewhile(self._is_ready, frames))
        return [replace(one, i0=self._readings.pop((one.series, one.frame), math.nan)) for one in ready]

    def _is_ready(self, frame: Frame) -> bool:
        is_told = (frame.series, frame.frame) in self._readings
        return is_told or self._queue.closed or self._clock.monotonic_s() > frame.received_s + self._wait_s
