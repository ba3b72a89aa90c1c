"""One series on every device: what is published when, and what becomes of every frame."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import pyopencl as cl
import pytest
from tests.conftest import FakeClock
from tests.kernels import synthetic

from ringwatch.config import StopConfig
from ringwatch.messages import (
    Frame,
    FrameRows,
    Profile,
    Result,
    SeriesEnd,
    SeriesEvent,
    SeriesResult,
    SeriesStart,
    SmallImage,
    Snapshot,
)
from ringwatch.reduction.accumulation import Accumulation
from ringwatch.reduction.series import SeriesReduction
from ringwatch.reduction.settings import ReductionSettings
from ringwatch.reduction.slots import SlotFiller
from ringwatch.reduction.viewing import Viewing
from ringwatch.stream.decompress import decode_into
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.rejection import Rejection

T = TypeVar("T")

U2 = np.dtype(np.uint16)
SHAPE = (12, 9)
GEOMETRY = synthetic.geometry(SHAPE, 4)
GAPS = GEOMETRY.mask


@pytest.fixture(scope="module")
def integrator(device: cl.Device) -> BatchIntegrator:
    return BatchIntegrator(GEOMETRY, U2, device)


class Played:
    """A series, and everything that was published."""

    def __init__(self, integrator: BatchIntegrator, filler: SlotFiller, clock: FakeClock, **settings: Any) -> None:
        self.start, self.settings = (
            SeriesStart(1, "A", shape=SHAPE, dtype=U2),
            ReductionSettings(**{"interval_s": 1.0} | settings),
        )
        self.published: list[Result] = []
        publish = self.published.append

        def given(geometry: Geometry, dtype: np.dtype[np.generic], negatives: bool) -> BatchIntegrator:
            assert (geometry, dtype, negatives) == (GEOMETRY, U2, False)
            return integrator

        self.accumulation = Accumulation(self.start, GEOMETRY, self.settings, clock)
        rest = (GAPS, given, filler, self.settings, publish, clock)
        self.series = SeriesReduction(self.start, self.accumulation, *rest)

    def reduce(self, *frames: Frame) -> int:
        """Reduce a batch; how many of its frames counted."""
        filling = self.series.begin(frames)
        return 0 if filling is None else self.series.reduce(filling)

    def kinds(self) -> list[str]:
        """What was published since the last look."""
        kinds = [r.event if isinstance(r, SeriesEvent) else type(r).__name__ for r in self.published]
        self.published.clear()
        return kinds

    def last(self, kind: type[T]) -> T:
        """The last result of a kind."""
        return next(result for result in reversed(self.published) if isinstance(result, kind))


@pytest.fixture
def played(integrator: BatchIntegrator, clock: FakeClock) -> Iterator[Played]:
    filler = SlotFiller(decode_into, threads=2)
    yield Played(integrator, filler, clock)
    filler.close()


def frame(number: int, value: int = 5, in_gaps: int = 5, cut_bytes: int = 0) -> Frame:
    pixels = np.where(GAPS, in_gaps, value).astype(U2)
    return Frame(1, number, SHAPE, U2, "none", pixels.tobytes()[: pixels.nbytes - cut_bytes], "A")


def test_a_malformed_frame_is_not_reduced(played: Played) -> None:
    assert played.reduce(frame(0), frame(1, cut_bytes=1), frame(2)) == 2
    assert (played.series.n_frames, played.last(FrameRows).frame.tolist()) == (2, [0, 2])
    assert (played.start.fates.reduced, played.start.fates.malformed) == (2, Counter(size=1))
    assert played.reduce(frame(3, cut_bytes=1)) == 0
    assert (played.start.fates.reduced, played.start.fates.malformed) == (2, Counter(size=2))


@pytest.mark.parametrize(("in_gaps", "invalid"), [(7, True), (0, False)])
def test_what_fills_the_gaps_is_invalid_elsewhere_too_but_zero_is_not(
    played: Played, in_gaps: int, invalid: bool
) -> None:
    played.reduce(frame(0, in_gaps=in_gaps))
    played.reduce(frame(1, value=in_gaps, in_gaps=in_gaps))
    assert played.last(FrameRows).masked_pixels == (GEOMETRY.pixels if invalid else GAPS.sum())


def test_rows_come_at_once_snapshots_ten_times_and_profiles_once_an_interval(played: Played, clock: FakeClock) -> None:
    assert played.kinds() == ["start", "ready"]
    played.reduce(frame(0))
    assert played.kinds() == ["FrameRows"]
    clock.advance(0.1001)
    played.series.keep_up()
    assert played.last(Snapshot).accumulated is None
    assert played.kinds() == ["Snapshot"]
    clock.advance(1.0)
    played.series.keep_up()
    assert played.kinds() == [], "nothing new"
    played.reduce(frame(1), frame(2))
    snapshot = played.last(Snapshot)
    assert snapshot.accumulated is not None
    assert (snapshot.n_frames, snapshot.accumulated.n_frames, snapshot.fates.reduced) == (3, 3, 3)
    assert played.kinds() == ["FrameRows", "Profile", "Profile", "Snapshot"]


def test_profiles_without_outliers_come_at_once_then_every_ten_intervals_and_at_the_end(
    device: cl.Device, integrator: BatchIntegrator, clock: FakeClock
) -> None:
    """Not at each decision, which would cost too much; made in pieces after the batches that follow."""
    filler = SlotFiller(decode_into, threads=1)
    rejecting = BatchIntegrator(GEOMETRY, U2, device, rejection=Rejection())
    stop = StopConfig(metric="spottiness", target=0.01, min_frames=1)
    played = Played(rejecting, filler, clock, stop=stop, decision_gap_s=0.1, interval_s=0.1)
    told: dict[str, list[int]] = defaultdict(list)
    told_until = 0
    for number in range(30):
        clock.advance(0.1001)
        played.reduce(frame(number))
        kinds = [result.kind for result in played.published[told_until:] if isinstance(result, Profile)]
        assert "median_clip" not in kinds, "a batch waits for all of the work"
        played.series.go_on_rejecting()
        told_until = len(played.published)
    played.series.finish(SeriesEnd(1, "A"))
    filler.close()
    for result in played.published:
        if isinstance(result, Profile) and result.source == "accumulated":
            told[result.kind].append(result.n_frames)
    assert told["sigma_clip"] == told["quantile"] == told["median_clip"]
    *during, last = told["sigma_clip"]
    assert during[0] == 1
    assert np.diff(during).min() >= 10
    assert last == 30
    assert len(told["mean"]) > len(during) + 1


def test_at_the_end_everything_is_told_once_more(played: Played) -> None:
    played.reduce(frame(0, 1), frame(2, 3))
    played.kinds()
    played.series.finish(SeriesEnd(1, "A", "timeout", missing=((1, 1),)))
    result = played.last(SeriesResult)
    assert (result.n_frames, result.reason, result.missing) == (2, "timeout", ((1, 1),))
    assert result.image_sum is not None
    np.testing.assert_array_equal(result.image_sum, np.where(GAPS, 0, 4))
    assert played.kinds() == ["Profile", "Profile", "Snapshot", "SeriesResult", "end"]


def test_a_series_without_a_frame_ends_without_results(played: Played) -> None:
    played.series.finish(SeriesEnd(1, "A", "abandoned"))
    assert played.kinds() == ["start", "ready", "abandoned"]


def test_a_batch_may_be_decoded_while_another_waits(played: Played) -> None:
    first, second = played.series.begin([frame(0, 1)]), played.series.begin([frame(1, 3)])
    for filling in (first, second):
        filling.finish()
    played.series.reduce(first)
    one = played.last(FrameRows).total_signal[0]
    played.series.reduce(second)
    assert played.last(FrameRows).total_signal[0] == 3 * one > 0


class Person:
    """Looks at the summed image once it is over."""

    is_watching = False

    def __init__(self) -> None:
        self.seen: list[SmallImage] = []

    def show(self, image: SmallImage) -> None:
        self.seen.append(image)


def test_the_last_image_is_shown_with_the_bins_of_its_pixels(played: Played, clock: FakeClock) -> None:
    person = Person()
    played.series._viewing = Viewing(person, clock)
    played.reduce(frame(0, in_gaps=0), frame(1, in_gaps=0))
    played.series.finish(SeriesEnd(1, "A"))
    (image,) = person.seen
    assert image.n_frames == 2
    assert np.array_equal(image.bins.ravel(), GEOMETRY.bin_table)
    used = image.bins < GEOMETRY.bins
    assert set(image.counts[used & ~GAPS].tolist()) == {10.0}
    assert np.isnan(image.counts[~used]).all()
