"""What all sources of frames have in common: one thread that hands the clean stream on into the queue."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import structlog

from ringwatch.clock import Clock
from ringwatch.intervals import IntervalSet
from ringwatch.messages import SeriesStart, StreamMessage
from ringwatch.stream.queue import FrameQueue
from ringwatch.stream.series import SeriesTable

LOG_EVERY_S = 1.0

_log = structlog.get_logger(__name__)


class Feed(ABC):
    """A thread that makes turns until it is stopped; then it closes the open series, and the queue.

    Parameters
    ----------
    name
        Of the thread.
    table, queue
        Where messages go through, and where they end.
    clock
        Time of arrival.
    on_death
        Called in the thread if it dies of an error, which is then in ``error``.
    """

    def __init__(
        self, name: str, table: SeriesTable, queue: FrameQueue, clock: Clock, on_death: Callable[[], None]
    ) -> None:
        self.error: Exception | None = None
        self._name, self._table, self._queue, self._clock, self._on_death = name, table, queue, clock, on_death
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def resume(self, start: SeriesStart, settled: IntervalSet) -> None:  # noqa: B027 - most sources send what they send
        """Before `start`: a series goes on in which the daemon died, whose frames of these numbers are not wanted."""

    def start(self) -> None:
        """Open the source and start the thread; raises StreamError where there is no such source."""
        self._open()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end: it closes the open series, then the queue."""
        self._stopping.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    @abstractmethod
    def _open(self) -> None:
        """Connect; in the thread that calls `start`."""

    @abstractmethod
    def _turn(self) -> None:
        """Take what there is, waiting a moment at most."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the source."""

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
            self._hand_on(self._table.close("shutdown"))
        except Exception as error:
            self.error = error
            _log.exception("source died", source=self._name)
            self._on_death()
        finally:
            self._queue.close()
            self._close()

    def _hand_on(self, messages: Iterable[StreamMessage]) -> None:
        for message in messages:
            for dropped in self._queue.put(message):
                self._table.skipped(dropped)


class Complaints:
    """A log that a flood of bad messages cannot flood: one line a second for each reason, with the number unsaid."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, reason: str, detail: str, now_s: float) -> None:
        """Log one bad message, or remember that it was not logged."""
        if now_s - self._last_s.get(reason, -LOG_EVERY_S) < LOG_EVERY_S:
            self._unsaid[reason] = self._unsaid.get(reason, 0) + 1
            return
        self._last_s[reason] = now_s
        _log.warning("message not understood", reason=reason, detail=detail, unsaid=self._unsaid.pop(reason, 0))
