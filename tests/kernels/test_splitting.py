"""Split pixels: both kernel forms on every device against numpy float64; tables, masks, cache, quantiles."""

from pathlib import Path
from typing import get_args

import numpy as np
import pyopencl as cl
import pytest

from ringwatch_gpu import reference_rejection, reference_splitting
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.errors import GeometryError
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.rejection import Rejection
from ringwatch_gpu.splitting import METHODS, Method
from ringwatch_gpu.spottiness import spottiness
from ringwatch_gpu.sums import RingProfile, RingSums
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


def assert_profiles_equal(found: RingProfile, expected: RingProfile) -> None:
    for name, values in vars(expected).items():
        scale = CANCELLED * np.abs(values).max()
        np.testing.assert_allclose(getattr(found, name), values, rtol=CANCELLED, atol=scale, err_msg=name)


@pytest.mark.parametrize(("bins", "dtype"), [(1, "u2"), (41, "u1"), (41, "i4"), (300, "u4")])
def test_sums_are_those_of_the_specification(
    device: cl.Device, form: Form, cache_dir: Path, method: Method, bins: int, dtype: str
) -> None:
    """From one bin to seven bins a pixel; some pixels invalid in each frame."""
    kind, geometry = np.dtype(dtype), split(cache_dir, method, bins)
    batch, validity = BatchIntegrator(geometry, kind, device, form), Validity.of(kind)
    for largest in (1, int(np.iinfo(kind).max)):
        frames = synthetic.frames(5, geometry.shape, kind, largest)
        batch.slots[:5] = frames
        found = batch.integrate(5, validity)
        expected = reference_splitting.integrate(frames.reshape(5, -1), geometry, validity)
        np.testing.assert_allclose(found.sums, expected.sums, rtol=ROUNDING)
        for name in ("lost_count", "lost_norm", "lost_norm_sq"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert np.array_equal(found.total_signal, expected.total_signal)


def test_image_is_that_of_the_specification_and_of_the_union(device: cl.Device, form: Form, cache_dir: Path) -> None:
    geometry, validity = split(cache_dir, "full", 300), Validity.of(U4)
    batch = BatchIntegrator(geometry, U4, device, form)
    frames = synthetic.frames(8, geometry.shape, U4, 50)
    frames[:, 7] = 2**32 - 1  # a row that is never valid
    batch.slots[:] = frames
    union = RingSums.none_of(geometry).plus_rows(batch.integrate(8, validity).rows(batch.static)).profile
    total, lost = batch.read_image()
    expected = reference_splitting.image_profiles(total.ravel(), lost.ravel(), 8, geometry)
    found = batch.split_profiles(8)
    assert found is not None
    for one, other in zip(found, expected, strict=True):
        assert_profiles_equal(one, other)
    np.testing.assert_allclose(found[0].signal, union.signal, rtol=ROUNDING)
    np.testing.assert_allclose(found[0].normalization, union.normalization, rtol=ROUNDING)


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
    rows = []
    for start in (first, second):
        batch = BatchIntegrator(start, U4, device, form)
        batch.change_mask(second)
        batch.slots[:3] = frames
        rows.append(batch.integrate(3, validity).rows(batch.static))
    assert np.array_equal(*rows)


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
    mean = batch.split_profiles(6)
    assert mean is not None
    assert np.array_equal(found.normalization > 0, mean[0].normalization > 0)
    if band == (0.0, 1.0):
        np.testing.assert_allclose(found.intensity, mean[0].intensity, rtol=ROUNDING)


# ----------------------------------------------------------------------------------------------------- tables and sums


def test_a_pixel_counts_once_and_only_unmasked(cache_dir: Path, method: Method) -> None:
    geometry = split(cache_dir, method, masked=0)
    assert geometry.splitting is not None
    shares = np.add.reduceat(geometry.splitting.share.astype(np.float64), geometry.splitting.start[:-1])
    np.testing.assert_allclose(shares, 1, atol=1e-6)


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
