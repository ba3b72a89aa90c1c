"""Whatever comes over the wire: the running series' sums are those of its valid frames, and the next series is right."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, Watched, expected_words
from tests.stream import hostile, wire
from tests.stream.hostile import HOSTILE, SAID, Hostile, Running

from ringwatch.config import Config
from ringwatch.messages import Fates, Frame, SeriesEnd, SeriesEvent, SeriesResult, SeriesStart, Snapshot
from ringwatch.publish.result_file import read_result
from ringwatch.stream.encode import ENCODERS
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity

DTYPE = np.dtype("<u4")
N_FRAMES = 4
NUMBERS = itertools.count(1)
Disturb = Callable[[Running], None]
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
        encoder = ENCODERS[version]
        self.detector.raw(*encoder.start(series, "all"))
        self.send_frames(version, series, 0, N_FRAMES // 2)
        disturb(Running(series.series, series.unique_id, N_FRAMES, IMAGES[0]))
        self.send_frames(version, series, N_FRAMES // 2, N_FRAMES)
        self.detector.raw(*encoder.end(SeriesEnd(series.series, series.unique_id)))
        return series.series

    def send_frames(self, version: str, series: SeriesStart, first: int = 0, end: int = N_FRAMES) -> None:
        for number in range(first, end):
            frame = Frame(series.series, number, POWDER.shape, DTYPE, "bslz4", CHUNKS[number], series.unique_id)
            self.detector.raw(*ENCODERS[version].image(series, frame))

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


# ---------------------------------------------------------------------------------------------- starts that say nonsense


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A daemon that also writes files, and one series of 2 s at least so that the file is flushed while it runs."""
    folder = tmp_path_factory.mktemp("filed")
    line = Line(folder, hdf5={"root": str(folder)})
    yield line
    line.close()


@pytest.mark.parametrize("name", SAID)
def test_what_a_start_says_wrongly_costs_nothing(filed: Line, expected: NDArray[np.uint64], name: str) -> None:
    """Sums, file, sockets: whatever the header says, all that is published is published."""
    series = replace(new_series(), unique_id="")
    filed.detector.raw(*hostile.v2_start(series.series, **SAID[name]))
    filed.send_frames("v2", replace(series, unique_id=f"hostile {series.series}"))
    filed.detector.raw(*ENCODERS["v2"].end(SeriesEnd(series.series, f"hostile {series.series}")))
    result = filed.result(series.series)
    assert np.array_equal(result.sums, expected)
    following = filed.send_series("v2")
    assert np.array_equal(filed.result(following).sums, expected)
    assert [outlet.facts.failures for outlet in filed.watched.daemon._outlets] == [0, 0, 0]
