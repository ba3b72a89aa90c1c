"""Outlier-rejecting profiles: all devices and forms give the specification's bits, and the specification is right."""

from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import get_args

import numpy as np
import pyopencl as cl
import pytest
from numpy.typing import NDArray

from ringwatch_gpu import reference_rejection as reference
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.errors import OutOfDeviceMemory
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.reference_rejection import Bin
from ringwatch_gpu.rejection import PIECES, Rejection, SigmaClip, weight_unit
from ringwatch_gpu.sums import ErrorModel, RingProfile
from ringwatch_gpu.validity import Validity

from . import synthetic

U4 = np.dtype("u4")
SHAPE, BINS = synthetic.SHAPE, synthetic.BINS
ONE_FRAME = 2.0**30
"""Weight of a pixel of norm 1 that was valid in one frame."""


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


def rejections(device: cl.Device, form: Form, model: ErrorModel = "azimuthal") -> list[Rejection]:
    """What to test: everything at once; alone what PoCL's compiler, slow with barriers, compiles in seconds."""
    if form == "groups" and "Portable" in device.platform.name:
        clip = Rejection(SigmaClip(), None, median_clip=False, error_model=model)
        return [clip, replace(clip, sigma_clip=None, quantile=(0.5, 0.5))]
    return [Rejection(SigmaClip(), (0.5, 0.5), median_clip=True, error_model=model)]


def summed(geometry: Geometry, device: cl.Device, form: Form, rejection: Rejection, frames: NDArray) -> BatchIntegrator:
    """An integrator that has summed these frames."""
    integrator = BatchIntegrator(geometry, U4, device, form, rejection=rejection)
    for first in range(0, len(frames), 8):
        part = frames[first : first + 8]
        integrator.slots[: len(part)] = part
        integrator.integrate(len(part), Validity.of(U4))
    return integrator


def assert_specified(integrator: BatchIntegrator, rejection: Rejection, n_frames: int) -> dict[str, RingProfile]:
    total, lost = integrator.read_image()
    geometry = integrator.geometry
    expected = reference.reject(total.ravel(), lost.ravel(), n_frames, geometry, rejection)
    found = integrator.reject_outliers(n_frames)
    assert set(found) == set(expected) == set(rejection.methods)
    quantum = geometry.norm_quantum
    for method, sums in expected.items():
        signal, norm, norm_sq, count, variance = sums
        same = RingProfile.of(signal, variance, norm * quantum, norm_sq * quantum**2, count)
        for name, values in vars(same).items():
            assert np.array_equal(getattr(found[method], name), values), f"{name} of {method}"
    return found


