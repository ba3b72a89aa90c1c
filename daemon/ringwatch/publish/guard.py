"""In front of the page: requests that ask for this machine by name pass, and get security headers on the way out."""

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

        name = Headers(scope=scope).get("host", "")
        trusted = self._trusts(name)
        if not trusted and scope.get("method") == "POST":
            _log.warning("refused", asked=scope["path"][:_TOLD_CHARS], reason=f"host {name[:_TOLD_CHARS]!r}")
        app = self._app if trusted else PlainTextResponse("This is not the name of this machine.\n", 400)
        await app(scope, receive, with_headers)

    def _trusts(self, header: str) -> bool:
        try:
            host = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return host in self._names or (self._any_address and _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
