"""ZeroMQ publisher: results in, multipart messages (topic, MessagePack map) out; a newcomer gets the last ones at once.

The last messages go to the newcomer alone, before its subscription takes effect: with ZMQ_XPUB_MANUAL it is ours to
enter, and with ZMQ_INVERT_MATCHING a message goes to those who have *not* subscribed to it. Others who have not filter
it out on arrival, as every SUB socket does. Two that come in the same instant may get them twice: ``seq`` tells.
(ZMQ_XPUB_MANUAL_LAST_VALUE replays one message a subscription, but a subscriber to everything needs one of each topic.)
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from threading import Event, Thread
from typing import Any

import structlog
import zmq

from ringwatch import wire
from ringwatch.curve import ZAP, ServerKeys
from ringwatch.errors import PublishError
from ringwatch.messages import ForFiles, FrameRows, Profile, Result
from ringwatch.publish.payload import FRAME_PROFILES, Published, frame_profiles, payload, topic

QUEUED_MESSAGES = 1000
"""For each subscriber; what a stuck one does not take beyond that is lost to it, and to it alone."""
MAX_SUBSCRIPTION_BYTES = 1024
"""ZeroMQ holds the messages of its own handshake to it, too: those of CURVE have some 300 bytes."""
_LINGER_MS = 200
_OPTIONS = {
    zmq.XPUB_MANUAL: 1,
    zmq.SNDHWM: QUEUED_MESSAGES,
    zmq.MAXMSGSIZE: MAX_SUBSCRIPTION_BYTES,
    zmq.LINGER: _LINGER_MS,
}
_HAND_OVER_MS = 300
_INBOX = "inproc://results"
_STOP = b""
_JOIN_S = 0.3

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ZeroMQPublisher:
    """Publishes on an XPUB socket. A thread of its own waits for results and subscribers at the same time.

    Parameters
    ----------
    bind
        ZeroMQ endpoint; ``tcp://127.0.0.1:*`` takes any free port.
    keys
        Results go only to those who have the keys; None publishes for everybody who reaches the endpoint.

    Attributes
    ----------
    endpoint
        Where it really publishes, once open.
    """

    name = "zeromq"

    def __init__(self, bind: str, keys: ServerKeys | None = None) -> None:
        self._bind, self._keys = bind, keys
        self._seq: Counter[str] = Counter()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._outbox: zmq.Socket[bytes] | None = None
        self._thread: Thread | None = None
        self._profiles_wanted = Event()
        self.endpoint = ""

    def open(self) -> None:
        """Bind and start.

        Raises
        ------
        PublishError
            The endpoint is taken or makes no sense.
        """
        self._context = zmq.Context()
        world = _bound(self._context, self._bind, self._keys)
        self.endpoint = world.getsockopt_string(zmq.LAST_ENDPOINT)
        inbox = self._context.socket(zmq.PAIR)
        inbox.bind(_INBOX)
        self._outbox = self._context.socket(zmq.PAIR)
        self._outbox.setsockopt(zmq.SNDTIMEO, _HAND_OVER_MS)
        self._outbox.connect(_INBOX)
        self._profiles_wanted.clear()
        arguments = (inbox, world, self._asking(), self._profiles_wanted)
        self._thread = Thread(target=_forward, args=arguments, name="zeromq-forward", daemon=True)
        self._thread.start()
        _log.info("results", endpoint=self.endpoint, encrypted=self._keys is not None)

    def publish(self, result: Result) -> None:
        """Send a result to all who subscribed to its topic; profiles of frames only if somebody named that topic.

        Raises
        ------
        PublishError
            The forwarding thread has ended or does not keep up.
        """
        if isinstance(result, ForFiles):
            return
        if self._outbox is None or self._thread is None or not self._thread.is_alive():
            raise PublishError("the publishing socket is closed")
        name = topic(result)
        self._seq[name] += 1
        self._send(self._outbox, _replay_key(result), name, payload(result, self._seq[name]))
        if isinstance(result, FrameRows) and result.profiles and self._profiles_wanted.is_set():
            self._seq[FRAME_PROFILES] += 1
            self._send(self._outbox, b"", FRAME_PROFILES, frame_profiles(result, self._seq[FRAME_PROFILES]))

    def _asking(self) -> "tuple[zmq.Socket[bytes], ServerKeys] | None":
        """Where ZeroMQ asks who may come in, and who may; None where it need not."""
        if self._context is None or self._keys is None or self._keys.clients is None:
            return None
        asking = self._context.socket(zmq.REP)
        asking.bind(ZAP)
        return asking, self._keys

    @staticmethod
    def _send(outbox: "zmq.Socket[bytes]", key: bytes, name: str, message: Mapping[str, Any]) -> None:
        try:
            outbox.send_multipart([key, name.encode(), wire.encode(message)])
        except zmq.Again as error:
            raise PublishError("the publishing socket does not keep up") from error

    def close(self) -> None:
        """Send what is queued, for at most 0.2 s, and free the port."""
        if self._outbox is not None:
            with suppress(zmq.Again):
                self._outbox.send(_STOP)
            self._outbox.close(linger=_LINGER_MS)
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        if self._context is not None:
            self._context.term()
        self._context = self._outbox = self._thread = None


def _bound(context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, keys: ServerKeys | None) -> "zmq.Socket[bytes]":
    world = context.socket(zmq.XPUB)
    try:
        if keys is not None:
            keys.protect(world)
        for option, value in _OPTIONS.items():
            world.setsockopt(option, value)
        world.bind(endpoint)
    except zmq.ZMQError as error:
        world.close()
        raise PublishError(f"cannot publish on {endpoint}: {error}") from error
    return world


def _replay_key(result: Published) -> bytes:
    """Newcomers get the last message of each key; rows of frames have none."""
    if isinstance(result, FrameRows):
        return b""
    if isinstance(result, Profile):
        return f"profile {result.kind} {result.source}".encode()
    return topic(result).encode()


def _forward(
    inbox: "zmq.Socket[bytes]",
    world: "zmq.Socket[bytes]",
    door: "tuple[zmq.Socket[bytes], ServerKeys] | None",
    profiles_wanted: Event,
) -> None:
    """Thread: results to the subscribers, the last ones to newcomers, until the stop message or the context's end."""
    last: dict[bytes, list[bytes]] = {}
    named: Counter[bytes] = Counter()
    poller = zmq.Poller()
    asking, keys = door or (None, None)
    with inbox, world, asking or nullcontext(), suppress(zmq.ContextTerminated):
        for socket in filter(None, (inbox, world, asking)):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if keys is not None and asking is not None and asking in ready:
                keys.answer(asking)
            if world in ready:
                request = world.recv()
                _subscription(world, request, last.values())
                _count(named, request)
                profiles_wanted.set() if named else profiles_wanted.clear()
            if inbox in ready:
                key, *message = inbox.recv_multipart()
                if not message:
                    return
                if key:
                    last.pop(key, None)
                    last[key] = message
                world.send_multipart(message, zmq.NOBLOCK)


def _count(named: Counter[bytes], request: bytes) -> None:
    """Keep count of who subscribes to the profiles of frames by name; a subscription to everything is none."""
    prefix = request[1:]
    if len(prefix) > len("frame") and FRAME_PROFILES.encode().startswith(prefix):
        named[prefix] += 1 if request[:1] == b"\1" else -1
        if named[prefix] <= 0:
            del named[prefix]


def _subscription(world: "zmq.Socket[bytes]", request: bytes, last: Iterable[Sequence[bytes]]) -> None:
    """Enter or remove the subscription that was just received; both act on its sender only."""
    prefix = request[1:]
    if request[:1] == b"\0":
        world.setsockopt(zmq.UNSUBSCRIBE, prefix)
    elif request[:1] == b"\1":
        world.setsockopt(zmq.INVERT_MATCHING, 1)
        for message in last:
            if message[0].startswith(prefix):
                world.send_multipart(message, zmq.NOBLOCK)
        world.setsockopt(zmq.INVERT_MATCHING, 0)
        world.setsockopt(zmq.SUBSCRIBE, prefix)