def spotty(shape: tuple[int, int], mean: float, n_frames: int = 10) -> NDArray[np.uint32]:
    """Noise of counts with 5 % bright pixels, a tenth of the pixels invalid now and then, a dead corner."""
    rng = np.random.default_rng(7)
    frames = rng.poisson(mean, (n_frames, *shape)).astype(np.uint32)
    bright = rng.random(shape) < 0.05
    frames[:, bright] *= rng.integers(2, 1000, bright.sum()).astype(np.uint32)
    frames[rng.random(frames.shape) < 0.02] = np.iinfo(U4).max
    frames[:, : shape[0] // 4, : shape[1] // 5] = np.iinfo(U4).max
    return frames


@pytest.mark.parametrize(("shape", "bins"), [*synthetic.AWKWARD, (SHAPE, BINS)])
@pytest.mark.parametrize("mean", [0.03, 40])
def test_profiles_are_those_of_the_specification(
    device: cl.Device, form: Form, shape: tuple[int, int], bins: int, mean: float
) -> None:
    for rejection in rejections(device, form):
        integrator = summed(synthetic.geometry(shape, bins), device, form, rejection, spotty(shape, mean))
        assert_specified(integrator, rejection, 10)


@pytest.mark.parametrize("model", ["poisson", "hybrid"])
@pytest.mark.parametrize("mean", [0.05, 40])
def test_error_models_are_those_of_the_specification(
    device: cl.Device, form: Form, model: ErrorModel, mean: float
) -> None:
    for rejection in rejections(device, form, model):
        integrator = summed(synthetic.geometry(SHAPE, BINS), device, form, rejection, spotty(SHAPE, mean))
        assert_specified(integrator, rejection, 10)


def test_pieces_are_of_the_image_as_it_was_when_they_were_begun(device: cl.Device, form: Form) -> None:
    """Frames that are added between two pieces do not come in."""
    shape, bins = synthetic.AWKWARD[-1]
    frames = spotty(shape, 30, 8)
    for rejection in rejections(device, form):
        integrator = summed(synthetic.geometry(shape, bins), device, form, rejection, frames)
        whole = integrator.reject_outliers(8)
        integrator.begin_rejection(8)
        found = None
        for piece in range(PIECES):
            assert found is None, f"finished after {piece} pieces"
            assert integrator.is_rejecting
            integrator.integrate(8, Validity.of(U4))
            found = integrator.go_on_rejecting()
        assert not integrator.is_rejecting
        assert found is not None
        for method, profile in whole.items():
            assert np.array_equal(found[method].intensity, profile.intensity), method


def test_a_new_image_gives_up_what_was_begun(device: cl.Device, form: Form) -> None:
    rejection = rejections(device, form)[0]
    integrator = summed(synthetic.geometry(SHAPE, BINS), device, form, rejection, spotty(SHAPE, 30, 8))
    integrator.begin_rejection(8)
    integrator.clear()
    assert not integrator.is_rejecting


def test_a_rehearsal_leaves_no_trace(device: cl.Device, form: Form) -> None:
    rejection = rejections(device, form)[0]
    integrator = summed(synthetic.geometry(SHAPE, BINS), device, form, rejection, spotty(SHAPE, 30, 8))
    integrator.rehearse()
    assert not any(image.any() for image in integrator.read_image())
    integrator.integrate(8, Validity.of(U4))
    assert_specified(integrator, rejection, 8)


@pytest.mark.parametrize("quantile", [(0.2, 0.8), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.4999, 0.5001), (0.001, 0.999)])
def test_bands_are_those_of_the_specification(device: cl.Device, form: Form, quantile: tuple[float, float]) -> None:
    """Of bins of few pixels, and of many: there ends lie among those of which a lane has none."""
    rejection = Rejection(None, quantile, median_clip=False)
    for (shape, bins), mean in product([((41, 37), 60), ((97, 131), 5)], [0.05, 100]):
        integrator = summed(synthetic.geometry(shape, bins), device, form, rejection, spotty(shape, mean))
        assert_specified(integrator, rejection, 10)


@pytest.mark.parametrize("quantile", [(0.0, 1.0), (0.2, 1.0), (1.0, 1.0)])
def test_the_highest_quantile_is_reached_though_weights_are_rounded(
    device: cl.Device, form: Form, quantile: tuple[float, float]
) -> None:
    """The weight of a bin is beyond the integers of a double, and some are rounded up."""
    rejection, exposure = Rejection(None, quantile, median_clip=False), 2**20 + 1
    rounded_up = 0
    for shape, bins in [((41, 37), 60), ((97, 131), 5)]:
        geometry = synthetic.geometry(shape, bins)
        weights = [int(norm) * exposure for norm in np.bincount(geometry.bin_table, geometry.norm_q, bins + 1)[:bins]]
        rounded_up += sum(float(weight) > weight for weight in weights)
        integrator = summed(geometry, device, form, rejection, spotty(shape, 100))
        assert_specified(integrator, rejection, exposure)
    assert rounded_up


def test_counts_beyond_32_bits_are_those_of_the_specification(device: cl.Device, form: Form) -> None:
    frames = spotty(SHAPE, 3e6, 16)
    for rejection in rejections(device, form):
        integrator = summed(synthetic.geometry(SHAPE, BINS), device, form, rejection, frames)
        assert integrator.read_image()[0].max() > 2**33
        assert_specified(integrator, rejection, 16)


