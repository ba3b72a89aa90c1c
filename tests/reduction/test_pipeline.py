"""Series after series, fed by hand: what a header does not say comes with the first frame, and refusals are counted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyopencl as cl
import pytest
from tests.conftest import FakeClock

from ringwatch.config import FilesConfig
from ringwatch.messages import Frame, FrameRows, Result, SeriesEnd, SeriesEvent, SeriesStart, StreamMessage
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.pipeline import Reduction
from ringwatch.reduction.series import ReductionSettings
from ringwatch.stream.decompress import decode_into

SHAPE, U2 = (40, 50), np.dtype(np.uint16)
PONI = """poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 1e-4, "pixel2": 1e-4, "orientation": 3}
Distance: 0.1
Poni1: 0.002
Poni2: 0.0025
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 1e-10
"""


class Fed:
    """A reduction, what it is given and what it published."""

    def __init__(self, poni: Path, device: cl.Device, clock: FakeClock) -> None:
        self.messages: list[list[StreamMessage]] = []
        self.published: list[Result] = []
        config = FilesConfig.for_poni(poni).geometry
        source = GeometrySource(config, lambda path, shape: np.zeros(shape, bool))
        self.reduction = Reduction(
            self.next_batch, lambda n: [], lambda: 0, source, device, decode_into, self.published.append,
            ReductionSettings(), clock,
        )  # fmt: skip

    def next_batch(self, max_frames: int, timeout_s: float) -> Sequence[StreamMessage]:
        return self.messages.pop(0)

    def feed(self, *batches: list[StreamMessage]) -> list[str]:
        self.messages += batches
        while self.messages:
            self.reduction.step()
        return [result.event for result in self.published if isinstance(result, SeriesEvent)]


@pytest.fixture
def fed(tmp_path: Path, device: cl.Device, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fed]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "shapeless.poni").write_text(PONI)
    opened = Fed(tmp_path / "shapeless.poni", device, clock)
    yield opened
    opened.reduction.close()


def frame(number: int, shape: tuple[int, int] = SHAPE, dtype: np.dtype[np.generic] = U2) -> Frame:
    return Frame(1, number, shape, dtype, "none", np.ones(shape, dtype).tobytes(), "A")


def test_a_shape_that_neither_header_nor_poni_says_comes_from_the_first_frame(fed: Fed) -> None:
    start = SeriesStart(1, "A")
    assert fed.feed([start], [frame(0)], [frame(1)], [SeriesEnd(1, "A")]) == ["start", "ready", "end"]
    rows = [result for result in fed.published if isinstance(result, FrameRows)]
    assert [int(row.total_signal[0]) for row in rows] == [SHAPE[0] * SHAPE[1]] * 2
    assert start.fates.reduced == 2


def test_frames_of_a_refused_series_are_excluded_and_the_next_series_is_reduced(fed: Fed) -> None:
    floats = np.dtype(np.float32)
    refused, good = SeriesStart(1, "A", shape=SHAPE), SeriesStart(2, "B", shape=SHAPE, dtype=U2)
    batch = [frame(0, dtype=floats), frame(1, dtype=floats)]
    assert fed.feed([refused], batch, [frame(2, dtype=floats)], [SeriesEnd(1, "A")]) == ["start", "abandoned"]
    assert refused.fates.excluded["series refused"] == 3
    fed.feed([good], [frame(0)], [SeriesEnd(2, "B")])
    assert good.fates.reduced == 1
