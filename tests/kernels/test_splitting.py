"""Split pixels: both kernel forms on every device against numpy float64; tables, masks, cache, quantiles."""

from pathlib import Path
from typing import get_args

import numpy as np
import pyopencl as cl
import pytest
from numpy.typing import NDArray

from ringwatch_gpu import exact, monitor, reference, reference_rejection, reference_splitting
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.errors import DigestMismatch, GeometryError
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.noise import Noise
from ringwatch_gpu.rejection import Rejection
from ringwatch_gpu.signals import signals
from ringwatch_gpu.split_sums import SplitFrameSums, SplitImage
from ringwatch_gpu.splitting import METHODS, Method, entry_norms
from ringwatch_gpu.spottiness import spottiness
from ringwatch_gpu.sums import SPLIT_UNITS, SUM_ROWS, RingProfile, RingSums, StaticSums
from ringwatch_gpu.tiles import TILE, Tiles
from ringwatch_gpu.validity import Validity

from . import synthetic

U4 = np.dtype("u4")
ROUNDING = 1e-12
"""Sums of some thousand doubles in another order."""

CANCELLED = 1e-9
"""A variance from sums of squares instead of from distances, relative to the largest."""


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("geometry")


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return request.param


def split(cache_dir: Path, method: Method, bins: int = 41, masked: float = 0.05, seed: int = 0) -> Geometry:
    geometry = Geometry.from_poni(synthetic.PONI, bins=bins, splitting=method, cache_dir=cache_dir)
    return geometry.masked(np.random.default_rng(seed).random(geometry.shape) < masked)


def assert_image_is_that_of_the_specification(batch: BatchIntegrator, exposure: int, unit: float = 1.0) -> SplitImage:
    (total, lost), lost_exposure = batch.read_image(), batch.read_lost_exposure()
    lost = lost if lost_exposure is None else lost_exposure
    expected = reference_splitting.evaluate_image(total.ravel(), lost.ravel(), exposure, batch.geometry, unit)
    found = batch.split_image(exposure)
    assert found is not None
    assert_profiles_equal(found.summed, expected.summed)
    assert_profiles_equal(found.averaged, expected.averaged)
    for name in ("noise_signal", "zeros"):
        values = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), values, atol=ROUNDING * np.abs(values).max(), err_msg=name)
    return found


def assert_profiles_equal(found: RingProfile, expected: RingProfile) -> None:
    for name, values in vars(expected).items():
        scale = CANCELLED * np.abs(values).max()
        np.testing.assert_allclose(getattr(found, name), values, rtol=CANCELLED, atol=scale, err_msg=name)


SPLIT = [
    (1, "u2", "full", False),
    (41, "u1", "bbox", True),
    (41, "i4", "bbox", False),
    (300, "u4", "full", True),
]
SPLIT_OTHERWISE = [
    (1, "u2", "bbox", True),
    (41, "u1", "full", False),
    (41, "i4", "full", True),
    (300, "u4", "bbox", False),
]


