"""The detector's own count of lost images: asked while a series runs, by nobody who has better things to do."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs
from tests.control.conftest import ORIGIN, PATIENCE_S, plain, raw_server, request

from ringwatch.control import dropped
from ringwatch.control.dropped import DroppedImages
from ringwatch.messages import SeriesEvent
from ringwatch.stream.control_unit import ControlUnit

_NOTHING = np.zeros(0)
START = SeriesEvent(ORIGIN, 0, "start", "", {}, _NOTHING, _NOTHING, "", exact=True)
END = replace(START, event="end")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "EVERY_S", 0.02)


@pytest.fixture
def watch() -> Iterator[Callable[[str], DroppedImages]]:
    opened: list[DroppedImages] = []

    def made(url: str) -> DroppedImages:
        opened.append(DroppedImages(url))
        opened[-1].start()
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_it_is_followed_while_a_series_runs_and_begins_anew_with_the_next(
    watch: Callable[[str], DroppedImages],
) -> None:
    unit = ControlUnit(threading.Event())
    with unit.serving():
        unit.dropped = 3
        watched = watch(unit.url)
        watched.take(START)
        wait_for(lambda: watched.number == 3)
        unit.dropped = 5
        wait_for(lambda: watched.number == 5)
        watched.take(END)
        assert watched.number == 5
        watched.take(START)
        unit.dropped = 0
        wait_for(lambda: watched.number == 0)


def test_nobody_is_asked_between_series(watch: Callable[[str], DroppedImages]) -> None:
    asked: list[bytes] = []

    def answer(connection: object) -> None:
        asked.append(request(connection))  # type: ignore[arg-type]
        connection.sendall(plain(b'{"value": "1.6.0"}' if b"version" in asked[-1] else b'{"value": 7}'))  # type: ignore[attr-defined]

    with raw_server(answer) as url:
        watched = watch(url)
        time.sleep(0.1)
        assert asked == []
        watched.take(START)
        wait_for(lambda: watched.number == 7)
        assert any(b"/stream/api/1.6.0/status/dropped" in one for one in asked)
        watched.take(END)
        time.sleep(0.1)
        before = len(asked)
        time.sleep(0.1)
        assert len(asked) == before


@pytest.mark.parametrize("value", [b"-1", b"true", b'"3"', b"1.5", b"null", b"1e400", b"9" * 40])
def test_what_is_no_count_is_not_known_and_told_once(watch: Callable[[str], DroppedImages], value: bytes) -> None:
    asked = 0

    def answer(connection: object) -> None:
        nonlocal asked
        is_version = b"version" in request(connection)  # type: ignore[arg-type]
        asked += not is_version
        connection.sendall(plain(b'{"value": "1.8.0"}' if is_version else b'{"value": %s}' % value))  # type: ignore[attr-defined]

    with capture_logs() as logs, raw_server(answer) as url:
        watched = watch(url)
        watched.take(START)
        wait_for(lambda: asked > 3)
        assert watched.number is None
        watched.close()
    told = [line for line in logs if "dropped" in line["event"]]
    assert len(told) == 1
    assert told[0]["reason"].endswith("gave no number that makes sense")


def test_a_control_unit_that_never_answers_keeps_nobody_waiting(watch: Callable[[str], DroppedImages]) -> None:
    release = threading.Event()

    def answer(_connection: object) -> None:
        release.wait(PATIENCE_S)

    with raw_server(answer) as url:
        watched = watch(url)
        begin_s = time.monotonic()
        for _ in range(1000):
            watched.take(START)
            watched.take(END)
        watched.close()
        assert time.monotonic() - begin_s < 1.0
        assert watched.number is None
        release.set()
