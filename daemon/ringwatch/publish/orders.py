"""What a person or a script may ask for over HTTP: POST requests with the token in, calls of the daemon out."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ringwatch.errors import ControlError
from ringwatch.wire import to_json

Ask = Callable[[], str]
"""Does what is asked, at once or soon; says so in a sentence, or raises ControlError."""

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

    def routes(self) -> list[Route]:
        """One for each name."""
        return [Route(f"/api/{name}", self._answer_to(name), methods=["POST"]) for name in self._asks]

    def _answer_to(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        return partial(self._answer, name)

    async def _answer(self, name: str, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal:
            _log.warning("refused", asked=name, client=request.client and request.client.host, reason=refusal)
            return _said({"error": refusal}, 403)
        try:
            sentence = self._asks[name]()
        except ControlError as error:
            return _said({"error": str(error)}, 409)
        _log.info("asked by hand", asked=name, client=request.client and request.client.host, said=sentence)
        return _said({"sentence": sentence}, 200)

    def _refusal(self, request: Request) -> str:
        """Why not; empty if the token is right. Only a header counts: no other web page can make a browser send it."""
        if self._token is None:
            return "control is off: set web.token"
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(shown.strip().encode(), self._token.encode())
        return "" if scheme.lower() == "bearer" and is_right else "wrong token"


def _said(facts: Mapping[str, str], status: int) -> Response:
    return Response(to_json(facts), status, {"Cache-Control": "no-store"}, "application/json")