@pytest.mark.parametrize(
    ("bins", "dtype", "method", "tells_noise"), [*SPLIT, *(SPLIT_OTHERWISE if synthetic.THOROUGH else ())]
)
def test_sums_are_those_of_the_specification(
    device: cl.Device,
    form: Form,
    cache_dir: Path,
    bins: int,
    dtype: str,
    method: Method,
    tells_noise: bool,
) -> None:
    """From one bin to seven bins a pixel; some pixels invalid in each frame."""
    kind, geometry = np.dtype(dtype), split(cache_dir, method, bins)
    batch, validity = BatchIntegrator(geometry, kind, device, form, tells_noise=tells_noise), Validity.of(kind)
    for largest in (1, int(np.iinfo(kind).max)):
        frames = synthetic.frames(5, geometry.shape, kind, largest)
        batch.slots[:5] = frames
        found = batch.integrate(5, validity)
        expected = reference_splitting.integrate(frames.reshape(5, -1), geometry, validity, tells_noise=tells_noise)
        assert found.sums.shape == (5, 3 + tells_noise, geometry.bins)
        np.testing.assert_allclose(found.sums, expected.sums, rtol=ROUNDING)
        for name in ("lost_count", "lost_norm", "lost_norm_sq"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert np.array_equal(found.total_signal, expected.total_signal)


@pytest.mark.parametrize(("bins", "dtype", "negatives"), [(70, "u4", False), (1, "u4", False), (70, "i4", True)])
def test_frames_of_several_tiles_are_those_of_the_specification(
    device: cl.Device, form: Form, cache_dir: Path, bins: int, dtype: str, negatives: bool
) -> None:
    """Not a multiple of eight pixels; sums of pixels that outgrow 32 bits, with and without an invalid one beside."""
    kind, poni = np.dtype(dtype), synthetic.PONI.replace("[60, 50]", "[101, 173]")
    whole = Geometry.from_poni(poni, bins=bins, splitting="full", cache_dir=cache_dir)
    geometry = whole.masked(np.random.default_rng(2).random(whole.shape) < 0.05)
    assert geometry.pixels > 2 * TILE
    assert geometry.pixels % 8
    batch, validity = BatchIntegrator(geometry, kind, device, form, negatives=negatives), Validity.of(kind, [2**30])
    frames = synthetic.frames(7, geometry.shape, np.dtype("u4"), 2**28, invalid=0).astype(kind)
    frames[np.random.default_rng(4).random(frames.shape) < 0.01] = 2**30
    frames = np.where((frames < 2**30) & negatives, -frames, frames).astype(kind)
    batch.slots[:7] = frames
    for _ in range(4):
        found = batch.integrate(7, validity)
    expected = reference_splitting.integrate(frames.reshape(7, -1), geometry, validity)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=ROUNDING)
    assert np.array_equal(found.lost_norm, expected.lost_norm)
    signal, bad = signals(frames, geometry, validity)
    used, (total, lost) = (geometry.bin_table < geometry.bins).reshape(geometry.shape), batch.read_image()
    assert np.array_equal(total.reshape(used.shape), 4 * np.where(used, signal.sum(axis=0), 0))
    assert np.array_equal(lost.reshape(used.shape), 4 * np.where(used, bad.sum(axis=0), 0))


def test_image_is_that_of_the_specification_and_of_the_union(device: cl.Device, form: Form, cache_dir: Path) -> None:
    geometry, validity = split(cache_dir, "full", 300), Validity.of(U4)
    batch = BatchIntegrator(geometry, U4, device, form)
    frames = synthetic.frames(8, geometry.shape, U4, 50)
    frames[:, 7] = 2**32 - 1  # a row that is never valid
    batch.slots[:] = frames
    union = RingSums.none_of(geometry).plus_rows(batch.integrate(8, validity).rows(batch.static)).profile
    found = assert_image_is_that_of_the_specification(batch, 8)
    np.testing.assert_allclose(found.summed.signal, union.signal, rtol=ROUNDING)
    np.testing.assert_allclose(found.summed.normalization, union.normalization, rtol=ROUNDING)


def assert_entries_equal(found: RingProfile, expected: NDArray[np.float64]) -> None:
    """What does not depend on the unit of norms."""
    signal, _, _, count, variance = expected
    for name, values in (("signal", signal), ("count", count), ("variance", variance)):
        assert np.array_equal(getattr(found, name), values), name


