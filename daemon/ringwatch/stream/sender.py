"""Encoded frames in, a DECTRIS stream on a ZeroMQ PUSH socket out, on a schedule: the detector's side of the wire.

Unlike a detector, which drops what nobody takes, a sender waits for its receiver, but never longer than a time limit.
"""

import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import zmq

from ringwatch.clock import Clock, SystemClock
from ringwatch.errors import StreamError
from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.stream.encode import ENCODERS, Encoded, HeaderDetail, Parts, StreamVersion

QUEUED_MESSAGES = 16
"""Messages waiting in the socket: enough to bridge a busy receiver, few enough to hold 4M frames."""

LOOK_UP_S = 0.1
"""How often a waiting sender looks whether it should stop, and how often progress is told."""

END_ATTEMPTS = 20
"""How often an end message is offered when the series was stopped: 2 s."""

LINGER_MS = 5000

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Progress = Callable[[int, float], None]
"""Told about ten times a second: number of frames sent (0 while a receiver is awaited), seconds behind schedule."""


@dataclass(frozen=True, slots=True)
class SendReport:
    """How a series went.

    Attributes
    ----------
    frames, size_bytes, seconds
        Frames sent, their encoded pixels, time from the first frame to the end message.
    late_max_s, late_mean_s
        How far behind its schedule a frame was taken by the socket; 0 without a schedule.
    stopped
        Ended early because that was asked for.
    """

    frames: int
    size_bytes: int
    seconds: float
    late_max_s: float
    late_mean_s: float
    stopped: bool


class Sender:
    """A bound PUSH socket that sends one series after the other. Use it as a context manager.

    Parameters
    ----------
    bind
        ZeroMQ endpoint; with a wildcard port, ``endpoint`` is the real one.
    version
        Protocol of the stream.
    detail
        How much the start message says.
    peer_timeout_s
        Longest wait for a receiver that is absent or takes nothing.
    stop
        Once set, the running series ends early; its end message is sent all the same.
    loses_end
        A detector whose end message gets lost.
    """

    def __init__(
        self,
        bind: str,
        version: StreamVersion = "v2",
        detail: HeaderDetail = "all",
        *,
        peer_timeout_s: float = 60.0,
        stop: threading.Event | None = None,
        loses_end: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._encoder = ENCODERS[version]
        self._detail = detail
        self._peer_timeout_s = peer_timeout_s
        self.stop = stop or threading.Event()
        self._loses_end = loses_end
        self._clock = clock or SystemClock()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.set_hwm(QUEUED_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.SNDTIMEO, round(1000 * LOOK_UP_S))
        self._socket.bind(bind)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; what is queued is delivered first, for five seconds at most."""
        self._socket.close()

    def send(
        self,
        start: SeriesStart,
        frames: Iterable[tuple[int, Encoded]],
        rate_hz: float = 0.0,
        progress: Progress | None = None,
    ) -> SendReport:
        """Send one series: start, frames, end.

        Parameters
        ----------
        start
            Sent as soon as a receiver is connected. It must know shape and type of the frames; unique id and date
            are added where they are missing.
        frames
            Number and encoded pixels, in the order in which they are sent; nothing of them is kept.
        rate_hz
            Frame k is due k/rate after the first; a late frame does not shift the others. 0 = as fast as it goes.

        Raises
        ------
        StreamError
            Nobody took a message for ``peer_timeout_s``.
        UnsupportedEncoding
            A frame's codec or type does not exist in this protocol.
        """
        start = _armed(start, self._clock)
        pace = _Pace(rate_hz, self._clock, self.stop, progress)
        if self._push(self._encoder.start(start, self._detail)):
            for number, encoded in frames:
                frame = _frame(start, number, encoded)
                if not pace.wait() or not self._push(self._encoder.image(start, frame)):
                    break
                pace.sent(frame)
            if not self._loses_end:
                self._push_end(self._encoder.end(SeriesEnd(start.series, start.unique_id)))
        return pace.report()

    def _push(self, parts: Parts) -> bool:
        """Hand over a message as soon as a receiver takes it; False if stopped before."""
        deadline_s = self._clock.monotonic_s() + self._peer_timeout_s
        while not self.stop.is_set():
            if self._offer(parts):
                return True
            if self._clock.monotonic_s() > deadline_s:
                raise StreamError(f"no receiver took anything at {self.endpoint} for {self._peer_timeout_s:g} s")
        return False

    def _push_end(self, parts: Parts) -> None:
        """The end is due also after a stop, but then its receiver may be gone for good."""
        if not self._push(parts):
            any(self._offer(parts) for _ in range(END_ATTEMPTS))

    def _offer(self, parts: Parts) -> bool:
        try:
            self._socket.send_multipart(parts, copy=False)
        except zmq.Again:
            return False
        return True


class _Pace:
    """When frames are due, how late they were, and who wants to know."""

    def __init__(self, rate_hz: float, clock: Clock, stop: threading.Event, progress: Progress | None) -> None:
        self._period_s = 1 / rate_hz if rate_hz else 0.0
        self._clock = clock
        self._stop = stop
        self._progress = progress
        self._begin_s = self._told_s = clock.monotonic_s()
        self._frames = self._size_bytes = 0
        self._late_max_s = self._late_sum_s = 0.0
        self._tell(0.0)

    def wait(self) -> bool:
        """Wait until the next frame is due; False if stopped."""
        now_s = self._clock.monotonic_s()
        if not self._frames:
            self._begin_s = now_s
        delay_s = self._begin_s + self._frames * self._period_s - now_s
        return not (self._stop.wait(delay_s) if delay_s > 0 else self._stop.is_set())

    def sent(self, frame: Frame) -> None:
        """Count a frame that the socket has taken."""
        now_s = self._clock.monotonic_s()
        late_s = now_s - self._begin_s - self._frames * self._period_s if self._period_s else 0.0
        self._frames += 1
        self._size_bytes += frame.size_bytes
        self._late_sum_s += late_s
        self._late_max_s = max(self._late_max_s, late_s)
        if now_s - self._told_s >= LOOK_UP_S:
            self._told_s = now_s
            self._tell(late_s)

    def report(self) -> SendReport:
        """The series is over."""
        self._tell(0.0)
        seconds = self._clock.monotonic_s() - self._begin_s
        late_mean_s = self._late_sum_s / max(self._frames, 1)
        return SendReport(self._frames, self._size_bytes, seconds, self._late_max_s, late_mean_s, self._stop.is_set())

    def _tell(self, late_s: float) -> None:
        if self._progress:
            self._progress(self._frames, late_s)


def _armed(start: SeriesStart, clock: Clock) -> SeriesStart:
    """The start with the unique id and the date that a detector gives it when it is armed."""
    date = datetime.fromtimestamp(clock.time_ns() / 1e9, UTC).isoformat(timespec="milliseconds")
    return replace(start, unique_id=start.unique_id or _ulid(clock), header={"arm_date": date, **start.header})


def _frame(start: SeriesStart, number: int, encoded: Encoded) -> Frame:
    if start.shape is None or start.dtype is None:
        raise ValueError("a series can be sent only if its start knows shape and type of the frames")
    return Frame(start.series, number, start.shape, start.dtype, *encoded, unique_id=start.unique_id)


def _ulid(clock: Clock) -> str:
    """A unique id as detectors make it: 10 characters of time in milliseconds, 16 of chance."""
    number = (clock.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
