"""What may be asked for over HTTP, by whom, and waiting for a decision."""

import re
import threading
import time
from contextlib import suppress

import httpx2
import pytest
from structlog.testing import capture_logs

from ringwatch.errors import ControlError
from ringwatch.publish import api
from ringwatch.publish.orders import MAX_BODY_BYTES, Ask, Orders
from ringwatch.publish.web import WebPublisher

TOKEN = "0123456789abcdef"  # noqa: S105 - of these tests only
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


class Asked:
    """Does what is asked, or says why not."""

    def __init__(self):
        self.times = 0
        self.refusal = ""

    def __call__(self, facts):
        self.times += 1
        self.facts = facts
        if self.refusal:
            raise ControlError(self.refusal)
        return "Series 17 is being stopped."


@pytest.fixture
def asked():
    return Asked()


@pytest.fixture
def serve(clock, asked):
    """An HTTP client of a server with this token, and the server."""
    opened = []

    def served(token):
        web = WebPublisher(
            "127.0.0.1:0", clock, list, Orders({"stop": Ask(asked), "sample": Ask(asked, frozenset({"sample"}))}, token)
        )
        web.open()
        opened.append(web)
        client = httpx2.Client(base_url=web.url, timeout=20)
        opened.append(client)
        return client, web

    yield served
    for one in opened:
        one.close()


def test_with_the_token_it_is_done_and_said(serve, asked):
    http, _ = serve(TOKEN)
    for scheme in ("Bearer", "bearer"):
        answer = http.post("/api/stop", headers={"Authorization": f"{scheme} {TOKEN}"})
        assert (answer.status_code, answer.json()) == (200, {"sentence": "Series 17 is being stopped."})
        assert answer.headers["cache-control"] == "no-store"
    assert asked.times == 2


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}0"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN.upper()}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer ä".encode("latin-1")},
        {"Cookie": f"token={TOKEN}"},
        {"X-Token": TOKEN},
    ],
    ids=str,
)
def test_without_the_right_token_nothing_is_done_and_it_is_logged(serve, asked, headers):
    http, _ = serve(TOKEN)
    with capture_logs() as logs:
        answer = http.post("/api/stop", headers=headers)
        assert (answer.status_code, answer.json()) == (403, {"error": "wrong token"})
        assert http.post(f"/api/stop?token={TOKEN}", content=f"token={TOKEN}").status_code == 403
    assert asked.times == 0
    assert "refused" in str(logs)
    assert TOKEN not in str(logs)


def test_where_no_token_is_set_nobody_may(serve, asked):
    http, _ = serve(None)
    for headers in (RIGHT, {}, {"Authorization": "Bearer"}, {"Authorization": "Bearer None"}):
        answer = http.post("/api/stop", headers=headers)
        assert (answer.status_code, answer.json()) == (403, {"error": "control is off: set web.token"})
    assert asked.times == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_a_post_asks(serve, asked, method):
    http, _ = serve(TOKEN)
    answer = http.request(method, "/api/stop", headers=RIGHT | {"Origin": "http://evil.example"})
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert asked.times == 0


def test_what_cannot_be_done_is_said_and_logged(serve, asked, capsys):
    http, _ = serve(TOKEN)
    asked.refusal = "no series is running"
    answer = http.post("/api/stop", headers=RIGHT)
    assert (answer.status_code, answer.json()) == (409, {"error": "no series is running"})
    assert re.search("refused .*no series is running", capsys.readouterr().out)


