"""The web server: results in, the page and its API out. Starlette on uvicorn, in a thread of its own."""

import socket
from asyncio import TimerHandle, Transport
from collections.abc import Callable, Sequence
from threading import Thread

import h11
import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ringwatch.clock import Clock
from ringwatch.errors import PublishError
from ringwatch.messages import Result, SmallImage
from ringwatch.publish.api import Api
from ringwatch.publish.board import Board
from ringwatch.publish.guard import Guard
from ringwatch.publish.orders import Orders
from ringwatch.publish.outlet import OutletFacts
from ringwatch.publish.views import Views

MAX_CONNECTIONS = 200
"""More are told to come later."""
MAX_SOCKETS = 300
"""And more than these are not even told that: the daemon needs its file descriptors for files."""
MAX_HEAD_BYTES = 1 << 15
REQUEST_S = 10.0
"""So long may a request take to arrive, from the connection (or the answer before) to the last byte of its body."""
_STOP_S = 2.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class WebPublisher:
    """Serves what is known now to browsers and scripts.

    Parameters
    ----------
    bind
        ``host:port``; port 0 takes any free one.
    clock
        Tells the age of the data.
    outlets
        How all publishers are doing, for /healthz and /metrics.
    orders
        What may be asked for; by default nothing.
    waits_s
        How long frames wait on purpose: that is no lag.

    Attributes
    ----------
    url
        Where the page really is, once open.
    """

    name = "web"

    def __init__(
        self,
        bind: str,
        clock: Clock,
        outlets: Callable[[], Sequence[OutletFacts]],
        orders: Orders | None = None,
        waits_s: float = 0.0,
    ) -> None:
        self._bind = bind
        self._board = Board(clock)
        self._views = Views(self._board, clock)
        self._api = Api(self._board, outlets, self._ending, orders or Orders({}, None), self._views, waits_s)
        self._server: uvicorn.Server | None = None
        self._thread: Thread | None = None
        self.url = ""

    def open(self) -> None:
        """Listen and serve.

        Raises
        ------
        PublishError
            The address is taken or makes no sense.
        """
        listener, host = _listening(self._bind)
        port = listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = uvicorn.Server(_config(Guard(Starlette(routes=self._api.routes()), host)))
        self._thread = Thread(target=_serve, args=(self._server, listener), name="web-server", daemon=True)
        self._thread.start()
        _log.info(f"page: {self.url} ({_seen_from(host, port)})")

    def publish(self, result: Result) -> None:
        """Show a result.

        Raises
        ------
        PublishError
            The server has ended.
        """
        if self._thread is None or not self._thread.is_alive():
            raise PublishError("the web server has ended")
        self._board.update(result)

    @property
    def is_watching(self) -> bool:
        """Whether somebody looks at the summed image now."""
        return self._views.is_watching

    def show(self, image: SmallImage) -> None:
        """Keep a summed image for those who look; from any thread, never waits."""
        self._views.show(image)

    def close(self) -> None:
        """End all connections and free the port."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_S)
        self._server = self._thread = None

    def _ending(self) -> bool:
        return self._server is None or self._server.should_exit


class _Punctual(H11Protocol):
    """Ends connections whose request is late: else some hundred idle ones would keep everybody else out."""

    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as there
        """Somebody has come."""
        super().connection_made(transport)
        if len(self.connections) > MAX_SOCKETS:
            transport.abort()
        self._wind_up()

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        self._wind_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody has gone."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _wind_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(REQUEST_S, self._end_if_late)

    def _end_if_late(self) -> None:
        if self.conn.their_state in {h11.IDLE, h11.SEND_BODY}:
            self.transport.close()


def _seen_from(host: str, port: int) -> str:
    """Who can open the page, and how others get to it."""
    if host not in {"127.0.0.1", "::1", "localhost"}:
        return "every machine that reaches this one"
    tunnel = f"ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}"
    return f"this machine only; from the control room: {tunnel}, or set web.bind"


def _config(app: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="error",  # what strangers send wrong is none of ours
        access_log=False,
        server_header=False,
        http=_Punctual,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )


def _listening(bind: str) -> tuple[socket.socket, str]:
    try:
        host, port = _address(bind)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family), host
    except (OSError, ValueError) as error:
        raise PublishError(f"cannot serve the page on {bind}: {error}") from error


def _address(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    if not (port.isdecimal() and int(port) < 65536):
        raise ValueError("it must be host:port")
    return host.strip("[]"), int(port)


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    with listener:
        server.run(sockets=[listener])
