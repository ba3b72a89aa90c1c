"""A daemon and a way to read its configuration again in, an exit code out: the process from its start to its end.

SIGTERM and SIGINT end it. SIGHUP reads the configuration again: with a mistake in it nothing changes; else another
daemon is made ready beside the running one, and takes its place as soon as no series runs.
"""

import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

import structlog

from ringwatch.config import Config
from ringwatch.errors import ConfigError
from ringwatch.service.daemon import Daemon
from ringwatch.service.notify import notify

BEAT_S = 1.0
LOOK_S = 0.1
"""So soon after the end of a series a new configuration takes effect."""

log = structlog.get_logger(__name__)


class Life:
    """One daemon after another.

    Parameters
    ----------
    daemon
        The first one.
    load
        Reads the configuration again, raises ConfigError; None where SIGHUP means the end, as that of a terminal.
    """

    def __init__(self, daemon: Daemon, load: Callable[[], Config] | None = None) -> None:
        self._daemon, self._load = daemon, load
        self._is_over = self._is_asked = False
        self._waiting: Config | None = None
        self._successor: _Successor | None = None

    def run(self) -> int:
        """Prepare, start, live until a signal comes or a thread dies, stop; the exit code."""
        with self._signals():
            self._daemon.prepare()
            try:
                self._daemon.start()
                notify("READY=1")
                while not self._is_over and not self._daemon.pause(self._beat_s):
                    self._turn()
            finally:
                notify("STOPPING=1")
                self._daemon.stop()
        return 1 if self._daemon.error else 0

    @property
    def hangs(self) -> bool:
        """Whether the process cannot end by itself, because a driver holds one of its threads."""
        return self._daemon.hangs

    def end(self) -> None:
        """Ask `run` to return; from any thread, and from a signal's handler."""
        self._is_over = True
        self._daemon.request_stop()

    def reload(self) -> None:
        """Ask for the configuration to be read again; from any thread, and from a signal's handler."""
        self._is_asked = True
        self._daemon.wake()

    @property
    def _beat_s(self) -> float:
        return BEAT_S if self._waiting is None and self._successor is None else LOOK_S

    def _turn(self) -> None:
        if self._is_asked:
            self._is_asked = False
            self._read()
        if self._waiting is not None and self._successor is None and self._daemon.is_idle:
            self._successor, self._waiting = _Successor(self._waiting), None
        if self._successor is not None and self._successor.is_ready and self._daemon.is_idle:
            self._change(self._successor)

    def _read(self) -> None:
        """Read the configuration; tell every mistake, or let it wait until no series runs."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._waiting = self._load() if self._load is not None else None
        except ConfigError as error:
            self._refuse(error.problems)
            return
        self._successor = None  # of a configuration that is older still
        if not self._daemon.is_idle:
            log.info("the new configuration takes effect when the running series is over")
            notify("READY=1", "STATUS=The new configuration takes effect when the running series is over.")

    def _change(self, successor: "_Successor") -> None:
        """Put the successor in the place of the running daemon: sockets are closed and bound again."""
        self._successor = None
        if successor.daemon is None:
            self._refuse([str(successor.error)])
            return
        self._daemon.stop()
        if self._daemon.error is not None:  # died at the very end: whoever started the process is to know
            self._is_over = True
            return
        self._daemon = successor.daemon
        gc.collect()  # the old one's memory of the device
        self._daemon.start()
        log.info("configuration reloaded")
        notify("READY=1", "STATUS=The configuration was reloaded.")

    @staticmethod
    def _refuse(problems: "tuple[str, ...] | list[str]") -> None:
        for problem in problems:
            log.error("configuration not reloaded", problem=problem)
        notify("READY=1", f"STATUS=The configuration was not reloaded, see the log: {problems[0]}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        handlers: dict[int, Callable[[], None]] = {signal.SIGINT: self.end, signal.SIGTERM: self.end}
        handlers[signal.SIGHUP] = self.end if self._load is None else self.reload

        def handle(number: int, _: FrameType | None) -> None:
            handlers[number]()  # no more than this: logging could wait for a lock that the interrupted code holds

        before = {number: signal.signal(number, handle) for number in handlers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Successor:
    """A daemon that is made ready in a thread of its own, so that the running one's watchdog is fed meanwhile."""

    def __init__(self, config: Config) -> None:
        self.daemon: Daemon | None = None
        self.error: Exception | None = None
        self._config = config
        self._thread = Thread(target=self._run, name="successor", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether there is a daemon, or an error."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            daemon = Daemon(self._config)
            daemon.prepare()
        except Exception as error:  # the thread's edge: it is told where the running daemon is
            self.error = error
        else:
            self.daemon = daemon
