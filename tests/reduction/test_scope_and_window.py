"""What is added up: blocks of a series, the last frames, series of a sample, single frames; frames with a monitor."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyopencl as cl
import pytest
from tests.conftest import FakeClock
from tests.kernels import synthetic

from ringwatch.config import FilesConfig, StopConfig, WindowConfig
from ringwatch.messages import (
    Decision,
    Frame,
    FrameRows,
    Profile,
    Result,
    SeriesEnd,
    SeriesEvent,
    SeriesResult,
    SeriesStart,
    Snapshot,
    StreamMessage,
)
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.pipeline import Reduction
from ringwatch.reduction.settings import ReductionSettings
from ringwatch.stream.decompress import decode_into
from ringwatch_gpu import monitor, reference
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.sums import RingSums, StaticSums
from ringwatch_gpu.validity import Validity

T = TypeVar("T")

SHAPE, U2 = synthetic.PONI_SHAPE, np.dtype(np.uint16)
PIXELS = synthetic.frames(20, SHAPE, U2, 50, invalid=0.05)
REFERENCE = 1000.0


class Fed:
    """A reduction, what it is given and what it published."""

    def __init__(self, device: cl.Device, clock: FakeClock, poni: Path, **settings: Any) -> None:
        self.messages: list[list[StreamMessage]] = []
        self.published: list[Result] = []
        config = FilesConfig.model_validate({"geometry": {"poni": poni, "bins": 12}}).geometry
        source = GeometrySource(config, lambda path, shape, name: np.load(path))
        self.geometry, self.reference = source.base(SHAPE), settings.get("monitor_reference")
        self.reduction = Reduction(
            self.next_batch, lambda n: [], lambda: 0, source, device, decode_into, self.published.append,
            ReductionSettings(**settings), clock,
        )  # fmt: skip

    def next_batch(self, max_frames: int, timeout_s: float) -> Sequence[StreamMessage]:
        return self.messages.pop(0)

    def feed(self, *batches: list[StreamMessage]) -> None:
        self.messages += batches
        while self.messages:
            self.reduction.step()

    def all(self, kind: type[T]) -> list[T]:
        return [result for result in self.published if isinstance(result, kind)]

    def expected(self, numbers: Sequence[int], i0: Sequence[float] = ()) -> RingSums:
        """The sums of these frames, from the specification."""
        table = self.geometry.bin_table, self.geometry.norm_q, self.geometry.bins
        sums = reference.integrate(PIXELS[list(numbers)].reshape(len(numbers), -1), *table, Validity.of(U2))
        exposure = monitor.exposure(i0, REFERENCE) if self.reference else None
        return RingSums.none_of(self.geometry, self.reference).plus_rows(sums.rows(StaticSums.of(*table), exposure))


@pytest.fixture(scope="module")
def integrators() -> dict[tuple[object, ...], BatchIntegrator]:
    """Those that were made: making one takes longer than all else."""
    return {}


@pytest.fixture
def make(
    tmp_path: Path,
    device: cl.Device,
    clock: FakeClock,
    integrators: dict[tuple[object, ...], BatchIntegrator],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    (tmp_path / "a.poni").write_text(synthetic.PONI)

    def known(geometry: Geometry, dtype: np.dtype[Any], device: cl.Device, **settings: Any) -> BatchIntegrator:
        key = (geometry.digest, dtype, device, settings["monitored"])
        if key not in integrators:
            integrators[key] = BatchIntegrator(geometry, dtype, device, **settings)
        return integrators[key]

    monkeypatch.setattr("ringwatch_gpu.geometry_cache.default_folder", lambda: tmp_path)
    monkeypatch.setattr("ringwatch.reduction.pipeline.BatchIntegrator", known)
    made: list[Fed] = []

    def make(**settings: Any) -> Fed:
        made.append(Fed(device, clock, tmp_path / "a.poni", **settings))
        return made[-1]

    yield make
    for fed in made:
        fed.reduction.close()


def start(series: int = 1, sample: str | None = "CeO2", dtype: np.dtype[Any] = U2, **said: Any) -> SeriesStart:
    return SeriesStart(series, f"id{series}", shape=SHAPE, dtype=dtype, sample=sample, **said)


def end(series: int = 1) -> SeriesEnd:
    return SeriesEnd(series, f"id{series}")


def frames(numbers: Sequence[int], series: int = 1, spacing_s: float = 0.0, i0: Sequence[float] = ()) -> list[Frame]:
    monitors = i0 or [float("nan")] * len(numbers)
    return [
        Frame(series, n, SHAPE, U2, "none", PIXELS[n].tobytes(), f"id{series}", 100.0 + spacing_s * n, i0=value)
        for n, value in zip(numbers, monitors, strict=True)
    ]


def assert_sums(fed: Fed, result: SeriesResult, numbers: Sequence[int], i0: Sequence[float] = ()) -> None:
    """Sums, summed image and its profile are those of these frames."""
    expected = fed.expected(numbers, i0)
    assert result.n_frames == len(numbers)
    assert np.array_equal(result.sums, expected.words)
    assert result.origin.digest == expected.digest
    used, valid = ~fed.geometry.mask, PIXELS[list(numbers)] < 65535
    if len(numbers) > 1:
        assert result.image_sum is not None
        assert np.array_equal(result.image_sum[used], np.where(valid, PIXELS[list(numbers)], 0).sum(0)[used])


# ---------------------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize("length", [1, 3, 8, 11, 40])
def test_blocks_of_frames_have_their_own_results_wherever_batches_end(make: Any, length: int) -> None:
    fed, window = make(window=WindowConfig(kind="every", frames=length)), length
    begun = start(frames_expected=20)
    fed.feed([begun], frames(range(1)), frames(range(1, 9)), frames(range(9, 17)), frames(range(17, 20)), [end()])
    results = fed.all(SeriesResult)
    blocks = [range(first, min(first + length, 20)) for first in range(0, 20, length)]
    assert len(results) == len(blocks)
    for number, (result, block) in enumerate(zip(results, blocks, strict=True), start=1):
        assert_sums(fed, result, block)
        assert (result.origin.generation, result.window) == (number, f"every {window} frames")
        assert result.fates.reduced == len(block)
    assert sum((result.fates for result in results[1:]), results[0].fates) == begun.fates
    assert [n for row in fed.all(FrameRows) for n in row.frame.tolist()] == list(range(20))
    assert {row.origin.generation for row in fed.all(FrameRows)} == set(range(1, len(blocks) + 1))
    last = {snapshot.origin.generation: snapshot for snapshot in fed.all(Snapshot)}
    assert [snapshot.n_frames for snapshot in last.values()] == [len(block) for block in blocks]
    assert last[1].frames_expected == min(length, 20)
    assert all(profile.window == f"every {window} frames" for profile in fed.all(Profile))


def test_a_block_of_time_ends_with_the_first_frame_after_it(make: Any) -> None:
    fed = make(window=WindowConfig(kind="every", seconds=1.0))
    fed.feed([start()], frames(range(8), spacing_s=0.3), frames(range(8, 12), spacing_s=0.3), [end()])
    results = fed.all(SeriesResult)
    assert [result.n_frames for result in results] == [4, 4, 4]
    for result, first in zip(results, (0, 4, 8), strict=True):
        assert_sums(fed, result, range(first, first + 4))
    assert [result.reason for result in results] == ["window", "window", "end"]


def test_each_block_is_decided_upon_anew(make: Any) -> None:
    stop = StopConfig(metric="counts", target=1.0, min_frames=1, max_frames=4)
    fed = make(window=WindowConfig(kind="every", frames=6), stop=stop, decision_gap_s=0.0)
    fed.feed([start()], *[frames([n]) for n in range(12)], [end()])
    assert {d.origin.generation for d in fed.all(Decision) if d.reason_code == "max_frames"} == {1, 2}
    assert max(decision.n_frames for decision in fed.all(Decision)) == 6


# --------------------------------------------------------------------------------------------------- the last frames


def test_the_union_is_that_of_the_last_frames_and_all_else_of_all(make: Any) -> None:
    fed = make(window=WindowConfig(kind="last", frames=5))
    fed.feed([start()], frames(range(8)), frames(range(8, 11)), [end()])
    union, summed = (
        [profile for profile in fed.all(Profile) if profile.source == source][-1] for source in ("union", "accumulated")
    )
    for name, values in vars(fed.expected(range(6, 11)).profile).items():
        assert np.array_equal(getattr(union, name), values), name
    assert (union.window, union.n_frames) == ("last 5 frames", 5)
    assert (summed.window, summed.n_frames) == ("all", 11)
    (result,) = fed.all(SeriesResult)
    assert_sums(fed, result, range(11))
    assert result.window == "all"
    assert fed.all(Snapshot)[-1].window == "last 5 frames"


def test_a_window_too_large_for_the_memory_refuses_the_series(make: Any) -> None:
    fed = make(window=WindowConfig(kind="last", frames=10_000_000))
    fed.feed([start()], frames(range(3)), [end()])
    (event,) = fed.all(SeriesEvent)
    assert event.event == "abandoned"
    assert "10000000 frames of 12 bins" in event.reason


# ------------------------------------------------------------------------------------------------------------ samples


def test_series_of_a_sample_are_one_accumulation_until_the_sample_changes(make: Any) -> None:
    fed, first, second = make(scope="sample"), start(1, frames_expected=9), start(2, frames_expected=4)
    fed.feed([first], frames(range(8), 1), frames([8], 1), [end(1)])
    assert fed.all(SeriesResult) == []
    assert fed.all(Profile)[-1].n_frames == 9, "evaluated at the end of each series"
    fed.feed([second], frames(range(9, 13), 2), [end(2)])
    snapshot = fed.all(Snapshot)[-1]
    assert (snapshot.n_frames, snapshot.frames_expected, snapshot.fates.reduced) == (13, 13, 4)
    fed.feed([start(3, "LaB6")], frames(range(13, 16), 3), [end(3)])
    (result,) = fed.all(SeriesResult)
    assert_sums(fed, result, range(13))
    assert (result.origin.key, result.origin.series, result.missing) == (("id1", 1), 2, ())
    assert result.fates == first.fates + second.fates
    fed.reduction.conclude("shutdown")
    assert_sums(fed, fed.all(SeriesResult)[-1], range(13, 16))
    fed.reduction.conclude("shutdown")
    assert len(fed.all(SeriesResult)) == 2
    events = [(event.event, event.origin.key) for event in fed.all(SeriesEvent) if event.event == "start"]
    assert events == [("start", ("id1", 1)), ("start", ("id1", 1)), ("start", ("id3", 1))]


def test_another_geometry_or_no_name_begins_a_new_accumulation(make: Any) -> None:
    fed, mask = make(scope="sample"), np.zeros(SHAPE, np.bool_)
    mask[:20] = True
    for series, said in enumerate([{}, {"pixel_mask": mask}, {"sample": None}, {"sample": None}], start=1):
        fed.feed([start(series, **said)], frames(range(3), series), [end(series)])
    fed.reduction.conclude("shutdown")
    assert [result.n_frames for result in fed.all(SeriesResult)] == [3, 3, 6]


def test_another_pixel_type_is_another_generation_of_the_sample(make: Any) -> None:
    fed, wide = make(scope="sample"), np.dtype(np.uint32)
    fed.feed([start(1)], frames(range(3), 1), [end(1)])
    pixels = np.where(PIXELS == 65535, wide.type(2**32 - 1), PIXELS.astype(wide))
    batch = [Frame(2, n, SHAPE, wide, "none", pixels[n].tobytes(), "id2") for n in range(3, 7)]
    fed.feed([start(2, dtype=wide)], batch, [end(2)])
    fed.reduction.conclude("shutdown")
    first, second = fed.all(SeriesResult)
    assert_sums(fed, first, range(3))
    assert_sums(fed, second, range(3, 7))
    assert (first.origin.key, second.origin.key) == (("id1", 1), ("id1", 2))


def test_blocks_go_on_over_the_series_of_a_sample(make: Any) -> None:
    fed = make(scope="sample", window=WindowConfig(kind="every", frames=4))
    fed.feed([start(1)], frames(range(6), 1), [end(1)], [start(2)], frames(range(6, 12), 2), [end(2)])
    fed.reduction.conclude("shutdown")
    for number, result in enumerate(fed.all(SeriesResult), start=1):
        assert_sums(fed, result, range(4 * number - 4, 4 * number))
        assert result.origin.key == ("id1", number)
    assert len(fed.all(SeriesResult)) == 3


def test_a_series_that_is_refused_does_not_end_the_sample(make: Any) -> None:
    fed, floats = make(scope="sample"), np.dtype(np.float32)
    fed.feed([start(1)], frames(range(3), 1), [end(1)])
    batch = [Frame(2, 0, SHAPE, floats, "none", np.ones(SHAPE, floats).tobytes(), "id2")]
    fed.feed([start(2, "CeO2", dtype=None)], batch, [end(2)], [start(3)], frames(range(3, 5), 3), [end(3)])
    fed.reduction.conclude("shutdown")
    assert sum(result.n_frames for result in fed.all(SeriesResult)) == 5


# ------------------------------------------------------------------------------------------------------ asked by hand


def test_a_reset_tells_what_is_added_up_and_begins_anew(make: Any) -> None:
    fed, begun = make(), start(frames_expected=20)
    fed.feed([begun], frames(range(8)), frames(range(8, 11)))
    fed.reduction.begin_anew()
    fed.feed(frames(range(11, 19)), [end()])
    first, second = fed.all(SeriesResult)
    assert_sums(fed, first, range(11))
    assert_sums(fed, second, range(11, 19))
    assert [(one.reason, one.origin.key) for one in (first, second)] == [("reset", ("id1", 1)), ("end", ("id1", 2))]
    assert first.fates + second.fates == begun.fates
    told = [(event.event, event.origin.generation) for event in fed.all(SeriesEvent)]
    assert told == [("start", 1), ("ready", 1), ("ready", 2), ("end", 2)]


def test_a_reset_goes_on_with_the_rule_from_the_beginning(make: Any) -> None:
    stop = StopConfig(metric="counts", target=1.0, min_frames=1, max_frames=4)
    fed = make(stop=stop, decision_gap_s=0.0)
    fed.feed([start()], *[frames([n]) for n in range(3)])
    fed.reduction.begin_anew()
    fed.feed(*[frames([n]) for n in range(3, 9)], [end()])
    reached = [decision for decision in fed.all(Decision) if decision.reason_code == "max_frames"]
    assert {decision.origin.generation for decision in reached} == {2}
    assert reached[0].n_frames == 4


def test_a_reset_before_any_frame_and_between_series_does_no_harm(make: Any) -> None:
    fed = make(scope="sample")
    fed.reduction.begin_anew()
    fed.feed([start(1)])
    fed.reduction.begin_anew()
    fed.feed(frames(range(3), 1), [end(1)])
    fed.reduction.begin_anew()
    fed.feed([start(2)], frames(range(3, 7), 2), [end(2)])
    fed.reduction.conclude("shutdown")
    first, second = fed.all(SeriesResult)
    assert_sums(fed, first, range(3))
    assert_sums(fed, second, range(3, 7))
    assert (first.reason, first.origin.key, second.origin.key) == ("reset", ("id1", 1), ("id2", 1))


def test_a_reset_within_a_series_of_a_sample_keeps_none_of_its_frames(make: Any) -> None:
    fed = make(scope="sample")
    fed.feed([start(1)], frames(range(3), 1), [end(1)], [start(2)], frames(range(3, 5), 2))
    fed.reduction.begin_anew()
    fed.feed(frames(range(5, 8), 2), [end(2)], [start(3)], frames(range(8, 10), 3), [end(3)])
    fed.reduction.conclude("shutdown")
    first, second = fed.all(SeriesResult)
    assert_sums(fed, first, range(5))
    assert_sums(fed, second, range(5, 10))
    assert (first.origin.key, second.origin.key) == (("id1", 1), ("id1", 2))


@pytest.mark.parametrize("is_late", [False, True], ids=["between-series", "while-its-frames-are-reduced"])
def test_another_sample_begins_with_the_next_series(make: Any, is_late: bool) -> None:
    """Even if the last frames of the one before are not reduced yet."""
    fed = make(scope="sample")
    fed.feed([start(1, None)], frames(range(3), 1))
    if is_late:
        fed.reduction.change_sample("LaB6")
    fed.feed(frames(range(3, 5), 1), [end(1)])
    if not is_late:
        fed.reduction.change_sample("LaB6")
    fed.feed([start(2, None)], frames(range(5, 7), 2), [end(2)], [start(3, None)], frames(range(7, 9), 3), [end(3)])
    fed.reduction.conclude("shutdown")
    first, second = fed.all(SeriesResult)
    assert_sums(fed, first, range(5))
    assert_sums(fed, second, range(5, 9))
    assert (first.reason, first.origin.sample, second.origin.sample) == ("another sample", "unnamed", "LaB6")


def test_who_asks_while_the_next_series_comes_in_means_that_one(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = make(scope="sample")
    fed.feed([start(1, None)], frames(range(3), 1), [end(1)])

    def asked_meanwhile(max_frames: int, timeout_s: float) -> list[StreamMessage]:
        fed.reduction.change_sample("LaB6")
        return [start(2, None)]

    with monkeypatch.context() as patch:
        patch.setattr(fed.reduction, "_get_batch", asked_meanwhile)
        fed.reduction.step()
    fed.feed(frames(range(3, 5), 2), [end(2)], [start(3, None)], frames(range(5, 7), 3), [end(3)])
    fed.reduction.conclude("shutdown")
    assert [(one.origin.sample, one.n_frames) for one in fed.all(SeriesResult)] == [("unnamed", 3), ("LaB6", 4)]


def test_the_same_name_again_is_another_sample_and_the_headers_name_counts(make: Any) -> None:
    fed = make(scope="sample")
    for series in (1, 2):
        fed.reduction.change_sample("LaB6")
        fed.feed([start(series, "CeO2")], frames(range(3), series), [end(series)])
    fed.reduction.conclude("shutdown")
    assert [(one.n_frames, one.origin.sample) for one in fed.all(SeriesResult)] == [(3, "CeO2"), (3, "CeO2")]


# ------------------------------------------------------------------------------------------------------------- frames


def test_single_frames_are_told_and_nothing_is_added_up(make: Any, clock: FakeClock) -> None:
    fed = make(scope="frame")
    fed.feed([start()], frames(range(8)))
    clock.advance(5.0)
    fed.feed(frames(range(8, 11)), [end()])
    assert [n for row in fed.all(FrameRows) for n in row.frame.tolist()] == list(range(11))
    assert fed.all(Profile) == []
    snapshot = fed.all(Snapshot)[-1]
    assert (snapshot.n_frames, snapshot.union, snapshot.accumulated, snapshot.fates.reduced) == (11, None, None, 11)
    (result,) = fed.all(SeriesResult)
    assert (result.n_frames, result.sums, result.image_sum) == (11, None, None)


# ------------------------------------------------------------------------------------------------------------ monitor


def test_frames_are_weighed_with_their_monitor_and_those_without_are_excluded(make: Any) -> None:
    fed, begun = make(monitor_reference=REFERENCE), start()
    i0 = [1000.0, 500.0, float("nan"), 2000.0, 0.0, -3.0, 900.0, 1e12]
    fed.feed([begun], frames(range(8), i0=i0), frames([8], i0=[1100.0]), frames([9], i0=[0.0]), [end()])
    (result,) = fed.all(SeriesResult)
    kept, seen = [0, 1, 3, 6, 8], [1000.0, 500.0, 2000.0, 900.0, 1100.0]
    assert_sums(fed, result, kept, seen)
    assert (begun.fates.reduced, begun.fates.excluded) == (5, {"no monitor": 5})
    rows = fed.all(FrameRows)
    assert np.concatenate([row.frame for row in rows]).tolist() == kept
    monitors = [row.monitor for row in rows if row.monitor is not None]
    np.testing.assert_allclose(np.concatenate(monitors), np.array(seen) / REFERENCE, rtol=1e-6)
    assert (result.monitor_reference, result.exposure) == (REFERENCE, int(monitor.exposure(seen, REFERENCE).sum()))
    used = ~fed.geometry.mask
    lost = (PIXELS[kept] == 65535) * monitor.exposure(seen, REFERENCE)[:, np.newaxis, np.newaxis]
    assert result.image_lost_exposure is not None
    assert np.array_equal(result.image_lost_exposure[used], lost.sum(0)[used])


def test_intensities_are_those_at_the_reference(make: Any) -> None:
    """Twice the monitor for the same counts: half the intensity, in union and summed image, and in each frame."""
    profiles = []
    for i0 in (REFERENCE, 2 * REFERENCE):
        fed: Fed = make(monitor_reference=REFERENCE)
        fed.feed([start()], frames(range(4), i0=[i0] * 4), [end()])
        profiles.append({profile.source: profile for profile in fed.all(Profile)})
    for source in ("union", "accumulated"):
        one, two = (found[source] for found in profiles)
        np.testing.assert_allclose(two.intensity, one.intensity / 2, rtol=1e-12)
        np.testing.assert_allclose(two.normalization, one.normalization * 2, rtol=1e-12)
        np.testing.assert_allclose(two.variance, one.variance, rtol=1e-9)


def test_a_series_without_any_monitor_gives_no_result(make: Any) -> None:
    fed = make(monitor_reference=REFERENCE)
    fed.feed([start()], frames(range(4)), [end()])
    assert fed.all(FrameRows) == fed.all(SeriesResult) == []