def test_frames_count_for_their_monitor(device: cl.Device, form: Form, cache_dir: Path) -> None:
    """Union, summed image and quantiles of frames of different beams, some of their pixels invalid."""
    geometry, validity = split(cache_dir, "full", 300), Validity.of(U4)
    rejection = Rejection(None, (0.2, 0.6), median_clip=False)
    batch = BatchIntegrator(geometry, U4, device, form, rejection=rejection, monitored=True)
    batch.slots[:] = synthetic.frames(8, geometry.shape, U4, 50, invalid=0.1)
    exposure = monitor.exposure(np.linspace(0.3, 2.0, 8), 1.0)
    rows = batch.integrate(8, validity, 0, exposure).rows(batch.static, exposure)
    union, total_exposure = RingSums.none_of(geometry, 1.0).plus_rows(rows).profile, int(exposure.sum())
    found = assert_image_is_that_of_the_specification(batch, total_exposure, monitor.QUANTUM)
    np.testing.assert_allclose(found.summed.intensity, union.intensity, rtol=ROUNDING)
    np.testing.assert_allclose(found.summed.normalization, union.normalization, rtol=ROUNDING)
    lost = batch.read_lost_exposure()
    assert lost is not None
    image = batch.read_image()[0].ravel(), lost.ravel()
    expected = reference_rejection.reject(*image, total_exposure, geometry, rejection)["quantile"]
    assert_entries_equal(batch.reject_outliers(total_exposure)["quantile"], expected)


def test_frames_of_equal_weight_give_the_profile_without_a_monitor(device: cl.Device, cache_dir: Path) -> None:
    geometry, frames = split(cache_dir, "bbox"), synthetic.frames(3, (60, 50), U4, 9)
    profiles = []
    for per_frame, exposure in ((None, None), (5.0, monitor.exposure([5.0] * 3, 5.0))):
        batch = BatchIntegrator(geometry, U4, device, monitored=exposure is not None)
        batch.slots[:3] = frames
        rows = batch.integrate(3, Validity.of(U4), 0, exposure).rows(batch.static, exposure)
        profiles.append(RingSums.none_of(geometry, per_frame).plus_rows(rows).profile)
    assert_profiles_equal(*profiles)


@pytest.mark.parametrize(("dtype", "negatives"), [("u2", False), ("i4", True), ("f4", False)])
def test_signals_of_either_sign_are_those_of_the_specification(
    device: cl.Device, form: Form, cache_dir: Path, dtype: str, negatives: bool
) -> None:
    """A dark, negative counts and floats: sums, summed image, the statistics of whole pixels, and quantiles."""
    kind, rng = np.dtype(dtype), np.random.default_rng(5)
    plain = split(cache_dir, "full", 300)
    geometry = plain if negatives else plain.signed(2.0**-8, rng.uniform(0, 30, plain.shape))
    frames = synthetic.frames(8, geometry.shape, np.dtype("i4"), 50, invalid=0)
    frames = (frames - 20 * negatives + (rng.random(frames.shape) if kind.kind == "f" else 0)).astype(kind)
    frames[:, 7] = np.nan if kind.kind == "f" else np.iinfo(kind).max  # a row that is never valid
    validity = Validity.of(kind, [int(frames[0, 7, 0])] if kind.kind != "f" else None)
    rejection = Rejection(None, (0.1, 0.7), median_clip=False)
    keywords = {"rejection": rejection, "negatives": negatives, "tells_noise": True}
    batch = BatchIntegrator(geometry, kind, device, form, **keywords)
    batch.slots[:] = frames
    found = batch.integrate(8, validity)
    expected = reference_splitting.integrate(frames.reshape(8, -1), geometry, validity, tells_noise=True)
    scale = ROUNDING * np.abs(expected.sums).max(axis=2, keepdims=True)
    assert (np.abs(found.sums - expected.sums) <= scale).all()
    assert (found.sums[:, 0] < 0).any()
    assert np.array_equal(found.lost_norm, expected.lost_norm)
    profile = RingSums.none_of(geometry, tells_noise=True).plus_rows(found.rows(batch.static)).profile
    image = assert_image_is_that_of_the_specification(batch, 8)
    np.testing.assert_allclose(image.summed.signal, profile.signal, rtol=1e-9, atol=1e-9)
    total, lost = (plane.ravel() for plane in batch.read_image())
    squares = np.full(geometry.bins, float((total.astype(np.float64) ** 2).sum()))
    whole, statistics = reference.evaluate_image(total, lost, 8, geometry, squares=squares), batch.evaluate_image(8)
    for name in ("variance", "cake_scatter"):
        values = getattr(whole, name)
        np.testing.assert_allclose(getattr(statistics, name), values, atol=CANCELLED * values.max(), err_msg=name)
    quantile = reference_rejection.reject(total, lost, 8, geometry, rejection)["quantile"]
    assert_entries_equal(batch.reject_outliers(8)["quantile"], quantile)


