"""A detector's socket in, the clean stream out into the queue. One thread that never stops draining the socket."""

import threading
from collections.abc import Callable

import structlog
import zmq

from ringwatch.clock import Clock
from ringwatch.errors import MalformedMessage, StreamError, UnsupportedEncoding
from ringwatch.messages import StreamMessage
from ringwatch.stream.decode import decode
from ringwatch.stream.queue import FrameQueue
from ringwatch.stream.series import SeriesTable

RECEIVE_HWM = 100
"""Messages that ZeroMQ may hold for us: what waits is to wait in the queue, which is bounded in bytes and watched."""
MAX_PART_BYTES = 1 << 30
"""A header of 16 megapixels with masks and flats of two thresholds has 0.3 GB."""
POLL_S = 0.05
LOG_EVERY_S = 1.0

_log = structlog.get_logger(__name__)


class Receiver:
    """The thread between a detector and the queue.

    Parameters
    ----------
    endpoint
        Where the detector pushes, such as tcp://host:31001; connected to, v1 or v2.
    table, queue
        Where messages go through, and where they end.
    clock
        Time of arrival.
    channel
        Whose pixels are taken from a v2 message.
    on_death
        Called in the thread if it dies of an error, which is then in ``error``.
    """

    def __init__(
        self,
        endpoint: str,
        table: SeriesTable,
        queue: FrameQueue,
        clock: Clock,
        channel: str = "threshold_1",
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self.error: Exception | None = None
        self._endpoint = endpoint
        self._table = table
        self._queue = queue
        self._clock = clock
        self._channel = channel
        self._on_death = on_death
        self._stopping = threading.Event()
        self._complaints = _Complaints()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Connect and start the thread; raises StreamError where the endpoint is none."""
        context = zmq.Context()
        socket = context.socket(zmq.PULL)
        try:
            _connect(socket, self._endpoint)
        except zmq.ZMQError as error:
            context.destroy(linger=0)
            raise StreamError(f"cannot connect to {self._endpoint}: {error}") from error
        self._thread = threading.Thread(target=self._run, args=(context, socket), name="receiver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end: it closes the open series, then the queue."""
        self._stopping.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, context: "zmq.Context[zmq.Socket[bytes]]", socket: "zmq.Socket[bytes]") -> None:
        try:
            while not self._stopping.is_set():
                self._turn(socket)
            self._hand_on(self._table.close("shutdown"))
        except Exception as error:
            self.error = error
            _log.exception("receiver died")
            self._on_death()
        finally:
            self._queue.close()
            context.destroy(linger=0)

    def _turn(self, socket: "zmq.Socket[bytes]") -> None:
        if not self._queue.wait_for_room(POLL_S):
            return  # No tick: what waits in the socket is no silence of the detector.
        if socket.poll(int(1000 * POLL_S)):
            self._take([part.buffer for part in socket.recv_multipart(copy=False)])
        self._hand_on(self._table.tick(self._clock.monotonic_s()))

    def _take(self, parts: list[memoryview]) -> None:
        """Decode one message. The views keep ZeroMQ's memory alive for as long as a frame refers to it."""
        now_s = self._clock.monotonic_s()
        try:
            message = decode(parts, now_s, self._channel)
        except MalformedMessage as error:
            self._table.malformed(error.reason)
            self._complaints.say(error.reason, str(error), now_s)
        except UnsupportedEncoding as error:
            self._table.malformed("unsupported")
            self._complaints.say("unsupported", str(error), now_s)
        else:
            if message is not None:
                self._hand_on(self._table.feed(message, now_s))

    def _hand_on(self, messages: list[StreamMessage]) -> None:
        for message in messages:
            for dropped in self._queue.put(message):
                self._table.skipped(dropped)


class _Complaints:
    """A log that a flood of bad messages cannot flood: one line a second for each reason, with the number unsaid."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, reason: str, detail: str, now_s: float) -> None:
        if now_s - self._last_s.get(reason, -LOG_EVERY_S) < LOG_EVERY_S:
            self._unsaid[reason] = self._unsaid.get(reason, 0) + 1
            return
        self._last_s[reason] = now_s
        _log.warning("message not understood", reason=reason, detail=detail, unsaid=self._unsaid.pop(reason, 0))


def _connect(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PART_BYTES)
    socket.connect(endpoint)
