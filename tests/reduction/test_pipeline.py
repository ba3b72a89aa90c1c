"""Series after series, fed by hand: what header and first frame bring, what is refused, what is kept between them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import pytest
from tests.conftest import FakeClock

from ringwatch.config import FilesConfig
from ringwatch.messages import (
    Frame,
    FrameRows,
    Result,
    SeriesEnd,
    SeriesEvent,
    SeriesResult,
    SeriesStart,
    StreamMessage,
)
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.pipeline import Reduction
from ringwatch.reduction.settings import ReductionSettings
from ringwatch.stream.decompress import decode_into
from ringwatch_gpu import reference
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.sums import StaticSums
from ringwatch_gpu.validity import Validity

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

    def __init__(
        self, device: cl.Device, clock: FakeClock, settings: ReductionSettings | None = None, **files: Path | str
    ) -> None:
        self.messages: list[list[StreamMessage]] = []
        self.published: list[Result] = []
        config = FilesConfig.model_validate({"geometry": files}).geometry
        source = GeometrySource(config, lambda path, shape, name: np.load(path))
        self.reduction = Reduction(
            self.next_batch, lambda n: [], lambda: 0, source, device, decode_into, self.published.append,
            settings or ReductionSettings(), clock,
        )  # fmt: skip

    def next_batch(self, max_frames: int, timeout_s: float) -> Sequence[StreamMessage]:
        return self.messages.pop(0)

    def feed(self, *batches: list[StreamMessage]) -> list[str]:
        self.messages += batches
        while self.messages:
            self.reduction.step()
        return [result.event for result in self.published if isinstance(result, SeriesEvent)]


@pytest.fixture
def fed(
    tmp_path: Path, device: cl.Device, clock: FakeClock, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fed]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    (tmp_path / "shapeless.poni").write_text(PONI)
    opened = Fed(device, clock, poni=tmp_path / "shapeless.poni")
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


def test_floats_that_the_header_announced_are_reduced_and_integers_after_them(fed: Fed) -> None:
    floats = np.dtype(np.float32)
    first, second = (SeriesStart(n, name, shape=SHAPE, dtype=t) for n, name, t in ((1, "A", floats), (2, "B", U2)))
    fed.feed([first], [frame(0, dtype=floats)], [frame(1, dtype=floats)], [SeriesEnd(1, "A")])
    fed.feed([second], [frame(0)], [SeriesEnd(2, "B")])
    results = [result for result in fed.published if isinstance(result, SeriesResult)]
    assert [result.signal_quantum for result in results] == [2**-8, 1.0]
    rows = [result for result in fed.published if isinstance(result, FrameRows)]
    assert [row.total_signal[0] for row in rows] == [SHAPE[0] * SHAPE[1]] * 3
    assert len({result.origin.digest for result in results}) == 2


# ------------------------------------------------------------------------------------------------------- flat field

FLAT = np.linspace(0.5, 1.5, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)


def test_a_header_that_says_why_not_is_refused_with_its_words(fed: Fed) -> None:
    start = SeriesStart(1, "A", shape=SHAPE, dtype=U2, problem="the detector sends only threshold_1")
    assert fed.feed([start], [frame(0)], [SeriesEnd(1, "A")]) == ["abandoned"]
    (event,) = [result for result in fed.published if isinstance(result, SeriesEvent)]
    assert event.reason == "the detector sends only threshold_1"
    assert start.fates.excluded == {"series refused": 1}


@pytest.mark.parametrize(("dummy", "counts", "signal"), [(-32768, 2000 - 10, 3 * 1000 - 2 * 990), (None, 1000, 3000)])
def test_negative_counts_of_signed_frames_count_where_the_header_says_which_value_is_none(
    fed: Fed, dummy: int | None, counts: int, signal: int
) -> None:
    """Half of the pixels are at 3, half at -2, and ten of these have no data."""
    pixels = np.repeat(np.array([3, -2], np.int16), 1000)
    pixels[-10:] = -32768
    start = SeriesStart(1, "A", shape=SHAPE, dtype=pixels.dtype, dummy=dummy)
    signed = Frame(1, 0, SHAPE, pixels.dtype, "none", pixels.tobytes(), "A")
    fed.feed([start], [signed], [SeriesEnd(1, "A")])
    (rows,) = [result for result in fed.published if isinstance(result, FrameRows)]
    assert (rows.masked_pixels[0], rows.total_signal[0]) == (2000 - counts, signal)


def result_of(fed: Fed, start: SeriesStart) -> tuple[str, SeriesResult]:
    """What is said at the start, and the result of one frame."""
    fed.feed([start], [frame(0)], [SeriesEnd(start.series, start.unique_id)])
    event = next(result for result in fed.published if isinstance(result, SeriesEvent))
    return event.reason, next(result for result in fed.published if isinstance(result, SeriesResult))


@pytest.mark.parametrize(
    ("applied", "sent", "used", "warned"),
    [(False, True, True, False), (False, False, False, True), (True, True, False, False), (None, True, False, False)],
)
def test_the_flat_field_of_the_header_is_used_only_if_the_detector_did_not_apply_it(
    fed: Fed, applied: bool | None, sent: bool, used: bool, warned: bool
) -> None:
    start = SeriesStart(1, "A", shape=SHAPE, dtype=U2, flatfield=FLAT if sent else None, flatfield_applied=applied)
    reason, result = result_of(fed, start)
    plain = Geometry.from_poni(PONI, SHAPE)
    geometry = plain.corrected(flat=1 / FLAT.astype(float)) if used else plain
    table = geometry.bin_table, geometry.norm_q, geometry.bins
    expected = reference.integrate(np.ones((1, geometry.pixels), U2), *table, Validity.of(U2)).rows(
        StaticSums.of(*table)
    )
    np.testing.assert_array_equal(result.sums, expected[0])
    assert result.origin.digest == geometry.digest
    assert ("none is applied" in reason) is warned


def test_a_flat_field_on_top_of_the_detectors_own_is_warned_of(
    fed: Fed, tmp_path: Path, device: cl.Device, clock: FakeClock
) -> None:
    np.save(tmp_path / "flat.npy", FLAT)
    for applied, said in ((True, "geometry.flat is applied on top of it"), (False, ""), (None, "")):
        twice = Fed(device, clock, poni=tmp_path / "shapeless.poni", flat=str(tmp_path / "flat.npy"))
        reason, result = result_of(twice, SeriesStart(1, "A", shape=SHAPE, dtype=U2, flatfield_applied=applied))
        twice.reduction.close()
        assert said in reason
        assert bool(said) == bool(reason)
        assert result.origin.digest == Geometry.from_poni(PONI, SHAPE).corrected(flat=FLAT).digest


def test_the_integrator_is_kept_while_the_flat_field_stays(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[BatchIntegrator] = []

    class Counted(BatchIntegrator):
        def __init__(self, *given: Any, **settings: Any) -> None:
            super().__init__(*given, **settings)
            built.append(self)

    monkeypatch.setattr("ringwatch.reduction.pipeline.BatchIntegrator", Counted)
    for series, flat in enumerate([FLAT, FLAT.copy(), 2 * FLAT]):
        start = SeriesStart(series, str(series), shape=SHAPE, dtype=U2, flatfield=flat, flatfield_applied=False)
        fed.feed([start], [frame(0)], [SeriesEnd(series, str(series))])
        assert len(built) == (2 if series == 2 else 1)
