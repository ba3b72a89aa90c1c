"""Whatever comes over the wire, the running series keeps its sums, and the next one is right."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, Watched, expected_words
from tests.stream import hostile, wire
from tests.stream.hostile import HOSTILE, REFUSED, STARTS, Hostile, Running, Start

from ringwatch.config import Config
from ringwatch.messages import MAX_FRAME_ID, Fates, Frame, SeriesEnd, SeriesResult, SeriesStart
from ringwatch.publish.result_file import StoredResult, read_result
from ringwatch.stream.encode import ENCODERS
from ringwatch_gpu import exact
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity

DTYPE = np.dtype("<u4")
N_FRAMES = 4
NUMBERS = itertools.count(1)
Disturb = Callable[[Running], None]
SPOKEN = {**ENCODERS, "stins": wire.STINS}
IMAGES = [wire.pixels(POWDER.shape, "<u4", seed) for seed in range(N_FRAMES)]
CHUNKS = [wire.bslz4(image) for image in IMAGES]


class Line:
    """A daemon that lives through many series, and the socket of its detector."""

    def __init__(self, folder: Path, **publish: object) -> None:
        (folder / "powder.poni").write_text(POWDER.poni())
        self.detector = Detector()
        self.watched = Watched(
            Config.from_mapping(
                {
                    "stream": {"endpoint": self.detector.endpoint, "late_s": 0.02},
                    "geometry": {"poni": str(folder / "powder.poni")},
                    "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, **publish},
                    "web": {"bind": "127.0.0.1:0"},
                }
            )
        )

    def send_series(self, version: str, disturb: Disturb = lambda _: None) -> int:
        """Send a well-formed series, in the middle of which somebody does what he likes; its number."""
        series = new_series()
        encoder = SPOKEN[version]
        self.detector.raw(*encoder.start(series, "all"))
        self.send_frames(version, series, 0, N_FRAMES // 2)
        disturb(Running(series.series, series.unique_id, N_FRAMES, IMAGES[0]))
        self.send_frames(version, series, N_FRAMES // 2, N_FRAMES)
        self.detector.raw(*encoder.end(SeriesEnd(series.series, series.unique_id)))
        return series.series

    def send_frames(self, version: str, series: SeriesStart, first: int = 0, end: int = N_FRAMES) -> None:
        for number in range(first, end):
            frame = Frame(series.series, number, POWDER.shape, DTYPE, "bslz4", CHUNKS[number], series.unique_id)
            self.detector.raw(*SPOKEN[version].image(series, frame))

    def result(self, series: int) -> SeriesResult:
        self.watched.wait_for(lambda: self._results(series))
        (result,) = self._results(series)
        return result

    def _results(self, series: int) -> list[SeriesResult]:
        return [result for result in self.watched.of(SeriesResult) if result.origin.series == series]

    def close(self) -> None:
        assert self.watched.daemon.error is None
        self.watched.daemon.stop()
        self.detector.close()


def new_series() -> SeriesStart:
    number = next(NUMBERS)
    return SeriesStart(number, f"series {number}", shape=POWDER.shape, dtype=DTYPE)


@pytest.fixture(scope="module")
def expected() -> NDArray[np.uint64]:
    return expected_words(IMAGES, Geometry.from_poni(POWDER.poni()), Validity.of(DTYPE))


def not_reduced(fates: Fates) -> dict[str, int]:
    counted = Counter({name: getattr(fates, name) for name in ("late", "foreign", "duplicate", "skipped")})
    return dict(+(counted + fates.malformed + fates.excluded))


CASES = [(version, one) for version, ones in HOSTILE.items() for one in ones]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], SeriesResult]]:
    """One daemon and one series after the other, each disturbed by another message."""
    line = Line(tmp_path_factory.mktemp("disturbed"))
    numbers = {
        (version, one.name): line.send_series(version, lambda running, one=one: line.detector.raw(*one.parts(running)))
        for version, one in CASES
    }
    yield lambda version, name: line.result(numbers[version, name])
    line.close()


@pytest.mark.parametrize(("version", "one"), CASES, ids=[f"{version}-{one.name}" for version, one in CASES])
def test_a_hostile_message_costs_nothing_but_itself(
    disturbed: Callable[[str, str], SeriesResult], expected: NDArray[np.uint64], version: str, one: Hostile
) -> None:
    """Each series is also the well-formed one that follows the message before."""
    result = disturbed(version, one.name)
    assert np.array_equal(result.sums, expected)
    assert not_reduced(result.fates) == ({one.fate: 1} if one.fate else {})
    assert result.fates.reduced == N_FRAMES
    assert result.fates.settled == result.fates.received
    assert result.missing == ()


@pytest.mark.parametrize("version", HOSTILE)
@pytest.mark.parametrize("before", ["nothing", "a series"])
def test_hostile_messages_between_series_cost_nothing(
    tmp_path: Path, expected: NDArray[np.uint64], version: str, before: str
) -> None:
    """All of them, and ends without starts: before the first series, and between two."""
    line = Line(tmp_path)
    number = line.send_series(version) if before == "a series" else 0
    for one in HOSTILE[version]:
        line.detector.raw(*one.parts(Running(number, f"series {number}", N_FRAMES, IMAGES[0])))
        line.detector.raw(*SPOKEN[version].end(SeriesEnd(number, f"series {number}")))
    assert np.array_equal(line.result(line.send_series(version)).sums, expected)
    line.close()


@pytest.mark.parametrize("version", HOSTILE)
def test_a_frame_of_an_absurd_number_is_one_more_frame(
    tmp_path: Path, expected: NDArray[np.uint64], version: str
) -> None:
    """Nothing has a place for each number that is missing."""
    line = Line(tmp_path, hdf5={"root": str(tmp_path)})

    def disturb(running: Running) -> None:
        far = running._replace(frame=MAX_FRAME_ID - 1)
        images = {"v1": far.v1, "v2": far.v2_pixels, "stins": far.stins}
        line.detector.raw(*images[version](running.chunk))

    number = line.send_series(version, disturb)
    result = line.result(number)
    first = expected_words(IMAGES[:1], Geometry.from_poni(POWDER.poni()), Validity.of(DTYPE))
    assert np.array_equal(result.sums, exact.add(expected, first))
    assert result.missing == ((N_FRAMES, MAX_FRAME_ID - 2),)
    assert wait_for_file(line, number).fates.missing == MAX_FRAME_ID - 1 - N_FRAMES
    line.close()


# -------------------------------------------------------------------------------- starts that say nonsense


@pytest.fixture(scope="module")
def filing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A daemon that also writes files."""
    folder = tmp_path_factory.mktemp("filing")
    line = Line(folder, hdf5={"root": str(folder)})
    yield line
    wait_for_file(line, line.send_series("v2"))
    line.close()


