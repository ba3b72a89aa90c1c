"""Decoded messages and the time in, a clean stream out: one series at a time, each frame once, every frame counted.

Whatever a detector or a broken network does, the reduction sees SeriesStart, Frames of that series, SeriesEnd.
"""

import uuid
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from ringwatch.intervals import IntervalSet
from ringwatch.messages import EndReason, Fates, Frame, Ongoing, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream.decode import Decoded
from ringwatch.stream.stins import UNNUMBERED
from ringwatch.stream.v1 import HeaderContinuation

SILENT_FRAMES = 5
LONGEST_SILENCE_S = 86400.0
"""Whatever frame time a header claims: a series that never ends would keep the frames of all others out."""
MAX_MISSING = 1000
"""Intervals of missing frames that are told."""
MAX_RECENT = 8
"""Closed series that are still known: their frames may be late, or wait in the queue."""


@dataclass(slots=True)
class _Series:
    """What is known of one series.

    ``shape`` is what its header says of its frames; ``waiting`` its start while the second half of a header may come;
    ``is_heard`` that something of it came to this daemon.
    """

    series: int
    unique_id: str
    fates: Fates
    expected: int | None
    silence_s: float
    shape: tuple[int, int] | None
    last_s: float
    waiting: SeriesStart | None
    frames: IntervalSet = field(default_factory=IntervalSet)
    kind: tuple[tuple[int, int], np.dtype[np.generic]] | None = None
    ended_s: float | None = None
    is_heard: bool = True

    def owns(self, message: StreamMessage) -> bool:
        """Whether a message is of this series; v1 knows numbers only, others not even these."""
        return message.series in (self.series, UNNUMBERED) and message.unique_id in ("", self.unique_id)

    @property
    def takes_numbers(self) -> bool:
        """Whether a start of the same number means this series."""
        return self.ended_s is None and self.is_heard

    @property
    def complete(self) -> bool:
        """Whether all frames that the header announced have come."""
        return self.expected is not None and self.frames.count >= self.expected

    def is_silent(self, now_s: float) -> bool:
        """Whether nothing of it came for so long that nothing will."""
        return now_s - self.last_s >= self.silence_s

    def missing(self) -> tuple[tuple[int, int], ...]:
        """Numbers that never came below the last one that did: a series that is stopped early misses nothing."""
        return tuple(self.frames.gaps(self.frames.end)[:MAX_MISSING])

    def release(self) -> list[StreamMessage]:
        """The start, if it was not handed on before."""
        start, self.waiting = self.waiting, None
        return [] if start is None else [start]


