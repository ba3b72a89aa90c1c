"""A detector's series as an order sees it, and everything that was reported about a stop."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ringwatch.control.order import Order
from ringwatch.messages import Ongoing, Origin, StopReport

PATIENCE_S = 30.0
ORIGIN = Origin(17, "s17", "LaB6", 1, "d1ce57")


class Stream:
    """What the detector is sending."""

    def __init__(self) -> None:
        self.now: Ongoing | None = Ongoing("s17", 0)

    def __call__(self) -> Ongoing | None:
        """A frame comes each time somebody looks."""
        if self.now is not None:
            self.now = Ongoing(self.now.unique_id, self.now.received + 1)
        return self.now

    def end(self) -> None:
        self.now = None

    def next_series(self) -> None:
        self.now = Ongoing("s18", 0)


class Reports:
    """Those of a stopper, in order."""

    def __init__(self) -> None:
        self.all: list[StopReport] = []
        self._changed = threading.Condition()

    def __call__(self, report: StopReport) -> None:
        with self._changed:
            self.all.append(report)
            self._changed.notify_all()

    def wait_for(self, *states: str) -> StopReport:
        """Until one of these states has come, as the last one."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.all and self.all[-1].state in states, PATIENCE_S), self.all
            return self.all[-1]


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def order(stream: Stream) -> Order:
    facts = {"metric": "spottiness_rings", "value": 0.019, "high": float("nan"), "target": 0.02}
    return Order(ORIGIN, 232, 'Good enough: "1.9 %".', stream, facts, 0.01)


@pytest.fixture
def steps() -> list[str]:
    return []


class Still(Stream):
    """The same, but no frame comes any more, and no end either."""

    def __call__(self) -> Ongoing | None:
        return self.now


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that may answer what it likes: each connection is given to ``answer``; its address as a URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, answer), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _accept(listener: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                answer(connection)
            except OSError:
                continue  # the other side had enough


def request(connection: socket.socket) -> bytes:
    """Head and body of one request."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            raise OSError("gone")
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def plain(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    """An answer."""
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
