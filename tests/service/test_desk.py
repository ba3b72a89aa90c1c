"""Over HTTP, with the token: sums begin anew, samples change, frames get their beam monitor."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from tests.service.conftest import RIGHT, TOKEN
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, Watched

from ringwatch.config import Config
from ringwatch.messages import Frame, FrameRows, SeriesEvent, SeriesResult, SeriesStart
from ringwatch.publish.result_file import read_result
from ringwatch.stream.encode import compress_bslz4
from ringwatch.stream.simulator import Simulator

REFERENCE = 1000.0


class Line:
    """A detector and its daemon."""

    def __init__(self, detector: Detector, watched: Watched, encoded: bytes) -> None:
        self.detector, self.watched, self._encoded = detector, watched, encoded

    def start(self, series: int = 1) -> None:
        start = SeriesStart(series, f"id{series}", shape=POWDER.shape, dtype=POWDER.dtype)
        self.detector.start(start)

    def images(self, numbers: range) -> None:
        for number in numbers:
            self.detector.image(number, Frame(1, 0, POWDER.shape, POWDER.dtype, "bslz4", self._encoded))

    def ask(self, name: str, **body: object) -> httpx2.Response:
        url = f"{self.watched.daemon.web.url}/api/{name}"
        return httpx2.post(url, headers=RIGHT, json=body or None, timeout=PATIENCE_S)

    def latest(self) -> dict[str, Any]:
        return dict(httpx2.get(f"{self.watched.daemon.web.url}/api/latest").json())

    def wait_for_rows(self, n_frames: int) -> None:
        self.watched.wait_for(lambda: len(self.watched.numbers()) >= n_frames)


@pytest.fixture(scope="module")
def encoded() -> bytes:
    return bytes(compress_bslz4(Simulator(POWDER, 1).frame()))


@pytest.fixture
def line(tmp_path: Path, encoded: bytes) -> Iterator[Callable[..., Line]]:
    detector, running = Detector(), []
    (tmp_path / "powder.poni").write_text(POWDER.poni())

    def start(**accumulate: object) -> Line:
        config = {
            "stream": {"endpoint": detector.endpoint, "late_s": 0.2},
            "geometry": {"poni": str(tmp_path / "powder.poni")},
            "profiles": {"interval_s": 0.2},
            "accumulate": accumulate,
            "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": str(tmp_path)}},
            "web": {"bind": "127.0.0.1:0", "token": TOKEN},
        }
        running.append(Watched(Config.from_mapping(config)))
        return Line(detector, running[-1], encoded)

    yield start
    for watched in running:
        watched.daemon.stop()
    detector.close()


def test_a_reset_begins_anew_within_the_series_and_keeps_a_file_of_what_was(
    line: Callable[..., Line], tmp_path: Path
) -> None:
    one = line()
    one.start()
    one.images(range(4))
    one.wait_for_rows(4)
    assert one.ask("reset").json() == {"sentence": "What is added up begins anew; results so far are kept."}
    one.watched.wait_for(lambda: one.watched.of(SeriesEvent)[-1].reason == "reset")
    one.images(range(4, 10))
    one.detector.end()
    one.watched.wait_for_end()
    facts = one.latest()
    one.watched.daemon.stop()
    assert [(result.n_frames, result.reason) for result in one.watched.of(SeriesResult)] == [(4, "reset"), (6, "end")]
    assert sorted(read_result(path).n_frames for path in tmp_path.glob("*.h5")) == [4, 6]
    assert (facts["generation"], facts["reduced"]) == (2, 10)


def test_where_nothing_is_added_up_nothing_can_be_reset(line: Callable[..., Line]) -> None:
    answer = line(scope="frame").ask("reset")
    assert answer.status_code == 409
    assert answer.json() == {"error": 'nothing is added up: accumulate.scope is "frame"'}


def test_another_sample_has_its_own_sums_and_its_name(line: Callable[..., Line], tmp_path: Path) -> None:
    one = line(scope="sample")
    for series, sample in ((1, "LaB6"), (2, None), (3, "CeO2")):
        if sample:
            said = one.ask("sample", sample=sample).json()["sentence"]
            assert said == f"The next series begins another sample, {sample}, unless its header names one."
        one.start(series)
        one.images(range(4))
        one.detector.end()
        one.watched.wait_for_end(series)
    assert one.ask("sample").status_code == 200
    one.watched.wait_for(lambda: len(one.watched.of(SeriesResult)) == 2)
    told = [(result.origin.sample, result.n_frames) for result in one.watched.of(SeriesResult)]
    assert told == [("LaB6", 8), ("CeO2", 4)]
    one.watched.daemon.stop()
    assert {path.name for path in tmp_path.glob("*.h5")} == {"LaB6_000001.h5", "CeO2_000003.h5"}


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", 7, ["LaB6"]])
def test_a_name_that_makes_no_sense_is_refused(line: Callable[..., Line], name: object) -> None:
    answer = line(scope="sample").ask("sample", sample=name)
    assert answer.status_code == 400
    assert "printable" in answer.json()["error"]


def test_frames_are_weighed_with_the_monitor_that_comes_over_http(line: Callable[..., Line]) -> None:
    one = line(monitor_reference=REFERENCE, monitor_wait_s=60.0)
    assert one.ask("i0", series=1, first=0, i0=[500, 2000.0]).status_code == 200
    one.start()
    one.images(range(6))
    one.wait_for_rows(2)
    assert one.ask("i0", series=1, first=2, i0=[1000, None, 750, 1000]).json() == {
        "sentence": "Series 1: the monitor of 4 frames from frame 2 on."
    }
    one.detector.end()
    one.watched.wait_for_end()
    rows = one.watched.of(FrameRows)
    assert one.watched.numbers() == [0, 1, 2, 4, 5]
    monitors = np.concatenate([row.monitor for row in rows])
    np.testing.assert_allclose(monitors, [0.5, 2.0, 1.0, 0.75, 1.0], rtol=1e-6)
    (result,) = one.watched.of(SeriesResult)
    assert (result.fates.reduced, result.fates.excluded) == (5, {"no monitor": 1})
    assert one.ask("i0", series=1, first=0, i0=[1]).status_code == 409


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "series has to be a number"),
        ({"series": True, "first": 0, "i0": [1]}, "series has to be a number"),
        ({"series": 1, "first": -1, "i0": [1]}, "first has to be a number"),
        ({"series": 1, "first": 1 << 48, "i0": [1]}, "first has to be a number"),
        ({"series": 1, "first": 0, "i0": []}, "i0 has to be a list"),
        ({"series": 1, "first": 0, "i0": 5}, "i0 has to be a list"),
        ({"series": 1, "first": 0, "i0": [True]}, "i0 has to be a list"),
        ({"series": 1, "first": 0, "i0": ["5"]}, "i0 has to be a list"),
    ],
)
def test_readings_that_make_no_sense_are_refused(line: Callable[..., Line], body: dict[str, Any], said: str) -> None:
    answer = line(monitor_reference=REFERENCE, monitor_wait_s=1.0).ask("i0", **body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_huge_numbers_are_no_defect_and_without_a_monitor_nothing_is_weighed(line: Callable[..., Line]) -> None:
    one = line(monitor_reference=REFERENCE, monitor_wait_s=1.0)
    assert one.ask("i0", series=1, first=0, i0=[10**400, float("1e300")]).status_code == 200
    answer = line().ask("i0", series=1, first=0, i0=[1])
    assert (answer.status_code, "set accumulate.monitor_wait_s" in answer.json()["error"]) == (409, True)
