"""Runs one publisher in its own thread: results in, whatever the publisher makes of them out, failures kept inside."""

import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import Protocol

import structlog

from ringwatch.errors import PublishError
from ringwatch.messages import Result
from ringwatch.publish.mailbox import Mailbox

MAX_WAITING_BYTES = 256 << 20
"""Holds the final result of a 16-megapixel detector (192 MiB) and minutes of rows."""
ATTEMPTS = 2
"""The result may be sound and the connection not: it is tried once more after re-opening."""
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
DRAIN_S = 0.9
STUCK_S = 30.0
"""The largest file is written in less; who takes longer for one result waits for something that does not come."""
_POLL_S = 0.5


class Publisher(Protocol):
    """One way out to the world. Every call comes from the same thread; an exception closes and re-opens it."""

    @property
    def name(self) -> str:
        """Short name for logs, metrics and health."""
        ...

    def open(self) -> None:
        """Get ready to publish."""
        ...

    def publish(self, result: Result) -> None:
        """Pass on one result, or ignore a type that does not concern this publisher."""
        ...

    def close(self) -> None:
        """Let go of everything; also called after a failed `open`."""
        ...


@dataclass(frozen=True, slots=True)
class OutletFacts:
    """How one publisher is doing; ``error`` is empty while it is healthy.

    ``dropped`` counts results that never left, ``failures`` the attempts that raised.
    """

    name: str
    healthy: bool
    error: str
    failures: int
    dropped: int


class Outlet:
    """The thread of one publisher, with the mailbox in front of it.

    Parameters
    ----------
    publisher
        What to run.
    max_waiting_bytes
        Bound of the mailbox.
    first_pause_s
        Pause before the first re-opening; it doubles up to 30 s.
    """

    def __init__(
        self, publisher: Publisher, max_waiting_bytes: int = MAX_WAITING_BYTES, first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        self._publisher = publisher
        self._mailbox = Mailbox(max_waiting_bytes)
        self._first_pause_s = first_pause_s
        self._stopping = Event()
        self._deadline_s = float("inf")
        self._open = False
        self._streak = 0
        self._error = ""
        self._taken_s: float | None = None
        self._failures = 0
        self._undelivered = 0
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__).bind(publisher=publisher.name)
        self._thread = Thread(target=self._run, name=f"publish-{publisher.name}", daemon=True)

    def start(self) -> None:
        """Open the publisher and begin to publish, in the outlet's thread."""
        self._thread.start()

    def put(self, result: Result) -> None:
        """Hand over a result; never waits, never fails."""
        self._mailbox.put(result)

    def leave(self, timeout_s: float = DRAIN_S) -> None:
        """Begin to stop: publish what waits, for at most ``timeout_s``, then close."""
        self._deadline_s = time.monotonic() + timeout_s
        self._mailbox.close()
        self._stopping.set()

    def join(self) -> bool:
        """Wait until it has left, or its time is up; True if the thread has ended."""
        self._thread.join(max(0.0, self._deadline_s - time.monotonic()))
        if self._thread.is_alive():
            self._log.warning("publisher did not stop in time")
        return not self._thread.is_alive()

    @property
    def is_idle(self) -> bool:
        """Whether all that was put has left, or been dropped."""
        return self._mailbox.is_idle

    @property
    def facts(self) -> OutletFacts:
        """How it is doing now, from any thread."""
        dropped = self._mailbox.dropped + self._undelivered
        error = self._error or self._stuck
        return OutletFacts(self._publisher.name, not error, error, self._failures, dropped)

    @property
    def _stuck(self) -> str:
        """What is wrong where neither success nor failure comes: a disk or a network that does not answer."""
        since_s = self._taken_s
        busy_s = 0.0 if since_s is None else time.monotonic() - since_s
        return "" if busy_s < STUCK_S else f"it has not come back for {busy_s:.0f} s"

    def _run(self) -> None:
        self._attempt(None)
        while not self._stopping.is_set():
            self._deliver(_POLL_S)
        self._deliver(0)
        self._close()

    def _deliver(self, timeout_s: float) -> None:
        for result in self._mailbox.get(timeout_s):
            self._taken_s = time.monotonic()
            if not any(self._attempt(result) for _ in range(ATTEMPTS)):
                self._undelivered += 1
        self._taken_s = None

    def _attempt(self, result: Result | None) -> bool:
        """Open if necessary, and publish; False if that failed, after a pause."""
        if time.monotonic() > self._deadline_s:
            return False
        try:
            if not self._open:
                self._publisher.open()
                self._open = True
            if result is not None:
                self._publisher.publish(result)
        except Exception as error:  # the thread's edge: whatever a publisher does, the others go on
            self._failed(error)
            return False
        self._succeeded()
        return True

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._streak += 1
        self._error = f"{type(error).__name__}: {error}"
        if self._streak == 1:
            foreign = not isinstance(error, PublishError)
            self._log.warning("publisher failed, will be re-opened", error=self._error, exc_info=foreign)
        self._close()
        self._stopping.wait(min(LONGEST_PAUSE_S, self._first_pause_s * 2.0 ** min(self._streak - 1, 16)))

    def _succeeded(self) -> None:
        if self._streak:
            self._log.info("publisher works again", failures=self._streak)
        self._streak = 0
        self._error = ""

    def _close(self) -> None:
        self._open = False
        try:
            self._publisher.close()
        except Exception as error:  # the thread's edge: what cannot be closed must not stop the drain
            self._log.warning("publisher did not close", error=f"{type(error).__name__}: {error}", exc_info=True)