class SeriesTable:
    """The state machine of a detector's series.

    Parameters
    ----------
    late_s
        How long frames are accepted after the end message, and how long the end message may come after the last
        frame.
    end_timeout_s
        Silence that ends a series, never shorter than five of its frame times.
    """

    def __init__(self, late_s: float = 1.0, end_timeout_s: float = 10.0) -> None:
        self._late_s = late_s
        self._end_timeout_s = end_timeout_s
        self._open: _Series | None = None
        self._recent: deque[_Series] = deque(maxlen=MAX_RECENT)
        self.stray = Fates()
        """Frames that came when no series was open and could not open one."""

    @property
    def ongoing(self) -> Ongoing | None:
        """What the detector is sending, from any thread; None once the end or the last frame announced has come."""
        series = self._open
        if series is None or series.ended_s is not None or series.complete:
            return None
        return Ongoing(series.unique_id, series.fates.received)

    @property
    def is_closed(self) -> bool:
        """Whether no series is open, from any thread."""
        return self._open is None

    def resume(self, start: SeriesStart, frames: IntervalSet, now_s: float) -> list[StreamMessage]:
        """Go on with a series that ran when the daemon died, as if it had just been heard of.

        Parameters
        ----------
        frames
            Numbers of its frames that met their fate; all others are still wanted.
        """
        series = self._start(start, now_s)
        series.frames, series.is_heard = frames, False
        if start.shape is not None and start.dtype is not None and frames.count:
            series.kind = (start.shape, start.dtype)
        return series.release()

    # ------------------------------------------------------------------------------------------------- what comes in

    def feed(self, message: Decoded, now_s: float) -> list[StreamMessage]:
        """Take one decoded message; returns what the reduction is to see, in order."""
        match message:
            case Frame():
                return self._on_frame(message, now_s)
            case SeriesStart():
                return self._on_start(message, now_s)
            case SeriesEnd():
                return self._on_end(message, now_s)
            case HeaderContinuation():
                return self._on_continuation(message, now_s)

    def tick(self, now_s: float) -> list[StreamMessage]:
        """Let time pass: late frames have had their time, an end was lost, a detector fell silent."""
        series = self._open
        if series is None:
            return []
        if series.ended_s is not None:
            return self.close("end") if now_s - series.ended_s >= self._late_s else []
        if series.complete and now_s - series.last_s >= self._late_s:
            return self.close("complete")
        # Before the first frame silence is normal: an armed detector may wait long for its trigger.
        return self.close("timeout") if series.frames.count and series.is_silent(now_s) else []

    def malformed(self, reason: str) -> None:
        """Count a message that could not be decoded."""
        fates = self.stray if self._open is None else self._open.fates
        fates.received += 1
        fates.malformed[reason] += 1

    def skipped(self, frame: Frame) -> None:
        """Count a frame of the open or a recent series that was handed on, but dropped before it was reduced."""
        known = (*self._recent, self._open)
        series = next((s for s in reversed(known) if s is not None and s.unique_id == frame.unique_id), None)
        if series is not None:
            series.fates.skipped += 1

    def close(self, reason: EndReason = "shutdown") -> list[StreamMessage]:
        """End the open series, if there is one; a series whose end message came has ended by that."""
        series = self._open
        if series is None:
            return []
        if series.ended_s is not None:
            reason = "end"
        self._recent.append(series)
        self._open = None
        return [*series.release(), SeriesEnd(series.series, series.unique_id, reason, series.missing())]

    # ------------------------------------------------------------------------------------------------ the four kinds

    def _on_start(self, start: SeriesStart, now_s: float) -> list[StreamMessage]:
        series = self._open
        # Numbers of v1 come again: after its end, or a crash, the same number is a new series.
        if series is not None and series.owns(start) and (start.unique_id or series.takes_numbers):
            return []
        ended = self.close("abandoned")
        opened = self._start(start, now_s)
        return ended if _is_half(start) else ended + opened.release()

    def _on_continuation(self, rest: HeaderContinuation, now_s: float) -> list[StreamMessage]:
        series = self._open
        if series is None or series.waiting is None:
            return []
        return self._start(rest.merged_into(series.waiting), now_s).release()

    def _on_frame(self, frame: Frame, now_s: float) -> list[StreamMessage]:
        series = self._open
        if series is not None and series.owns(frame):
            return self._accept(series, frame, now_s)
        if series is not None and series.ended_s is None and not series.is_silent(now_s):
            series.fates.received += 1
            series.fates.foreign += 1
            return []
        closed = self._just_closed(frame, now_s)
        if closed is not None:
            closed.fates.received += 1
            closed.fates.late += 1
            return []
        return self.close("timeout") + self._join(frame, now_s)

    def _on_end(self, end: SeriesEnd, now_s: float) -> list[StreamMessage]:
        series = self._open
        if series is None or not series.owns(end):
            return []
        series.last_s = now_s
        if series.ended_s is None:
            series.ended_s = now_s
        return self.close("end") if series.complete else series.release()

    # ------------------------------------------------------------------------------------------------------ transitions

    def _start(self, start: SeriesStart, now_s: float) -> _Series:
        start = replace(start, unique_id=start.unique_id or uuid.uuid4().hex)
        silence_s = max(self._end_timeout_s, min(SILENT_FRAMES * (start.frame_time_s or 0.0), LONGEST_SILENCE_S))
        opened = _Series(
            start.series, start.unique_id, start.fates, start.frames_expected, silence_s, start.shape, now_s, start
        )
        self._open = opened
        return opened

    def _join(self, frame: Frame, now_s: float) -> list[StreamMessage]:
        """The start was missed: make one from the first frame."""
        start = SeriesStart(max(frame.series, 0), frame.unique_id, shape=frame.shape, dtype=frame.dtype, joined=True)
        return self._accept(self._start(start, now_s), frame, now_s)

    def _accept(self, series: _Series, frame: Frame, now_s: float) -> list[StreamMessage]:
        """A frame of the open series: new, seen before, or unlike the first one."""
        fates = series.fates
        fates.received += 1
        series.last_s, series.is_heard = now_s, True
        kind = (frame.shape, frame.dtype)
        if series.kind not in (None, kind) or series.shape not in (None, frame.shape):
            fates.malformed["changed"] += 1
            return []
        series.kind = kind
        try:
            is_new = series.frames.add(frame.frame)
        except OverflowError:
            fates.malformed["scattered"] += 1
            return []
        if not is_new:
            fates.duplicate += 1
            return []
        fates.missing = series.frames.end - series.frames.count
        return [*series.release(), replace(frame, series=series.series, unique_id=series.unique_id)]

    def _just_closed(self, frame: Frame, now_s: float) -> _Series | None:
        """The series that a frame is too late for; after a silence it is another one, or the same joined anew."""
        return next((s for s in reversed(self._recent) if s.owns(frame) and not s.is_silent(now_s)), None)


def _is_half(start: SeriesStart) -> bool:
    """Whether a v1 header announces details that it does not bring: they come as a message of their own."""
    return set(start.header) == {"header_detail"} and start.header["header_detail"] in ("basic", "all")
