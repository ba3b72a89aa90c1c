"""One accumulation on every device: rows, union and summed image are numpy's; a device that fails is noticed."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyopencl as cl
import pytest
from numpy.typing import NDArray
from tests.conftest import FakeClock
from tests.kernels import synthetic

from ringwatch.messages import FrameRows, Origin, Profile, Spottiness
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch_gpu import reference
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.errors import DeviceError
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.noise import PixelVariance
from ringwatch_gpu.reference_rejection import reject
from ringwatch_gpu.reference_splitting import evaluate_image
from ringwatch_gpu.rejection import PIECES, Rejection, SigmaClip
from ringwatch_gpu.sectors import equal_groups
from ringwatch_gpu.spottiness import spottiness
from ringwatch_gpu.sums import ErrorModel, RingSums
from ringwatch_gpu.validity import Validity

U2 = np.dtype(np.uint16)
GEOMETRY = synthetic.geometry((43, 37), 9)
USED = GEOMETRY.bin_table < GEOMETRY.bins
NORM = GEOMETRY.norm_q * GEOMETRY.norm_quantum
VALIDITY = Validity.of(U2)
NUMBERS = np.arange(11)
FRAMES = synthetic.frames(len(NUMBERS), GEOMETRY.shape, U2, 300, invalid=0.1)
FRAMES[:, 5, 7] = 65535  # never valid
FLAT = FRAMES.reshape(len(NUMBERS), -1)
VALID = ~VALIDITY.invalid(FLAT)
SUM = np.where(VALID, FLAT, 0).sum(0)
TIMES_VALID = VALID.sum(0)
ORIGIN = Origin(1, "A", "CeO2", 1, GEOMETRY.digest)

# Float64 sums in different orders; a frame's variance is the difference of sums some ten times larger than itself.
RTOL = 1e-11


@pytest.fixture(scope="module")
def integrator(device: cl.Device) -> BatchIntegrator:
    return BatchIntegrator(GEOMETRY, U2, device)


@pytest.fixture
def accumulator(integrator: BatchIntegrator, clock: FakeClock) -> Accumulator:
    return accumulation(integrator, clock)


def accumulation(integrator: BatchIntegrator, clock: FakeClock, model: ErrorModel = "azimuthal") -> Accumulator:
    """A new one, with nothing in it."""
    return Accumulator(ORIGIN, integrator, VALIDITY, SpotStatistics.of(integrator.geometry), clock, error_model=model)


def add(accumulator: Accumulator, numbers: NDArray[np.int64]) -> FrameRows:
    accumulator.integrator.slots[: len(numbers)] = FRAMES[numbers]
    return accumulator.add(numbers)


def add_all(accumulator: Accumulator) -> None:
    add(accumulator, NUMBERS[:8])
    add(accumulator, NUMBERS[8:])


def by_hand(signal: NDArray[Any], norm: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[float, float]:
    """Spottiness and weighted spottiness of pixels (..., pixels), in two passes over those of each bin."""
    intensity, relative = [], []
    for number in range(GEOMETRY.bins):
        inside = valid & (GEOMETRY.bin_table == number)
        s, g = signal[inside].astype(float), np.broadcast_to(norm, inside.shape)[inside]
        intensity.append(s.sum() / max(g.sum(), 1e-9))
        relative.append(((s - g * intensity[-1]) ** 2).sum() / max(1.0, s.sum()) ** 2)
    return float(np.sqrt(np.mean(relative))), float(np.sqrt(np.average(relative, weights=intensity)))


def numbers_of(found: Spottiness) -> tuple[float, float]:
    return found.spottiness, found.spottiness_weighted


def test_rows_say_how_each_frame_looks(accumulator: Accumulator, clock: FakeClock) -> None:
    rows = add(accumulator, NUMBERS[3:8])
    assert (rows.origin, rows.time_ns, list(rows.frame)) == (ORIGIN, clock.time_ns(), [3, 4, 5, 6, 7])
    for row, number in enumerate(rows.frame):
        expected = by_hand(FLAT[number], NORM, VALID[number])
        assert (rows.spottiness[row], rows.spottiness_weighted[row]) == pytest.approx(expected, rel=RTOL)
        assert rows.total_signal[row] == FLAT[number][USED & VALID[number]].sum()
        assert rows.masked_pixels[row] == GEOMETRY.pixels - (USED & VALID[number]).sum()


def test_the_union_is_that_of_all_pixels_of_all_frames(accumulator: Accumulator) -> None:
    add_all(accumulator)
    assert accumulator.n_frames == 11
    assert sum(accumulator.union.row("signal")) == SUM[USED].sum()
    assert sum(accumulator.union.row("count")) == TIMES_VALID[USED].sum()
    assert numbers_of(accumulator.union_spottiness()) == pytest.approx(by_hand(FLAT, NORM, VALID), rel=RTOL)


def test_accumulated_are_the_statistics_of_the_summed_and_the_averaged_image(accumulator: Accumulator) -> None:
    add_all(accumulator)
    assert accumulator.accumulated is None
    accumulator.evaluate()
    found, ever = accumulator.accumulated, TIMES_VALID > 0
    assert found is not None
    assert found.n_frames == 11
    assert numbers_of(found.spottiness) == pytest.approx(by_hand(SUM, NORM * TIMES_VALID, ever), rel=RTOL)
    average = SUM / np.maximum(TIMES_VALID, 1)
    assert numbers_of(found.averaged) == pytest.approx(by_hand(average, NORM, ever), rel=RTOL)


def test_sectors_of_the_first_frame_of_a_batch_are_sampled(
    accumulator: Accumulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[NDArray[np.uint64]] = []
    monkeypatch.setattr(accumulator._spots, "add_sectors", sampled.append)
    add(accumulator, NUMBERS[3:8])
    accumulator.sample()
    groups = equal_groups(GEOMETRY.bins)
    assert np.array_equal(sampled, [reference.sector_sums(FLAT[3], GEOMETRY, groups, VALIDITY)])


def test_an_evaluation_brings_statistics_and_what_decides(accumulator: Accumulator) -> None:
    add_all(accumulator)
    accumulator.sample()
    assert not accumulator.measurements
    statistics = accumulator.evaluate()
    assert accumulator.accumulated is not None
    assert accumulator.accumulated.statistics is statistics
    assert statistics.n_frames == 11
    found = accumulator.measurements["spottiness"].estimate
    assert found == statistics.measures["spottiness"]
    assert found.value == pytest.approx(accumulator.accumulated.spottiness.spottiness, rel=RTOL)
    assert accumulator.drift_since is None


def test_profiles_are_told_with_the_number_of_frames_behind_them(accumulator: Accumulator) -> None:
    add(accumulator, NUMBERS[:8])
    assert [(p.source, p.n_frames) for p in accumulator.profiles()] == [("union", 8)]
    accumulator.evaluate()
    add(accumulator, NUMBERS[8:])
    union, accumulated = accumulator.profiles()
    assert (union.n_frames, accumulated.source, accumulated.n_frames) == (11, "accumulated", 8)
    assert union.count.sum() == TIMES_VALID[USED].sum()
    assert accumulated.count.sum() == (USED & VALID[:8].any(0)).sum()
    assert np.array_equal(union.radial, GEOMETRY.radial)


def test_a_new_accumulation_begins_with_nothing(accumulator: Accumulator, clock: FakeClock) -> None:
    add_all(accumulator)
    second = accumulation(accumulator.integrator, clock)
    add(second, NUMBERS[:1])
    second.evaluate()
    assert second.n_frames == 1
    assert np.array_equal(second.integrator.read_image()[0].ravel(), np.where(USED & VALID[0], FLAT[0], 0))


def test_profiles_without_outliers_are_told_as_such(
    device: cl.Device, accumulator: Accumulator, clock: FakeClock
) -> None:
    rejecting = accumulation(BatchIntegrator(GEOMETRY, U2, device, rejection=Rejection()), clock)
    for one in (rejecting, accumulator):
        add_all(one)
        one.evaluate()
    assert accumulator.reject_outliers() == []
    found = {profile.kind: profile for profile in rejecting.reject_outliers()}
    assert list(found) == ["sigma_clip", "quantile", "median_clip"]
    for kind, sums in reject(SUM.astype("u8"), 11 - TIMES_VALID.astype("u4"), 11, GEOMETRY, Rejection()).items():
        assert (found[kind].source, found[kind].n_frames, found[kind].warning) == ("accumulated", 11, None)
        assert np.array_equal(found[kind].signal, sums[0])
        assert np.array_equal(found[kind].radial, GEOMETRY.radial)
    assert not np.array_equal(found["quantile"].signal, found["sigma_clip"].signal)


@pytest.mark.parametrize(("counts", "warned"), [(10, True), (30, False)])
def test_quantiles_of_few_counts_are_warned_of(device: cl.Device, clock: FakeClock, counts: int, warned: bool) -> None:
    accumulator = accumulation(BatchIntegrator(one_ring(), U2, device, rejection=Rejection()), clock)
    accumulator.integrator.slots[0] = counts
    accumulator.add(NUMBERS[:1])
    accumulator.evaluate()
    warnings = {profile.kind: profile.warning for profile in accumulator.reject_outliers()}
    assert ("fewer than 20 counts" in (warnings.pop("quantile") or "")) is warned
    assert warnings == {"sigma_clip": None, "median_clip": None}


def test_what_is_done_in_pieces_is_told_with_the_frames_it_began_with(device: cl.Device, clock: FakeClock) -> None:
    rejecting = accumulation(BatchIntegrator(GEOMETRY, U2, device, rejection=Rejection()), clock)
    add(rejecting, NUMBERS[:8])
    rejecting.evaluate()
    assert rejecting.go_on_rejecting() == [], "nothing was begun"
    rejecting.begin_rejection()
    add(rejecting, NUMBERS[8:])
    rejecting.begin_rejection()  # too early: it goes on
    found = [rejecting.go_on_rejecting() for _ in range(PIECES)]
    assert not any(found[:-1])
    assert [profile.n_frames for profile in found[-1]] == [8, 8, 8]
    assert rejecting.go_on_rejecting() == []


@pytest.mark.parametrize("model", ["azimuthal", "poisson"])
def test_rows_carry_the_profile_and_on_request_the_sums_of_each_frame(
    integrator: BatchIntegrator, clock: FakeClock, model: ErrorModel
) -> None:
    statistics = SpotStatistics.of(GEOMETRY)
    keeping = Accumulator(ORIGIN, integrator, VALIDITY, statistics, clock, error_model=model, keeps_frame_sums=True)
    profiles = add(keeping, NUMBERS[:3]).profiles
    assert profiles is not None
    assert profiles.sums is not None
    assert profiles.kind == "mean"
    for row in range(3):
        alone = RingSums(profiles.sums[row], 1, ORIGIN.digest, GEOMETRY.norm_quantum)
        inside = USED & VALID[row]
        assert np.array_equal(
            alone.row("signal"), np.bincount(GEOMETRY.bin_table[inside], FLAT[row][inside], GEOMETRY.bins)
        )
        expected = alone.profile if model == "azimuthal" else alone.profile.with_variance(alone.profile.signal)
        assert np.array_equal(profiles.intensity[row], expected.intensity.astype("f4"))
        assert np.array_equal(profiles.sem[row], expected.sem.astype("f4"))
    assert (profiles.intensity.dtype, profiles.sem.dtype) == (np.float32, np.float32)
    plain = add(accumulation(integrator, clock), NUMBERS[:3]).profiles
    assert plain is not None
    assert plain.sums is None


@pytest.mark.parametrize("model", ["poisson", "hybrid"])
def test_errors_by_counts_change_the_profiles_and_no_spottiness(
    integrator: BatchIntegrator, clock: FakeClock, model: ErrorModel
) -> None:
    """pyFAI's variance of the summed image: at least one for each pixel; the union's is its counts."""
    found: dict[str, list[Profile]] = {}
    spottiness = []
    for name in ("azimuthal", model):
        accumulator = accumulation(integrator, clock, name)
        add(accumulator, NUMBERS[:8] * 0 + NUMBERS[5])
        accumulator.evaluate()
        assert accumulator.accumulated is not None
        spottiness.append((accumulator.accumulated.spottiness, accumulator.union_spottiness()))
        found[name] = accumulator.profiles()
    assert spottiness[0] == spottiness[1]
    assert {profile.error_model for profile in found[model]} == {model}
    used = USED & VALID[5]
    counts = 8 * FLAT[5][used].astype(float)
    assert (counts == 0).any()
    index = GEOMETRY.bin_table[used]
    union, accumulated = found[model]
    assert np.array_equal(union.variance, np.bincount(index, counts, GEOMETRY.bins))
    assert np.array_equal(accumulated.variance, np.bincount(index, np.maximum(counts, 1), GEOMETRY.bins))
    assert np.array_equal(accumulated.intensity, found["azimuthal"][1].intensity)
    filled = accumulated.count > 0
    np.testing.assert_allclose(
        accumulated.sem[filled], (np.sqrt(accumulated.variance) / accumulated.normalization)[filled], rtol=1e-12
    )
    assert not np.allclose(accumulated.sem, found["azimuthal"][1].sem)


def test_rings_that_are_clipped_away_are_warned_of(device: cl.Device, clock: FakeClock) -> None:
    """Few bright pixels raise the mean so far that the counts of no pixel explain its distance; hybrid keeps them."""
    warnings, kept = {}, {}
    for model in get_args(ErrorModel):
        rejection = Rejection(SigmaClip(3.0, 5), None, median_clip=False, error_model=model)
        accumulator = accumulation(BatchIntegrator(one_ring(), U2, device, rejection=rejection), clock, model)
        accumulator.integrator.slots[0] = 3
        accumulator.integrator.slots[0].reshape(-1)[::10] = 1000
        accumulator.add(NUMBERS[:1])
        accumulator.evaluate()
        (profile,) = accumulator.reject_outliers()
        warnings[model], kept[model] = profile.warning, profile.count.sum()
    assert kept == {"azimuthal": 100, "poisson": 0, "hybrid": 100}
    assert "no pixel is left in 100% of the bins" in (warnings.pop("poisson") or "")
    assert warnings == {"azimuthal": None, "hybrid": None}


@pytest.mark.parametrize("word", ["low", "high", "lost"])
def test_a_summed_image_that_is_not_the_union_is_a_device_error(accumulator: Accumulator, word: str) -> None:
    add_all(accumulator)
    pixel = np.flatnonzero(USED)[17]
    integrator = accumulator.integrator
    buffer, content = getattr(integrator._image, word), np.empty(GEOMETRY.pixels, np.uint32)
    cl.enqueue_copy(integrator._queue, content, buffer)
    content[pixel] ^= 1
    cl.enqueue_copy(integrator._queue, buffer, content)
    with pytest.raises(DeviceError, match=r"self-test failed on .* after 11 frames"):
        accumulator.evaluate()
    assert accumulator.accumulated is None


@pytest.mark.parametrize(
    ("contrast", "expected"), [(0, "smooth"), (199, "smooth"), (201, "mild"), (999, "mild"), (1001, "strong")]
)
def test_classes_of_spottiness(device: cl.Device, clock: FakeClock, contrast: int, expected: str) -> None:
    """One ring of 100 equal pixels, of which every tenth differs from the others by ``contrast``."""
    accumulator = accumulation(BatchIntegrator(one_ring(), U2, device), clock)
    accumulator.integrator.slots[0] = 100
    accumulator.integrator.slots[0].reshape(-1)[::10] += np.uint16(contrast)
    accumulator.add(NUMBERS[:1])
    found = accumulator.union_spottiness()
    mean = 100 + contrast / 10
    assert found.spottiness == pytest.approx(np.sqrt(9 * contrast**2) / (100 * mean), rel=1e-9)
    assert (found.spottiness_class, found.class_reason) == (expected, None)


def test_bins_that_are_no_pixel_wide_have_no_class(device: cl.Device, clock: FakeClock) -> None:
    geometry = replace(one_ring(), pixel_bins=False)
    accumulator = accumulation(BatchIntegrator(geometry, U2, device), clock)
    accumulator.integrator.slots[0] = 100
    accumulator.add(NUMBERS[:1])
    found = accumulator.union_spottiness()
    assert found.spottiness_class is None
    assert "one pixel" in (found.class_reason or "")


def one_ring() -> Geometry:
    """All pixels in one bin, all norms alike."""
    geometry = synthetic.geometry((10, 10), 1, masked=0)
    return replace(geometry, norm_q=np.full(geometry.pixels, 1 << 30, np.uint32))


# -------------------------------------------------------------------------------------------------------- split pixels


@pytest.fixture(scope="module")
def splitting(device: cl.Device, tmp_path_factory: pytest.TempPathFactory) -> BatchIntegrator:
    geometry = Geometry.from_poni(synthetic.PONI, splitting="full", cache_dir=tmp_path_factory.mktemp("geometry"))
    return BatchIntegrator(geometry, U2, device)


@pytest.fixture
def split(splitting: BatchIntegrator, clock: FakeClock) -> Accumulator:
    """Eight frames of split pixels, some of them invalid."""
    accumulator = accumulation(splitting, clock)
    splitting.slots[:] = synthetic.frames(8, splitting.geometry.shape, U2, 300, invalid=0.1)
    accumulator.add(NUMBERS[:8])
    return accumulator


def test_split_pixels_are_told_as_pyfai_tells_them(split: Accumulator) -> None:
    """What is published of the summed image is that of its parts; what is decided on has the same value."""
    split.evaluate()
    union, accumulated = split.profiles()
    np.testing.assert_allclose(accumulated.signal, union.signal, rtol=RTOL)
    np.testing.assert_allclose(accumulated.normalization, union.normalization, rtol=RTOL)
    total, lost = split.integrator.read_image()
    expected = evaluate_image(total.ravel(), lost.ravel(), 8, split.integrator.geometry)
    np.testing.assert_allclose(accumulated.variance, expected.summed.variance, rtol=1e-9)
    assert split.accumulated is not None
    published = ((split.accumulated.spottiness, expected.summed), (split.accumulated.averaged, expected.averaged))
    for found, profile in published:
        values = spottiness(profile, split.integrator.geometry.azimuth_fraction)
        assert numbers_of(found) == pytest.approx((values.plain, values.weighted), rel=1e-9)
    decided = split.measurements["spottiness"].estimate
    assert decided.value == pytest.approx(split.accumulated.spottiness.spottiness, rel=RTOL)
    assert decided.low < decided.value < decided.high


@pytest.mark.parametrize("model", ["poisson", "hybrid"])
def test_split_pixels_have_the_errors_of_their_counts(
    device: cl.Device, clock: FakeClock, tmp_path: Path, model: ErrorModel
) -> None:
    """Of single frames and the union sum c^2 s, of the summed image sum c^2 max(1, S)."""
    geometry = Geometry.from_poni(synthetic.PONI, splitting="full", cache_dir=tmp_path)
    integrator = BatchIntegrator(geometry, U2, device, tells_noise=True)
    accumulator = accumulation(integrator, clock, model)
    integrator.slots[:] = synthetic.frames(8, geometry.shape, U2, 1, invalid=0)
    total = integrator.slots.reshape(8, -1).sum(0, dtype=np.int64)
    frames = accumulator.add(NUMBERS[:8])
    accumulator.evaluate()
    union, accumulated = accumulator.profiles()
    assert geometry.splitting is not None
    entries = geometry.splitting.entries(np.flatnonzero(~geometry.mask.ravel()))
    for found, counts in ((union, total), (accumulated, np.maximum(total, 1))):
        variance = np.bincount(entries.bin, entries.share.astype(float) ** 2 * counts[entries.pixel], geometry.bins)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-9)
        assert found.error_model == model
    assert frames.profiles is not None
    norm = union.normalization / 8
    of_frames = np.sqrt((frames.profiles.sem.astype(float) ** 2).sum(0)) * norm
    np.testing.assert_allclose(of_frames, np.sqrt(union.variance), rtol=1e-5)


@pytest.mark.parametrize("dark", [None, 3.0])
def test_split_pixels_scatter_as_their_pixels_are_said_to(
    device: cl.Device, clock: FakeClock, tmp_path: Path, dark: float | None
) -> None:
    """Sum c^2 (gain s + readout^2) over the pixels of all frames, for the union and for the summed image."""
    geometry, model = Geometry.from_poni(synthetic.PONI, splitting="full", cache_dir=tmp_path), PixelVariance(2.0, 5.0)
    geometry = geometry if dark is None else geometry.signed(dark=np.full(geometry.shape, dark))
    integrator = BatchIntegrator(geometry, U2, device, tells_noise=True)
    accumulator = Accumulator(ORIGIN, integrator, VALIDITY, SpotStatistics.of(geometry), clock, variance=model)
    integrator.slots[:] = synthetic.frames(8, geometry.shape, U2, 90, invalid=0)
    signal = integrator.slots.reshape(8, -1).sum(0, dtype=np.int64) - 8 * (dark or 0)
    accumulator.add(NUMBERS[:8])
    accumulator.evaluate()
    assert geometry.splitting is not None
    entries = geometry.splitting.entries(np.flatnonzero(~geometry.mask.ravel()))
    noise = entries.share.astype(float) ** 2 * (2.0 * signal + 8 * 25.0)[entries.pixel]
    for found in accumulator.profiles():
        np.testing.assert_allclose(found.variance, np.bincount(entries.bin, noise, geometry.bins), rtol=1e-9)
        assert found.error_model == "variance"


def test_rows_of_split_pixels_count_whole_ones(split: Accumulator) -> None:
    frames = split.integrator.slots.reshape(8, -1)
    valid = ~VALIDITY.invalid(frames) & ~split.integrator.geometry.mask.ravel()
    rows = split.add(NUMBERS[:8])
    assert np.array_equal(rows.total_signal, np.where(valid, frames, 0).sum(1))
    assert np.array_equal(rows.masked_pixels, frames.shape[1] - valid.sum(1))


def test_a_wrong_sum_of_split_pixels_is_a_device_error(split: Accumulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tolerance of rounding is a millionth, not more."""
    image = split.integrator.split_image(8)
    assert image is not None
    wrong = replace(image, summed=replace(image.summed, signal=image.summed.signal * (1 + 1e-5)))
    monkeypatch.setattr(split.integrator, "split_image", lambda exposure: wrong)
    with pytest.raises(DeviceError, match=r"self-test failed on .* after 8 frames"):
        split.evaluate()