def test_chauvenets_limit_is_that_of_the_specification(device: cl.Device, form: Form) -> None:
    """It is above one standard deviation in every bin."""
    rejection = Rejection(SigmaClip(1.0, 3), None, median_clip=False)
    integrator = summed(synthetic.geometry(SHAPE, BINS), device, form, rejection, spotty(SHAPE, 30))
    assert_specified(integrator, rejection, 10)


def test_what_the_last_image_lost_is_forgotten(device: cl.Device, form: Form) -> None:
    """Losses and high words of sums, in rows where the next image has some too, of other pixels."""
    invalid = np.iinfo(U4).max
    bright, frames = spotty(SHAPE, 3e6, 8), spotty(SHAPE, 30, 8)
    for rejection in rejections(device, form):
        integrator = summed(synthetic.geometry(SHAPE, BINS), device, form, rejection, bright)
        assert integrator.read_image()[0].max() > 2**32
        assert_specified(integrator, rejection, 8)
        integrator.clear()
        integrator.slots[:] = np.where(frames == invalid, 30, frames)
        integrator.slots[:, :, ::5] = invalid
        integrator.integrate(8, Validity.of(U4))
        assert_specified(integrator, rejection, 8)


def test_a_change_of_mask_changes_the_profiles(device: cl.Device, form: Form) -> None:
    base, frames = synthetic.geometry(SHAPE, BINS), spotty(SHAPE, 30, 8)
    for rejection in rejections(device, form):
        integrator = summed(base, device, form, rejection, frames)
        mask = np.random.default_rng(5).random(base.shape) < 0.3
        for geometry in (base.masked(mask), base):
            integrator.change_mask(geometry)
            integrator.clear()
            integrator.integrate(8, Validity.of(U4))
            assert_specified(integrator, rejection, 8)


def test_without_rejection_there_is_nothing(device: cl.Device) -> None:
    integrator = BatchIntegrator(synthetic.geometry((5, 5), 2), U4, device)
    assert integrator.reject_outliers(1) == {}


def test_equal_pixels_are_all_kept_though_some_were_lost(device: cl.Device, form: Form) -> None:
    """Their ratios differ by rounding only, and rounding is no outlier."""
    frames = np.full((10, *SHAPE), 7, np.uint32)
    frames[np.random.default_rng(3).random(frames.shape) < 0.1] = np.iinfo(U4).max
    geometry = synthetic.geometry(SHAPE, BINS)
    for rejection in rejections(device, form):
        found = assert_specified(summed(geometry, device, form, rejection, frames), rejection, 10)
        used = geometry.bin_table[geometry.bin_table < BINS]
        for method in set(found) & {"sigma_clip", "median_clip"}:
            assert np.array_equal(found[method].count, np.bincount(used, minlength=BINS)), method


# ------------------------------------------------------------------------------------ the specification itself


def full_sort(s: NDArray[np.float64], w: NDArray[np.float64], qmin: Fraction, qmax: Fraction) -> float:
    """Mean between two different quantiles of the weight, in exact fractions, one pixel after another."""
    pixels = sorted((Fraction(a) / Fraction(b), Fraction(b)) for a, b in zip(s.tolist(), w.tolist(), strict=True) if b)
    total = sum(weight for _, weight in pixels)
    start, end = qmin * total, qmax * total
    below, band = Fraction(0), Fraction(0)
    for ratio, weight in pixels:
        band += ratio * max(Fraction(0), min(end, below + weight) - max(start, below))
        below += weight
    return float(band / (end - start))


