"""EPICS publisher: decisions in, four read-only process variables out (Channel Access, caproto, a thread of its own).

PREFIXvalue and PREFIXtarget are those of the metric that decides; PREFIXaction is waiting (no series), continue, stop
or over; PREFIXsentence says the same to a person (a waveform of characters: caget -S).
"""

import asyncio
import logging
import math
import socket
from collections.abc import Mapping
from threading import Event, Thread
from typing import Any

import structlog

from ringwatch.errors import PublishError
from ringwatch.extras import extra
from ringwatch.messages import Decision, Result, SeriesEvent

LONGEST_SENTENCE_BYTES = 1000
_OPEN_S = 5.0
_WRITE_S = 1.0
_STOP_S = 0.5

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class EpicsPublisher:
    """Serves the newest decision as process variables.

    Parameters
    ----------
    prefix
        Of their names.
    interface
        Address of the network card; 0.0.0.0 for all.

    Raises
    ------
    ConfigError
        caproto is not installed.
    """

    name = "epics"

    def __init__(self, prefix: str, interface: str) -> None:
        self._caproto = extra("caproto", "epics", "[publish.epics]")
        self._server = extra("caproto.asyncio.server", "epics", "[publish.epics]")
        # Each write that is refused, and each beacon that nobody hears, is an error with a traceback there.
        logging.getLogger("caproto").setLevel(logging.CRITICAL)
        self._prefix, self._interface = prefix, interface
        self._channels: Mapping[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def open(self) -> None:
        """Serve.

        Raises
        ------
        PublishError
            It cannot be served there.
        """
        _try_address(self._interface)
        self._channels, self._error, is_up = self._fresh_channels(), None, Event()
        self._thread = Thread(target=self._serve, args=(is_up,), name="epics-server", daemon=True)
        self._thread.start()
        if not is_up.wait(_OPEN_S) or self._error is not None:
            raise PublishError(f"cannot serve process variables on {self._interface}: {self._error or 'no start'}")
        _log.info("process variables", names=[f"{self._prefix}{name}" for name in self._channels])

    def publish(self, result: Result) -> None:
        """Show a decision, and whether there is a series to decide on.

        Raises
        ------
        PublishError
            The server has ended.
        """
        match result:
            case Decision():
                value = math.nan if result.value is None else result.value
                self._write(value=value, target=result.target, sentence=result.sentence, action=result.action)
            case SeriesEvent(begins=True):
                self._write(value=math.nan, target=math.nan, sentence="", action="continue")
            case SeriesEvent(event="end" | "abandoned"):
                self._write(action="over")
            case _:
                pass

    def close(self) -> None:
        """End the server."""
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)
        if self._thread is not None:
            self._thread.join(_STOP_S)
        self._thread = self._loop = self._task = None

    def _fresh_channels(self) -> Mapping[str, Any]:
        caproto = self._caproto
        sentence = {"value": "", "max_length": LONGEST_SENTENCE_BYTES, "string_encoding": "utf-8"}
        return {
            "value": _read_only(caproto, caproto.ChannelDouble)(value=math.nan, precision=4),
            "target": _read_only(caproto, caproto.ChannelDouble)(value=math.nan, precision=4),
            "sentence": _read_only(caproto, caproto.ChannelChar)(**sentence),
            "action": _read_only(caproto, caproto.ChannelString)(value="waiting"),
        }

    def _serve(self, is_up: Event) -> None:
        try:
            asyncio.run(self._live(is_up))
        except Exception as error:  # the thread's edge: the outlet says it, and opens anew
            self._error = error
        finally:
            is_up.set()

    async def _live(self, is_up: Event) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        names = {f"{self._prefix}{name}": channel for name, channel in self._channels.items()}

        async def started(_: object) -> None:
            is_up.set()

        await self._server.Context(names, [self._interface]).run(log_pv_names=False, startup_hook=started)

    def _write(self, **values: float | str) -> None:
        """In the order given: who is woken by the last one finds the others new."""
        loop = self._loop
        if loop is None or self._thread is None or not self._thread.is_alive():
            raise PublishError("the server of process variables has ended")
        try:
            asyncio.run_coroutine_threadsafe(self._write_all(values), loop).result(_WRITE_S)
        except TimeoutError as error:
            raise PublishError("the server of process variables does not keep up") from error

    async def _write_all(self, values: Mapping[str, float | str]) -> None:
        for name, value in values.items():
            text = value.encode()[:LONGEST_SENTENCE_BYTES].decode(errors="ignore") if isinstance(value, str) else value
            await self._channels[name].write(text)


def _try_address(interface: str) -> None:
    """The library would try a hundred ports of it, and leave their sockets behind."""
    try:
        with socket.create_server((interface, 0)):
            pass
    except OSError as error:
        raise PublishError(f"cannot serve process variables on {interface}: {error.strerror}") from error


def _read_only(caproto: Any, kind: type[Any]) -> type[Any]:
    """A channel that others may read only."""

    def check_access(self: Any, hostname: str, username: str) -> Any:
        return caproto.AccessRights.READ

    return type(f"ReadOnly{kind.__name__}", (kind,), {"check_access": check_access})
