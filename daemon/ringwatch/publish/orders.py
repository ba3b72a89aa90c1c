"""What a person or a script may ask for over HTTP: POST requests with the token in, calls of the daemon out."""

import hmac
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ringwatch.errors import ControlError, MalformedOrder
from ringwatch.wire import to_json

MAX_BODY_BYTES = 1 << 20

Facts = Mapping[str, object]
"""What came with a request, not yet checked beyond its names; empty where nothing came."""


class Ask(NamedTuple):
    """Something that may be asked for.

    Attributes
    ----------
    do
        Does it, at once or soon; says so in a sentence, or raises ControlError, MalformedOrder for a wrong request.
    names
        Of what a request may bring. Others are refused: who sends them means something else.
    """

    do: Callable[[Facts], str]
    names: frozenset[str] = frozenset()


_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Orders:
    """Routes /api/NAME for each thing that may be asked for.

    Parameters
    ----------
    asks
        By name.
    token
        What has to be shown; None refuses everything.
    """

    def __init__(self, asks: Mapping[str, Ask], token: str | None) -> None:
        self._asks, self._token = asks, token

    @property
    def is_open(self) -> bool:
        """Whether anything may be asked for at all."""
        return self._token is not None

    def routes(self) -> list[Route]:
        """One for each name."""
        return [Route(f"/api/{name}", self._answer_to(name), methods=["POST"]) for name in self._asks]

    def _answer_to(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        return partial(self._answer, name)

    async def _answer(self, name: str, request: Request) -> Response:
        client = request.client and request.client.host
        error, status = self._refusal(request), 403
        if not error:
            try:
                sentence = self._asks[name].do(await _facts(request, self._asks[name].names))
            except ControlError as problem:
                error, status = str(problem), 400 if isinstance(problem, MalformedOrder) else 409
        if error:
            _log.warning("refused", asked=name, client=client, reason=error)
            return _said({"error": error}, status)
        _log.info("asked by hand", asked=name, client=client, said=sentence)
        return _said({"sentence": sentence}, 200)

    def _refusal(self, request: Request) -> str:
        """Why not; empty if the token is right. Only a header counts: no other web page can make a browser send it."""
        if self._token is None:
            return "control is off: set web.token"
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(shown.strip().encode(), self._token.encode())
        return "" if scheme.lower() == "bearer" and is_right else "wrong token"


async def _facts(request: Request, names: Collection[str]) -> Facts:
    """The body, a JSON object with these names at most; raises MalformedOrder where it is none, or too long."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise MalformedOrder(f"more than {MAX_BODY_BYTES} bytes")
    except ClientDisconnect:
        raise MalformedOrder("it ended before it was complete") from None
    try:
        facts = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise MalformedOrder("the body has to be a JSON object")
    if not facts.keys() <= set(names):
        raise MalformedOrder(f"it may have {', '.join(sorted(names))}" if names else "it may have nothing in it")
    return facts


def _said(facts: Mapping[str, str], status: int) -> Response:
    return Response(to_json(facts), status, {"Cache-Control": "no-store"}, "application/json")