@pytest.mark.parametrize("pivot", [0, 1e-3, 1.0, 1 + 1e-7, 1.001, 1.01, 1e6])
@pytest.mark.parametrize("mean", [0.1, 1e6, 1e9])
def test_the_variance_is_that_about_the_mean_whatever_it_is_computed_from(pivot: float, mean: float) -> None:
    """The pivot is in units of the mean."""
    rng = np.random.default_rng(4)
    w, share = rng.uniform(0.5, 1, 1000), rng.integers(0, 3, 1000) / 2
    s = rng.poisson(mean * w).astype(float)
    found = reference.Bin(s, w).sums(share, of_counts=False, pivot=pivot * mean)
    about_mean = share * (s - w * (np.sum(share * s) / np.sum(share * w)))
    assert found[4] == pytest.approx(np.sum(about_mean**2), rel=1e-11)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 300])
@pytest.mark.parametrize("band", [("0.4", "0.6"), ("0.2", "0.8"), ("0", "1"), ("0.499", "0.501"), ("0.9", "1")])
@pytest.mark.parametrize("mean", [2, 1000])
def test_the_band_is_that_of_a_full_sort(n: int, band: tuple[str, str], mean: float) -> None:
    """Few pixels and ties included; it is never empty."""
    rng = np.random.default_rng(n)
    s, w = rng.poisson(mean, n).astype(float), np.rint(rng.uniform(0.7, 1, n) * 10 * ONE_FRAME)
    for weights in (w, np.full(n, ONE_FRAME)):
        signal, norm, _, count, _ = reference.quantile(Bin(s, weights), *map(float, band))
        expected = full_sort(s, weights, *map(Fraction, band))
        assert signal / norm == pytest.approx(expected, rel=1e-6)
        assert count > 0


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 301, 302])
def test_a_band_without_width_is_the_median(n: int) -> None:
    counts = np.random.default_rng(n).poisson(5, n).astype(float)
    signal, norm, *_ = reference.quantile(Bin(counts, np.full(n, ONE_FRAME)), 0.5, 0.5)
    assert signal / norm * ONE_FRAME == pytest.approx(np.median(counts), rel=1e-6)


@pytest.mark.parametrize(("weights", "ratio"), [([1, 2, 9], 30), ([9, 2, 1], 10), ([1, 1, 2], 25)])
def test_the_median_is_weighted(weights: list[int], ratio: float) -> None:
    """Half of the weight lies on either side, not half of the pixels."""
    w = np.array(weights) * ONE_FRAME
    signal, norm, *_ = reference.quantile(Bin(np.array([10.0, 20.0, 30.0]) * weights, w), 0.5, 0.5)
    assert signal / norm * ONE_FRAME == pytest.approx(ratio, rel=1e-6)


def test_the_band_is_continuous_in_its_limits() -> None:
    rng = np.random.default_rng(2)
    pixels = Bin(rng.poisson(5, 50).astype(float), np.full(50, ONE_FRAME))
    limits = np.linspace(0.1, 0.3, 2001)
    values = [np.divide(*reference.quantile(pixels, limit, 0.7)[:2]) * ONE_FRAME for limit in limits]
    assert np.abs(np.diff(values)).max() < 0.002  # 1e-4 of the weight, a range of 4 counts, a band of 0.4 and more
    assert np.ptp(values) > 0.3


def test_nothing_valid_gives_zeros() -> None:
    nothing = Bin(np.zeros(3), np.zeros(3))
    for sums in (reference.sigma_clip(nothing, SigmaClip()), reference.quantile(nothing, 0.2, 0.8)):
        assert not sums.any()
    assert not reference.median_clip(nothing).any()


