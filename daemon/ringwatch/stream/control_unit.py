"""The control unit of a simulated detector: commands over HTTP in, a series that ends early out (SIMPLON API 1.8).

It answers what ringwatch asks of a real one, on loopback, and on request it has the faults that real ones have shown.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ringwatch.errors import StreamError
from ringwatch.stream.faults import Fault

_API = "/detector/api/1.8.0"
_DROPPED = "/stream/api/1.8.0/status/dropped"
_SLOW_S = 2.0
_END_S = 5.0


class ControlUnit:
    """Serves the commands that end a series.

    Parameters
    ----------
    stop
        Set to end the running series early.
    port
        On loopback; 0 takes any free one.
    faults
        What goes wrong.

    Attributes
    ----------
    commands
        Those that came, in order.
    dropped
        Images that it says it dropped.
    url
        Where it is, once `serving`.
    """

    def __init__(self, stop: Event, port: int = 0, faults: frozenset[Fault] = frozenset()) -> None:
        self._stop, self._port, self._faults = stop, port, faults
        self._state = "idle"
        self._seen_idle = Event()
        self.commands: list[str] = []
        self.dropped = 0
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer until the end of the block.

        Raises
        ------
        StreamError
            The port is taken.
        """
        try:
            listener = socket.create_server(("127.0.0.1", self._port))
        except OSError as error:
            raise StreamError(f"no commands can be taken on 127.0.0.1:{self._port}: {error.strerror}") from error
        server = uvicorn.Server(uvicorn.Config(self._app(), lifespan="off", ws="none", log_config=None))
        thread = Thread(target=server.run, args=([listener],), name="control-unit", daemon=True)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with listener:
            thread.start()
            try:
                yield
            finally:
                server.should_exit = True
                thread.join(_END_S)

    @contextmanager
    def acquiring(self) -> Iterator[None]:
        """The detector is busy inside the block."""
        self._state = "acquire"
        try:
            yield
        finally:
            self._state = "idle"

    def wait_until_asked(self, timeout_s: float) -> None:
        """Until somebody who gave a command has seen the detector idle; at once if nobody gave any."""
        if self.commands:
            self._seen_idle.wait(timeout_s)

    def _app(self) -> Starlette:
        commands = [
            Route(f"{_API}/command/{name}", partial(self._command, name), methods=["PUT"])
            for name in ("cancel", "disarm", "abort")
        ]
        values = [Route("/detector/api/version", self._version), Route(f"{_API}/status/state", self._status)]
        return Starlette(routes=[*commands, *values, Route(_DROPPED, self._counter)])

    async def _version(self, _: Request) -> Response:
        return JSONResponse({"value": "1.8.0"})

    async def _status(self, _: Request) -> Response:
        if self._state == "idle" and "disarm" in self.commands:
            self._seen_idle.set()
        return JSONResponse({"value": self._state})

    async def _counter(self, _: Request) -> Response:
        return JSONResponse({"value": self.dropped})

    def _command(self, name: str, _: Request) -> Response:
        """Obey, unless a fault prevents it. Runs in a worker thread: it may take its time."""
        self.commands.append(name)
        if "slow" in self._faults:
            time.sleep(_SLOW_S)
        if f"{name}-refused" in self._faults:
            return JSONResponse({"error": "refused"}, 400)
        if f"{name}-ignored" not in self._faults:
            self._stop.set()
        return JSONResponse({"sequence id": 1})
