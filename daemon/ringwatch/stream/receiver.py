"""A detector's socket in, the clean stream out into the queue. One thread that never stops draining the socket."""

from collections.abc import Callable
from typing import Literal

import zmq

from ringwatch.clock import Clock
from ringwatch.errors import MalformedMessage, StreamError, UnsupportedEncoding
from ringwatch.stream.decode import decode
from ringwatch.stream.feed import Complaints, Feed
from ringwatch.stream.queue import FrameQueue
from ringwatch.stream.series import SeriesTable

Kind = Literal["pull", "sub"]
"""What takes from a PUSH socket, and what from a PUB socket."""

RECEIVE_HWM = 100
"""Messages that ZeroMQ may hold for us: what waits is to wait in the queue, which is bounded in bytes and watched."""
MAX_PART_BYTES = 1 << 30
"""A header of 16 megapixels with masks and flats of two thresholds has 0.3 GB."""
POLL_S = 0.05


class Receiver(Feed):
    """The thread between a detector and the queue.

    Parameters
    ----------
    endpoint
        Where the detector pushes or publishes, such as tcp://host:31001; connected to.
    table, queue
        Where messages go through, and where they end.
    clock
        Time of arrival.
    channel
        Whose pixels are taken, where a message has several.
    kind
        Of the socket.
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
        kind: Kind = "pull",
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("receiver", table, queue, clock, on_death)
        self._endpoint, self._channel, self._kind = endpoint, channel, kind
        self._complaints = Complaints()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None

    def _open(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL if self._kind == "pull" else zmq.SUB)
        try:
            _connect(self._socket, self._endpoint)
        except zmq.ZMQError as error:
            self._close()
            raise StreamError(f"cannot connect to {self._endpoint}: {error}") from error

    def _close(self) -> None:
        if self._context is not None:
            self._context.destroy(linger=0)

    def _turn(self) -> None:
        if self._socket is None or not self._queue.wait_for_room(POLL_S):
            return  # No tick: what waits in the socket is no silence of the detector.
        if self._socket.poll(int(1000 * POLL_S)):
            self._take([part.buffer for part in self._socket.recv_multipart(copy=False)])
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


def _connect(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PART_BYTES)
    if socket.type == zmq.SUB:
        socket.subscribe(b"")
    socket.connect(endpoint)