def test_the_union_tells_the_noise_of_counts(device: cl.Device, form: Form, cache_dir: Path) -> None:
    """Sum c^2 s: of counts that scatter by themselves the scatter of the intensity, neither more nor less."""
    geometry, rng = split(cache_dir, "full", masked=0), np.random.default_rng(3)
    expected = 7.0 * geometry.norm_q.reshape(geometry.shape) * geometry.norm_quantum
    batch = BatchIntegrator(geometry, U4, device, form, tells_noise=True)
    sums = []
    for _ in range(25):
        batch.slots[:] = rng.poisson(expected, (8, *geometry.shape))
        rows = batch.integrate(8, Validity.of(U4)).rows(batch.static)
        sums += [RingSums.none_of(geometry, tells_noise=True).plus_rows(row[np.newaxis]) for row in rows]
    told = [one.profile.with_variance(one.noise_signal) for one in sums]
    pulls = np.std([one.intensity for one in told], axis=0) / np.mean([one.sem for one in told], axis=0)
    assert np.mean(pulls[5:-2]) == pytest.approx(1, abs=0.02)
    assert (sums[0] + sums[1]).noise_signal == pytest.approx(sums[0].noise_signal + sums[1].noise_signal)


def test_sums_that_do_not_tell_their_noise_say_so(cache_dir: Path) -> None:
    geometry = split(cache_dir, "full")
    with pytest.raises(ValueError, match="tells_noise"):
        _ = RingSums.none_of(geometry).noise_signal
    with pytest.raises(DigestMismatch):
        _ = RingSums.none_of(geometry) + RingSums.none_of(geometry, tells_noise=True)


def test_one_count_with_the_smallest_share_is_rounded_to_less_than_a_millionth() -> None:
    share, norm = 2.0**-25 * 1.4142135, 2.0**30
    counts = np.array([share, share**2, share**2 * norm, share**2]).reshape(1, 4, 1)
    lost = np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint64), np.zeros((1, 1, 2), np.uint64)
    norms = exact.words(np.array([round(share * norm)], np.uint64))
    static = StaticSums(norms, norms, np.array([round(share * 2**24)], np.uint64))
    for sign in (1, -1):
        rows = SplitFrameSums(sign * counts, *lost).rows(static)[0]
        for row, value in zip((0, 1, 2, 6), counts.ravel(), strict=True):
            unit = SPLIT_UNITS[SUM_ROWS[row]]
            assert float(exact.to_float(rows[row])[0]) * unit == pytest.approx(sign * value, rel=3e-8, abs=0)


def test_a_bin_that_loses_all_its_pixels_is_empty(device: cl.Device, form: Form, cache_dir: Path) -> None:
    """What is lost is counted in integers: nothing is left of rounding."""
    geometry = split(cache_dir, "full", masked=0)
    batch = BatchIntegrator(geometry, U4, device, form)
    batch.slots[0] = 2**32 - 1
    profile = RingSums.none_of(geometry).plus_rows(batch.integrate(1, Validity.of(U4)).rows(batch.static)).profile
    assert not any(values.any() for values in vars(profile).values())


