"""The daemon stops a simulated detector, or does not, or cannot: from frames to the last sentence on the page."""

import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from tests.control.conftest import plain, raw_server, request
from tests.service.conftest import FRAMES, RIGHT, TOKEN, Simulated
from tests.service.test_daemon import PATIENCE_S, POWDER, Watched

from ringwatch.control import simplon
from ringwatch.messages import Decision, SeriesEvent, Snapshot, StopReport
from ringwatch.publish.result_file import read_result
from ringwatch.stream import control_unit

Run = Callable[..., Watched]


def states(watched: Watched) -> list[str]:
    return [report.state for report in watched.of(StopReport)]


def ask(watched: Watched, name: str, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{watched.daemon.web.url}/api/{name}", headers=headers or RIGHT, timeout=PATIENCE_S)


def wait_for_rows(watched: Watched) -> None:
    watched.wait_for(lambda: any(snapshot.n_frames for snapshot in watched.of(Snapshot)))


def test_a_smooth_sample_stops_the_series_and_the_detector_is_idle(
    simulated: Callable[..., Simulated], run_told: Run
) -> None:
    eiger = simulated()
    watched = run_told(eiger)
    watched.wait_for(lambda: states(watched)[-1:] == ["done"])
    sent = eiger.join()
    assert sent.stopped
    assert sent.frames < FRAMES
    assert eiger.unit.commands == ["cancel", "disarm"]
    assert states(watched) == ["asked", "done"]
    last = watched.of(StopReport)[-1]
    assert re.fullmatch(r"Stopped at frame \d+: detector idle after \d+\.\d s\.", last.sentence)
    watched.wait_for_end()
    assert watched.of(SeriesEvent)[-1].reason == "end"
    snapshot = watched.of(Snapshot)[-1]
    assert (snapshot.fates.received, snapshot.missing) == (sent.frames, 0)
    decided = next(decision for decision in watched.of(Decision) if decision.action == "stop")
    assert decided.n_frames == last.n_frames
    assert "Nothing was stopped" not in decided.sentence


def test_a_sample_that_stands_still_is_not_stopped(simulated: Callable[..., Simulated], run_told: Run) -> None:
    eiger = simulated(replace(POWDER, static_fraction=1.0), 60)
    watched = run_told(eiger)
    watched.wait_for_end()
    assert not eiger.join().stopped
    assert eiger.unit.commands == []
    assert states(watched) == []
    assert "static" in {decision.reason_code for decision in watched.of(Decision)}


def test_a_held_series_goes_on_until_a_person_stops_it(simulated: Callable[..., Simulated], run_told: Run) -> None:
    eiger = simulated()
    watched = run_told(eiger, min_time_s=3.0)
    wait_for_rows(watched)
    assert ask(watched, "hold").json() == {"sentence": "Series 1 is held: the rule will not stop it."}
    watched.wait_for(lambda: any(decision.action == "stop" for decision in watched.of(Decision)))
    assert states(watched) == []
    assert eiger.unit.commands == []
    assert ask(watched, "stop", Authorization="Bearer wrong").status_code == 403
    assert eiger.unit.commands == []
    assert ask(watched, "stop").json() == {"sentence": "Series 1 is being stopped."}
    assert ask(watched, "stop").status_code == 409
    watched.wait_for(lambda: states(watched)[-1:] == ["done"])
    assert eiger.unit.commands == ["cancel", "disarm"]


def test_a_stop_that_failed_is_told_first_and_in_these_words(
    simulated: Callable[..., Simulated], run_told: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplon, "_WAIT_S", 0.3)
    eiger = simulated(faults=("cancel-ignored", "disarm-ignored", "abort-ignored"))
    watched = run_told(eiger)
    watched.wait_for(lambda: states(watched)[-1:] == ["failed"])
    deadline_s = time.monotonic() + PATIENCE_S
    while (facts := httpx2.get(f"{watched.daemon.web.url}/api/latest").json())["word"] != "CHECK SETUP":
        assert time.monotonic() < deadline_s, facts["sentence"]
    words = (
        r"I asked the detector to stop at \d\d:\d\d:\d\d; it is still acquiring\. Please stop the scan\. Good enough "
    )
    assert re.match(words, facts["sentence"])
    assert facts["stop_state"] == "failed"
    assert eiger.unit.commands == ["cancel", "disarm", "abort"]
    eiger.close()
    watched.wait_for_end()
    assert states(watched).count("asked") == 1


def test_a_lost_end_message_does_not_keep_the_detector_from_idling(
    simulated: Callable[..., Simulated], run_told: Run
) -> None:
    eiger = simulated(faults=("end-lost",))
    watched = run_told(eiger)
    watched.wait_for(lambda: states(watched)[-1:] == ["done"])
    assert eiger.unit.commands == ["cancel", "disarm"]


def test_stopping_the_daemon_does_not_wait_for_the_detector(
    simulated: Callable[..., Simulated], run_told: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_unit, "_SLOW_S", 4.0)
    eiger = simulated(faults=("slow",))
    watched = run_told(eiger)
    watched.wait_for(lambda: eiger.unit.commands)
    begin_s = time.monotonic()
    watched.daemon.stop()
    assert time.monotonic() - begin_s < 2.0
    assert states(watched) == ["asked"]


def test_a_dry_run_says_it_and_tells_nobody(simulated: Callable[..., Simulated], run_told: Run) -> None:
    eiger = simulated()
    watched = run_told(eiger, dry_run=True)
    watched.wait_for(lambda: states(watched))
    wait_until = len(watched.of(Decision)) + 2
    watched.wait_for(lambda: len(watched.of(Decision)) >= wait_until)
    assert states(watched) == ["dry_run"]
    assert eiger.unit.commands == []


def test_the_owner_of_the_detector_is_told_and_watched(simulated: Callable[..., Simulated], run_told: Run) -> None:
    eiger, told = simulated(), []

    def owner(connection: socket.socket) -> None:
        told.append(json.loads(request(connection).partition(b"\r\n\r\n")[2]))
        eiger.stop.set()
        connection.sendall(plain(b"stopping"))

    with raw_server(owner) as url:
        watched = run_told(eiger, via="http", url=f"{url}/scan/stop")
        watched.wait_for(lambda: states(watched)[-1:] == ["done"])
    assert states(watched) == ["asked", "step", "done"]
    (order,) = told
    assert order["series"] == 1
    assert order["n_frames"] == watched.of(StopReport)[-1].n_frames
    assert order["high"] <= order["target"] == 0.5


def test_without_somebody_to_tell_that_is_said(simulated: Callable[..., Simulated], run_told: Run) -> None:
    watched = run_told(simulated(n_frames=4), via="none")
    assert ask(watched, "stop").json() == {"error": "nothing is stopped from here: set stop.via"}
    assert ask(watched, "hold").status_code == 409


def test_the_token_is_in_no_file(simulated: Callable[..., Simulated], run_told: Run, tmp_path: Path) -> None:
    watched = run_told(simulated(n_frames=4), via="none")
    watched.wait_for_end()
    watched.daemon.stop()
    assert watched.daemon.hdf5 is not None
    assert watched.daemon.hdf5.last_path is not None
    assert read_result(watched.daemon.hdf5.last_path).n_frames == 4
    assert not [path for path in tmp_path.rglob("*.h5") if TOKEN.encode() in path.read_bytes()]