@pytest.mark.parametrize(("n", "k"), [(100, 2.715), (1000, 3.461), (10000, 4.072)])
def test_sigma_clip_does_not_go_below_chauvenets_limit(n: int, k: float) -> None:
    """One outlier just inside or outside of k standard deviations; the limits are pyFAI's."""
    for factor, kept in ((0.995, n), (1.005, n - 1)):
        s = np.tile([990.0, 1010.0], n // 2)
        s[0] = 1000 + outlier(n, factor * k) * 10
        found = reference.sigma_clip(Bin(s, np.full(n, ONE_FRAME)), SigmaClip(0.5, 1))
        assert found[3] == kept


def outlier(n: int, k: float) -> float:
    """How far one of n values that scatter by 1 must lie, in order to be k standard deviations from the mean of all.

    A value x among n moves the mean by x / n and makes the variance 1 + x^2 / n: k^2 (1 + x^2 / n) = x^2 to 1 / n.
    """
    return k / np.sqrt(1 - k * k / n) * (1 + 1 / n)


def test_sigma_clip_stops_after_so_many_times() -> None:
    """Outliers that hide behind each other come off one after another."""
    s = np.concatenate([np.tile([99.0, 101.0], 500), 10.0 ** np.arange(3, 9)])
    bins = Bin(s, np.full(s.size, ONE_FRAME))
    kept = [reference.sigma_clip(bins, SigmaClip(5, n))[3] for n in (0, 1, 2, 20)]
    assert kept == [1006, 1005, 1004, 1000]


# RMS error of the mean in units of that without spots, from the study in which the method was chosen: background,
# share of spot pixels, and the methods' errors.
STUDY = [
    (30, 0.0, {"median_clip": 1.0, "sigma_clip": 1.0, "quantile": 1.4}),
    (30, 0.05, {"median_clip": 1.2, "sigma_clip": 1.7, "quantile": 1.8}),
    (30, 0.1, {"median_clip": 1.5, "sigma_clip": 14, "quantile": 4.6}),
    (30, 0.2, {"median_clip": 2.6, "sigma_clip": 164, "quantile": 9.5}),
    (1000, 0.1, {"median_clip": 1.0, "sigma_clip": 81, "quantile": 4.5}),
    (3, 0.0, {"median_clip": 1.0, "sigma_clip": 1.0, "quantile": 0.0}),
    (0.3, 0.0, {"median_clip": 0.9}),
]
RUNS = 150


@pytest.mark.parametrize(("background", "share", "expected"), STUDY)
def test_errors_are_those_of_the_study(background: float, share: float, expected: dict[str, float]) -> None:
    """1000 pixels, of which some have the log-uniform counts of Gaussian spots on top."""
    rng = np.random.default_rng(11)
    mean = np.full((RUNS, 1000), background, float)
    mean += (rng.random(mean.shape) < share) * background * 0.3 * 1000 ** rng.random(mean.shape)
    methods = {
        "median_clip": reference.median_clip,
        "sigma_clip": lambda pixels: reference.sigma_clip(pixels, SigmaClip()),
        "quantile": lambda pixels: reference.quantile(pixels, 0.5, 0.5),
    }
    runs = [Bin(row, np.full(1000, ONE_FRAME)) for row in rng.poisson(mean).astype(float)]
    for method, error in expected.items():
        found = np.array([np.divide(*methods[method](pixels)[:2]) * ONE_FRAME - background for pixels in runs])
        clean = np.sqrt(background / 1000)
        assert np.sqrt(np.mean(found**2)) / clean == pytest.approx(error, rel=0.2, abs=0.05), method


@pytest.mark.parametrize("largest", [1, 2**50, 2**62, 2**80])
def test_weights_of_a_bin_stay_below_62_bits(largest: int) -> None:
    unit = weight_unit(largest, 1000)
    assert largest * 1000 * unit < 2**62
    assert unit == 1 or largest * 1000 * unit >= 2**60


def test_memory_for_the_profiles_is_asked_for_at_the_start(device: cl.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that just fits without them is refused with them."""
    asked = []

    def refuse(_: cl.Device, needed_bytes: int, largest_bytes: int) -> None:
        asked.append(needed_bytes)
        raise OutOfDeviceMemory(needed_bytes, 0)

    monkeypatch.setattr("ringwatch_gpu.batch.check_memory", refuse)
    geometry = synthetic.geometry((50, 70), 3)
    for rejection in (Rejection(None, None, median_clip=False), Rejection()):
        with pytest.raises(OutOfDeviceMemory):
            BatchIntegrator(geometry, U4, device, rejection=rejection)
    assert asked[1] - asked[0] >= 52 * geometry.pixels