def send_behind(line: Line, start: Start) -> SeriesStart:
    series = new_series()
    for parts in start.messages(series.series):
        line.detector.raw(*parts)
    series = replace(series, unique_id=hostile.name_of(series.series))
    line.send_frames(start.version, series)
    line.detector.raw(*SPOKEN[start.version].end(SeriesEnd(series.series, series.unique_id)))
    return series


def wait_for_file(line: Line, series: int) -> StoredResult:
    """What the file of a series holds, once it is written without a single failure."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        failed = {
            outlet.facts.name: outlet.facts.error for outlet in line.watched.daemon._outlets if outlet.facts.failures
        }
        assert not failed
        path = line.watched.daemon.hdf5.last_path
        if path is not None and int(path.stem[-6:]) == series:
            return read_result(path)
        assert time.monotonic() < deadline_s, path
        time.sleep(0.01)


@pytest.mark.parametrize("start", STARTS, ids=[start.name for start in STARTS])
def test_what_a_start_says_wrongly_costs_nothing(filing: Line, expected: NDArray[np.uint64], start: Start) -> None:
    series = send_behind(filing, start).series
    assert np.array_equal(filing.result(series).sums, expected)
    assert np.array_equal(wait_for_file(filing, series).sums, expected)


@pytest.mark.parametrize("start", REFUSED, ids=[start.name for start in REFUSED])
def test_a_start_that_cannot_be_followed_costs_its_own_series_only(
    filing: Line, expected: NDArray[np.uint64], start: Start
) -> None:
    send_behind(filing, start)
    following = filing.send_series(start.version)
    assert np.array_equal(filing.result(following).sums, expected)
