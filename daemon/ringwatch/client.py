"""For scripts: what a running daemon publishes, as plain dictionaries with numpy arrays inside.

`subscribe` iterates over the messages, `latest` asks once, `wait_for_decision` waits until enough was measured.
docs/live.ipynb plots live in ten lines.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import zmq

from ringwatch import wire
from ringwatch.curve import protect_client
from ringwatch.errors import KeyFileError, MalformedMessage

ENDPOINT = "tcp://127.0.0.1:5560"
URL = "http://127.0.0.1:8080"
LONGEST_WAIT_S = 3600.0
_MAX_ANSWER_BYTES = 1 << 20
_GRACE_S = 5.0
"""For the answer itself, beyond the time that the daemon waits."""


def subscribe(
    endpoint: str = ENDPOINT,
    topics: str | Sequence[str] = (),
    timeout_s: float | None = None,
    server_key: Path | str | None = None,
    own_key: Path | str | None = None,
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
    server_key
        File with the public key of the daemon, where it publishes encrypted.
    own_key
        File with the own secret key, where the daemon lets only those in whom it knows.

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
    KeyFileError
        A key cannot be read.
    """
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_PAYLOAD_BYTES)
        for topic in [topics] if isinstance(topics, str) else topics or [""]:
            socket.subscribe(topic)
        if server_key is None and own_key is not None:
            raise KeyFileError("own_key needs server_key: whom it is to be shown to")
        if server_key is not None:
            protect_client(socket, Path(server_key), None if own_key is None else Path(own_key))
        socket.connect(endpoint)
        while True:
            if not socket.poll(None if timeout_s is None else round(1000 * timeout_s)):
                keys = "" if server_key is None else " And are these its keys?"
                raise TimeoutError(f"nothing from {endpoint} for {timeout_s:g} s: is the daemon running?{keys}")
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
    return _asked(url, "latest", timeout_s)


def wait_for_decision(url: str = URL, timeout_s: float = LONGEST_WAIT_S, after: str | None = None) -> dict[str, Any]:
    """The facts of `latest` as soon as enough was measured or the series is over (``GET /api/wait``).

    Parameters
    ----------
    url
        As for `latest`.
    timeout_s
        Longest time to wait, at most 3600.
    after
        ``unique_id`` of a series that is not meant: the next one is. By default the running series is meant, or else
        the next. Ask `latest` for it before the detector is armed, and no decision is missed.

    Returns
    -------
    dict
        ``outcome`` is "stop" (enough was measured) or "over" (the series ended before); ``sentence`` tells why.

    Raises
    ------
    TimeoutError
        Neither came within ``timeout_s``.
    OSError
        Nobody answers there, or the daemon ended.
    ValueError
        The answer is not ringwatch's, ``url`` is not http, or ``timeout_s`` makes no sense.
    """
    if not 0 <= timeout_s <= LONGEST_WAIT_S:
        raise ValueError(f"timeout_s is {timeout_s:g}, not between 0 and {LONGEST_WAIT_S:g}")
    asked = {"for": "decision", "timeout_s": timeout_s} | ({} if after is None else {"after": after})
    facts = _asked(url, f"wait?{urlencode(asked)}", timeout_s + _GRACE_S)
    if facts.get("outcome") == "timeout":
        raise TimeoutError(f"no decision from {url} for {timeout_s:g} s")
    return facts


def _asked(url: str, path: str, timeout_s: float) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is no http address")
    with urlopen(f"{url.rstrip('/')}/api/{path}", timeout=timeout_s) as answer:  # noqa: S310 - checked above # nosec B310
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
