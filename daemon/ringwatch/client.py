"""For scripts: what a running daemon publishes, as plain dictionaries with numpy arrays inside.

Plot the spottiness of every frame live, with nothing but matplotlib beside it:

    import matplotlib.pyplot as plt
    from ringwatch.client import subscribe

    line, = plt.plot([], [], ".")
    plt.xlabel("frame"), plt.ylabel("spottiness")
    for message in subscribe("tcp://127.0.0.1:5560", topics=("frames",)):
        line.set_data([*line.get_xdata(), *message["frame"]], [*line.get_ydata(), *message["spottiness"]])
        line.axes.relim(), line.axes.autoscale_view()
        plt.pause(0.01)
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.request import urlopen

import zmq

from ringwatch import wire
from ringwatch.errors import MalformedMessage

ENDPOINT = "tcp://127.0.0.1:5560"
URL = "http://127.0.0.1:8080"
_MAX_ANSWER_BYTES = 1 << 20


def subscribe(
    endpoint: str = ENDPOINT, topics: str | Sequence[str] = (), timeout_s: float | None = None
) -> Iterator[dict[str, Any]]:
    """Messages of a daemon as they are published, the last one of each topic first.

    The connection is made when the first message is asked for, and again by itself whenever it is lost.

    Parameters
    ----------
    endpoint
        The daemon's ``publish.zmq.bind``.
    topics
        ``series``, ``frames``, ``snapshot``, ``profile``, ``decision``, ``status``; one or several; none means all. And
        ``frame_profiles``, which come only if they are named.
    timeout_s
        Longest silence; None waits for ever. The status comes every 2 s.

    Yields
    ------
    dict
        One message, its fields as in docs/messages.md; ``type`` is the topic.

    Raises
    ------
    TimeoutError
        Nothing came for ``timeout_s``.
    MalformedMessage
        What publishes there is no ringwatch.
    """
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_PAYLOAD_BYTES)
        for topic in [topics] if isinstance(topics, str) else topics or [""]:
            socket.subscribe(topic)
        socket.connect(endpoint)
        while True:
            if not socket.poll(None if timeout_s is None else round(1000 * timeout_s)):
                raise TimeoutError(f"nothing from {endpoint} for {timeout_s:g} s: is the daemon running?")
            yield _decoded(socket.recv_multipart())


def latest(url: str = URL, timeout_s: float = 2.0) -> dict[str, Any]:
    """What the daemon's page shows now, as one flat dictionary (``GET /api/latest``).

    Parameters
    ----------
    url
        The daemon's ``web.bind`` with ``http://`` before it.
    timeout_s
        Longest time to wait for the answer.

    Raises
    ------
    OSError
        Nobody answers there.
    ValueError
        The answer is not ringwatch's, or ``url`` is not http.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is no http address")
    with urlopen(f"{url.rstrip('/')}/api/latest", timeout=timeout_s) as answer:  # noqa: S310 - checked above
        facts = json.loads(answer.read(_MAX_ANSWER_BYTES))
    if not isinstance(facts, dict):
        raise ValueError(f"{url} answers, but it is no ringwatch")  # noqa: TRY004 - a wrong value, not a wrong call
    return facts


def _decoded(parts: list[bytes]) -> dict[str, Any]:
    if len(parts) != 2:
        raise MalformedMessage("not_two_parts", f"{len(parts)} parts")
    message = wire.decode(parts[1])
    if message.get("schema") != wire.SCHEMA:
        raise MalformedMessage("unknown_schema", f"{message.get('schema')!r}, not {wire.SCHEMA}"[:80])
    return message