def test_a_change_of_mask_gives_the_sums_of_a_new_integrator(device: cl.Device, form: Form, cache_dir: Path) -> None:
    base, rng = split(cache_dir, "full", masked=0), np.random.default_rng(1)
    first, second = (base.masked(rng.random(base.shape) < 0.05) for _ in range(2))
    frames, validity = synthetic.frames(3, first.shape, U4, 20), Validity.of(U4)
    nothing = base.masked(np.ones(base.shape, np.bool_))
    rows = []
    for start in (second, first, nothing):
        batch = BatchIntegrator(start, U4, device, form)
        batch.change_mask(second)
        batch.slots[:3] = frames
        rows.append(batch.integrate(3, validity).rows(batch.static))
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[2])


@pytest.mark.parametrize("band", [(0.5, 0.5), (0.1, 0.7), (0.0, 1.0)])
def test_quantiles_are_those_of_the_specification(
    device: cl.Device, form: Form, cache_dir: Path, band: tuple[float, float]
) -> None:
    """With seven bins a pixel, too: none that a pixel reaches is empty, and the whole band is the mean."""
    geometry, rejection = split(cache_dir, "full", 300), Rejection(None, band, median_clip=False)
    batch = BatchIntegrator(geometry, U4, device, form, rejection=rejection)
    batch.slots[:6] = synthetic.frames(6, geometry.shape, U4, 400)
    batch.integrate(6, Validity.of(U4))
    total, lost = batch.read_image()
    found = batch.reject_outliers(6)["quantile"]
    expected = reference_rejection.reject(total.ravel(), lost.ravel(), 6, geometry, rejection)["quantile"]
    assert np.array_equal(np.stack([found.signal, found.count, found.variance]), expected[[0, 3, 4]])
    image = batch.split_image(6)
    assert image is not None
    assert np.array_equal(found.normalization > 0, image.summed.normalization > 0)
    if band == (0.0, 1.0):
        np.testing.assert_allclose(found.intensity, image.summed.intensity, rtol=ROUNDING)


def test_quantiles_have_the_noise_of_the_parts(device: cl.Device, form: Form, cache_dir: Path) -> None:
    """Sum c^2 max(1, S), with the whole band that of the mean."""
    geometry, rejection = (
        split(cache_dir, "full"),
        Rejection(None, (0.0, 1.0), median_clip=False, error_model="poisson"),
    )
    batch = BatchIntegrator(geometry, U4, device, form, rejection=rejection)
    batch.slots[:2] = synthetic.frames(2, geometry.shape, U4, 2)
    batch.integrate(2, Validity.of(U4))
    total, lost = batch.read_image()
    found = batch.reject_outliers(2)["quantile"]
    expected = reference_rejection.reject(total.ravel(), lost.ravel(), 2, geometry, rejection)["quantile"]
    assert np.array_equal(found.variance, expected[4])
    image = batch.split_image(2)
    assert image is not None
    noise = Noise.of_parts(geometry)
    np.testing.assert_allclose(found.variance, image.counts_variance(noise, geometry.norm_quantum), rtol=1e-9)


# ----------------------------------------------------------------------------------------------------- tables and sums


def test_a_pixel_counts_once_and_only_unmasked(cache_dir: Path, method: Method) -> None:
    geometry = split(cache_dir, method, masked=0)
    assert geometry.splitting is not None
    shares = np.add.reduceat(geometry.splitting.share.astype(np.float64), geometry.splitting.start[:-1])
    np.testing.assert_allclose(shares, 1, atol=1e-6)