def test_what_may_come_with_it_is_handed_on(serve, asked):
    http, _ = serve(TOKEN)
    assert http.post("/api/sample", headers=RIGHT, json={"sample": "LaB6"}).status_code == 200
    assert asked.facts == {"sample": "LaB6"}
    assert http.post("/api/sample", headers=RIGHT).status_code == 200
    assert asked.facts == {}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("stop", b'{"series": 3}', "it may have nothing in it"),
        ("sample", b'{"name": "LaB6"}', "it may have sample"),
        ("sample", b'["LaB6"]', "the body has to be a JSON object"),
        ("sample", b"sample=LaB6", "the body has to be a JSON object"),
        ("sample", b"\xff", "the body has to be a JSON object"),
        ("sample", b"[" * 100_000, "the body has to be a JSON object"),
        ("sample", b" " * (MAX_BODY_BYTES + 1), f"more than {MAX_BODY_BYTES} bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_means_something_else_does_nothing(serve, asked, path, body, said):
    http, _ = serve(TOKEN)
    answer = http.post(f"/api/{path}", headers=RIGHT, content=body)
    assert (answer.status_code, answer.json()) == (400, {"error": said})
    assert asked.times == 0


def test_a_foreign_host_is_refused_even_with_the_token_and_logged(serve, asked, capsys):
    http, _ = serve(TOKEN)
    assert http.post("/api/stop", headers=RIGHT | {"Host": "evil.example"}).status_code == 400
    assert asked.times == 0
    logged = capsys.readouterr().out
    assert re.search(r"refused .*/api/stop .*evil\.example", logged)
    assert TOKEN not in logged


# ------------------------------------------------------------------------------------------------------------ waiting


@pytest.fixture
def page(serve):
    return serve(None)


def outcome(http, **query):
    answer = http.get("/api/wait", params={"for": "decision", "timeout_s": 20, **query})
    assert answer.status_code == 200
    return answer.json()["outcome"]


def later(*steps):
    """Done in a moment, one after the other."""

    def go():
        for step in steps:
            time.sleep(0.3)
            step()

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_a_decision_that_has_been_made_is_told_at_once_with_all_facts(page, results):
    http, web = page
    web.publish(results.event())
    web.publish(results.decision(reason_code="reached"))
    facts = http.get("/api/wait?for=decision&timeout_s=20").json()
    assert facts["outcome"] == "stop"
    assert (facts["series"], facts["action"], facts["target"]) == (17, "stop", 0.02)
    assert facts["sentence"] == results.decision().sentence


def test_it_waits_for_the_decision(page, results):
    http, web = page
    web.publish(results.event())
    web.publish(results.decision())
    asker = later(lambda: web.publish(results.decision(reason_code="reached")))
    assert outcome(http) == "stop"
    asker.join()


def test_a_series_that_ends_before_is_over(page, results):
    http, web = page
    web.publish(results.event())
    asker = later(lambda: web.publish(results.event("end", "end")))
    assert outcome(http) == "over"
    asker.join()


def test_time_runs_out(page, results):
    http, web = page
    web.publish(results.event())
    assert outcome(http, timeout_s=0.2) == "timeout"
    assert outcome(http, timeout_s=0) == "timeout"


def test_who_asks_before_the_series_begins_is_not_told_of_the_last_one(page, results, other_results):
    http, web = page
    for result in (results.event(), results.decision(reason_code="reached"), results.event("end", "end")):
        web.publish(result)
    assert outcome(http, timeout_s=0.2) == "timeout"
    asker = later(
        lambda: web.publish(other_results.event()),
        lambda: web.publish(other_results.decision(reason_code="reached")),
    )
    assert outcome(http) == "stop"
    asker.join()


def test_after_names_the_series_that_does_not_count(page, results, other_results):
    http, web = page
    web.publish(results.event())
    web.publish(results.decision(reason_code="reached"))
    assert outcome(http, after="s17", timeout_s=0.2) == "timeout"
    assert outcome(http, after="s16") == "stop"
    for result in (other_results.event(), other_results.event("end", "end")):
        web.publish(result)
    assert outcome(http, after="s17") == "over"


@pytest.mark.parametrize(
    "query", ["for=beauty", "timeout_s=-1", "timeout_s=x", "timeout_s=nan", "timeout_s=1e9", "timeout_s=inf"]
)
def test_a_question_that_makes_no_sense_is_refused(page, query):
    http, _ = page
    answer = http.get(f"/api/wait?{query}")
    assert answer.status_code == 400
    assert "timeout_s=0 to 3600" in answer.json()["error"]


def test_who_waits_does_not_keep_the_server_from_closing(page):
    http, web = page
    closer = later(web.close)
    begin_s = time.monotonic()
    with suppress(httpx2.HTTPError):  # cut off is fine, too
        outcome(http, timeout_s=3600)
    closer.join()
    assert time.monotonic() - begin_s < 10


def test_who_goes_away_is_not_waited_for(page, monkeypatch):
    http, _ = page
    looks = []
    monkeypatch.setattr(api.Api, "_outcome", lambda _, after: looks.append(after) or "")
    with pytest.raises(httpx2.TimeoutException):
        http.get("/api/wait?timeout_s=3600", timeout=0.5)
    http.close()
    deadline_s = time.monotonic() + 10
    while looks:
        looks.clear()
        time.sleep(1.0)
        assert time.monotonic() < deadline_s, "somebody is still looking"
