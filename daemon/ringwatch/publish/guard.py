"""In front of the page: requests that ask for this machine by name pass, and get security headers on the way out.

What could change something passes only from our own page, or from no page at all (scripts send no origin).
"""

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_TOLD_CHARS = 100

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Guard:
    """Answers only to the names of this machine (against DNS rebinding), and adds the security headers.

    Bound to one address, it answers to that and to localhost; bound to all of them, also to the machine's name and to
    any numeric address, which no rebinding can forge.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._any_address = _is_address(host) and ip_address(host).is_unspecified
        self._names = {host.lower(), "localhost", "127.0.0.1", "::1"}
        if self._any_address:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        problem = self._problem(scope)
        app = PlainTextResponse(f"{problem}\n", 400) if problem else self._app
        await app(scope, receive, with_headers)

    def _problem(self, scope: Scope) -> str:
        """Why not to answer; empty if there is no reason."""
        headers, changes = Headers(scope=scope), scope.get("method") == "POST"
        host, origin = headers.get("host", ""), headers.get("origin")
        problem = ""
        if not self._trusts(host):
            problem = "This is not the name of this machine."
        elif changes and origin is not None and not _is_same(origin, host):
            problem = "Another page asks for this."
        if problem and changes:
            asked, who = scope["path"][:_TOLD_CHARS], (origin or host)[:_TOLD_CHARS]
            _log.warning("refused", asked=asked, by=who, reason=problem)
        return problem

    def _trusts(self, header: str) -> bool:
        try:
            host = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return host in self._names or (self._any_address and _is_address(host))


def _is_same(origin: str, host: str) -> bool:
    """Whether the page that asks came from here: browsers send its origin with each POST."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
