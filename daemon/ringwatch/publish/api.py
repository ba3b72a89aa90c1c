"""The routes of the page: what the board and the publishers know in, HTTP answers out.

/ the page; /api/latest flat facts; /api/wait the same, once it is enough; /api/events server-sent events; /api/history
curves; /metrics; /healthz. What may be asked for is in `orders`, profiles and image in `views`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from importlib.resources import files
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ringwatch.publish.board import TOPICS, Board
from ringwatch.publish.flat import METRICS
from ringwatch.publish.metrics import Metrics
from ringwatch.publish.orders import Orders
from ringwatch.publish.outlet import OutletFacts
from ringwatch.publish.views import Views
from ringwatch.wire import to_json

EVENTS_PERIOD_S = 0.2
"""At most five updates a second for each page."""
LOOK_S = 0.1
"""So soon a script that waits is told."""
KEEP_ALIVE_S = 15.0
RETRY_MS = 1000
"""So long a page waits before it asks again for a daemon that has gone."""
LONGEST_WAIT_S = 3600.0
STATUS_AGE_LIMIT_S = 10.0
"""The status comes every 2 s; a daemon silent for longer is stuck."""
LAG_LIMIT_S = 10.0
"""Rows come 0.25 s after their frames where the device keeps up."""

_CLOSED = frozenset({"end", "abandoned"})
_STATIC = str(files("ringwatch.publish").joinpath("static"))


class Api:
    """Answers of the web server.

    Parameters
    ----------
    board
        What is known now.
    outlets
        How the publishers are doing.
    ending
        True when the server wants to end: streams end then.
    orders
        What may be asked for.
    views
        What pages draw.
    waits_s
        How long frames wait on purpose: that is no lag.
    """

    def __init__(
        self,
        board: Board,
        outlets: Callable[[], Sequence[OutletFacts]],
        ending: Callable[[], bool],
        orders: Orders,
        views: Views,
        waits_s: float,
    ) -> None:
        self._board, self._views = board, views
        self._longest_lag_s = LAG_LIMIT_S + waits_s
        self._outlets = outlets
        self._ending = ending
        self._orders = orders
        self._metrics = Metrics(board, outlets)

    def routes(self) -> list[Route | Mount]:
        """All of them."""
        return [
            Route("/", self._page),
            Route("/api/latest", self._latest),
            Route("/api/wait", self._wait),
            *self._orders.routes(),
            Route("/api/history", self._history),
            *self._views.routes(),
            Route("/api/events", self._events),
            Route("/metrics", self._metrics_text),
            Route("/healthz", self._health),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]

    async def _page(self, _: Request) -> Response:
        return FileResponse(f"{_STATIC}/index.html")

    async def _latest(self, _: Request) -> Response:
        return _json(self._facts())

    async def _wait(self, request: Request) -> Response:
        """The latest facts as soon as the decision is to stop, or the series is over, or the time is up.

        It is about the first series that is not ``after``: by default the running one, or else the next.
        """
        asked, timeout_s = request.query_params.get("for", "decision"), _seconds(request.query_params.get("timeout_s"))
        if asked != "decision" or timeout_s is None:
            return _json({"error": f"ask for=decision and timeout_s=0 to {LONGEST_WAIT_S:g}"}, 400)
        after = request.query_params.get("after", self._closed_series())
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while not (outcome := self._outcome(after)) and asyncio.get_running_loop().time() < deadline_s:
            if self._ending() or await request.is_disconnected():
                break
            await asyncio.sleep(LOOK_S)
        return _json({"outcome": outcome or "timeout", **self._facts()})

    def _closed_series(self) -> str | None:
        """The newest series, if it is over."""
        event = self._board.event
        return event.origin.unique_id if event is not None and event.event in _CLOSED else None

    def _outcome(self, after: str | None) -> str:
        """What a script waits for; empty while that has not come."""
        event, decision = self._board.event, self._board.decision
        if event is None or event.origin.unique_id == after:
            return ""
        if decision is not None and decision.action == "stop" and decision.origin.unique_id == event.origin.unique_id:
            return "stop"
        return "over" if event.event in _CLOSED else ""

    async def _history(self, request: Request) -> Response:
        """Curves of one measure: the frames, and the sums after so many of them."""
        asked = request.query_params.get("measure", "spottiness")
        measure = next((metric for metric in METRICS if metric == asked), None)
        if measure is None:
            return _json({"error": f"measure is one of {', '.join(METRICS)}"}, 400)
        curves = self._board.curves(measure)
        points = {name: {"n_frames": n_frames, "value": value} for name, (n_frames, value) in curves.items()}
        return _json({"measure": measure, **points})

    async def _events(self, request: Request) -> Response:
        """All topics, or those of ``topics=snapshot,status``; the facts of the page come with any change."""
        asked = request.query_params.get("topics")
        topics = TOPICS if asked is None else frozenset(asked.split(",")) & TOPICS
        return StreamingResponse(self._changes(topics), media_type="text/event-stream")

    async def _metrics_text(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _health(self, _: Request) -> Response:
        facts = self._board.latest()
        problems = self._problems(facts)
        kept = {key: facts[key] for key in ("state", "series", "frame", "age_s", "status_age_s")}
        publishers = {one.name: one.error or "ok" for one in self._outlets()}
        health = {"healthy": not problems, "problems": problems, **kept, "publishers": publishers}
        return _json(health, 503 if problems else 200)

    def _facts(self) -> dict[str, Any]:
        facts = self._board.latest()
        return facts | {"problem": " ".join(self._problems(facts)), "control": self._orders.is_open}

    def _problems(self, facts: Mapping[str, Any]) -> list[str]:
        """Why the daemon is not healthy; empty while it is."""
        problems = [fault] if (fault := self._board.fault) else []
        age_s = facts["status_age_s"]
        if age_s is not None and age_s > STATUS_AGE_LIMIT_S:
            problems.append(f"The daemon has said nothing for {age_s:.0f} s.")
        if failed := self._board.failed_device:
            problems.append(f"The device {failed} failed; now it is {facts['device']}.")
        lag_s = facts.get("lag_s") or 0.0
        if lag_s > self._longest_lag_s:
            problems.append(f"Results are {lag_s:.0f} s behind the frames.")
        return problems + [f"Publisher {one.name} is down: {one.error}." for one in self._outlets() if not one.healthy]

    async def _changes(self, topics: Collection[str]) -> AsyncIterator[str]:
        """Newest message of each topic that changed, and after them the facts of the page (event ``latest``)."""
        seen, quiet_s = 0, 0.0
        yield f"retry: {RETRY_MS}\n\n"
        while not self._ending():
            before = seen
            messages, seen = self._board.changes(before, topics)
            for message in messages:
                yield _event(message["type"], message)
            quiet_s = 0.0 if seen > before else quiet_s + EVENTS_PERIOD_S
            if seen > before or quiet_s >= KEEP_ALIVE_S:
                quiet_s = 0.0
                yield _event("latest", self._facts())
            await asyncio.sleep(EVENTS_PERIOD_S)


def _seconds(text: str | None) -> float | None:
    """A waiting time; None where it makes no sense."""
    try:
        seconds = LONGEST_WAIT_S if text is None else float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= LONGEST_WAIT_S else None


def _event(name: str, message: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {to_json(message)}\n\n"


def _json(facts: Mapping[str, Any], status: int = 200) -> Response:
    return Response(to_json(facts), status, {"Cache-Control": "no-store"}, "application/json")