def test_tiles_hold_every_part_of_their_pixels_once(cache_dir: Path) -> None:
    """Those of a tile in the order of their bins."""
    geometry = Geometry.from_poni(
        synthetic.PONI.replace("[60, 50]", "[101, 173]"), bins=70, splitting="full", cache_dir=cache_dir
    )
    assert geometry.splitting is not None
    pixels = np.random.default_rng(1).random(101 * 173) < 0.9
    tiles = Tiles.of(geometry.splitting, geometry.norm_q, pixels)
    entries = geometry.splitting.entries(np.flatnonzero(pixels))
    bin_ = np.repeat(tiles.segment_bin, np.diff(tiles.segment_start)).astype(np.intp)
    first = tiles.segment_start[tiles.first_segment]
    tile = np.repeat(np.arange(first.size - 1), np.diff(first))
    assert (np.diff(tile * geometry.bins + bin_) >= 0).all()
    assert (np.diff(tiles.segment_start) > 0).all()
    back = np.lexsort((bin_, tile * TILE + tiles.place))
    assert np.array_equal((tile * TILE + tiles.place)[back], entries.pixel)
    assert np.array_equal(bin_[back], entries.bin)
    assert np.array_equal(tiles.share[back], entries.share)
    assert np.array_equal(tiles.norm[back], entry_norms(entries, geometry.norm_q))


def test_the_whole_is_the_sum_of_its_partitions(cache_dir: Path, device: cl.Device) -> None:
    """Frame by frame, in other batches, other order and by subtraction: the very same words."""
    geometry, validity = split(cache_dir, "full"), Validity.of(U4)
    batch, frames = BatchIntegrator(geometry, U4, device), synthetic.frames(11, geometry.shape, U4, 3000)

    def union(order: list[int], size: int) -> RingSums:
        sums = RingSums.none_of(geometry)
        for first in range(0, len(order), size):
            part = order[first : first + size]
            batch.slots[: len(part)] = frames[part]
            sums = sums.plus_rows(batch.integrate(len(part), validity).rows(batch.static))
        return sums

    whole = union(list(range(11)), 8)
    backwards, parts = union(list(range(10, -1, -1)), 3), union([4, 2], 1) + union([0, 1, 3, *range(5, 11)], 8)
    assert np.array_equal(whole.words, backwards.words)
    assert np.array_equal(whole.words, parts.words)
    assert np.array_equal((whole - union([7], 1)).words, union([*range(7), *range(8, 11)], 5).words)
    assert not (whole + parts).is_exact


def test_the_digest_tells_how_pixels_are_split(cache_dir: Path) -> None:
    whole = Geometry.from_poni(synthetic.PONI, bins=41, cache_dir=cache_dir)
    digests = {whole.digest, *(split(cache_dir, method, masked=0).digest for method in METHODS)}
    assert len(digests) == 3
    assert whole.is_exact


def test_the_cache_gives_back_the_same_splitting(cache_dir: Path, method: Method, tmp_path: Path) -> None:
    fresh = Geometry.from_poni(synthetic.PONI, bins=23, splitting=method, cache_dir=tmp_path)
    cached = Geometry.from_poni(synthetic.PONI, bins=23, splitting=method, cache_dir=tmp_path)
    assert fresh.digest == cached.digest
    assert fresh.splitting is not None
    assert cached.splitting is not None
    assert np.array_equal(fresh.splitting.share, cached.splitting.share)


def test_bins_of_parts_are_neither_cut_nor_joined(cache_dir: Path) -> None:
    geometry = split(cache_dir, "full", bins=40)
    for change in (lambda: geometry.cake(4), lambda: geometry.coarser(2)):
        with pytest.raises(GeometryError, match="split"):
            change()


def test_even_light_is_not_spotty(cache_dir: Path, device: cl.Device) -> None:
    """Equal pixels but for their norm: what splitting does to them is not taken for spots."""
    geometry = split(cache_dir, "full")
    batch = BatchIntegrator(geometry, U4, device)
    batch.slots[0] = np.rint(1e6 * geometry.norm_q * geometry.norm_quantum).reshape(geometry.shape)
    profile = RingSums.none_of(geometry).plus_rows(batch.integrate(1, Validity.of(U4)).rows(batch.static)).profile
    assert float(spottiness(profile, geometry.azimuth_fraction).plain) < 1e-6
