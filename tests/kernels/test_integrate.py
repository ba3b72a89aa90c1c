"""Both kernel forms on every device give the very integers of the numpy specification."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pyopencl as cl
import pytest

from ringwatch_gpu import reference
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.errors import KernelBuildError, OutOfDeviceMemory
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.groups import GroupKernels
from ringwatch_gpu.integrator import Integrator
from ringwatch_gpu.memory import check_memory
from ringwatch_gpu.programs import build
from ringwatch_gpu.signals import PixelFormat
from ringwatch_gpu.sums import FrameSums, StaticSums
from ringwatch_gpu.validity import Validity

from . import synthetic

SHAPES_AND_BINS = [((1, 1), 1), ((3, 5), 40), ((37, 53), 11), ((64, 64), 1), ((97, 131), 300), ((97, 131), 2)]
SHAPE, BINS = synthetic.SHAPE, synthetic.BINS


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


def assert_same(found: FrameSums, expected: FrameSums) -> None:
    for field in fields(FrameSums):
        assert np.array_equal(getattr(found, field.name), getattr(expected, field.name)), field.name


def check(
    integrator: BatchIntegrator, frames: np.ndarray, validity: Validity, n_frames: int | None = None
) -> FrameSums:
    n = len(frames) if n_frames is None else n_frames
    geometry = integrator.geometry
    integrator.slots[: len(frames)] = frames
    expected = reference.integrate(
        frames[:n].reshape(n, -1), geometry.bin_table, geometry.norm_q, geometry.bins, validity
    )
    assert_same(integrator.integrate(n, validity), expected)
    return expected


@pytest.mark.parametrize(("shape", "bins", "dtype"), synthetic.with_types(SHAPES_AND_BINS))
def test_sums_are_those_of_the_specification(
    device: cl.Device, form: Form, shape: tuple[int, int], bins: int, dtype: str
) -> None:
    kind = np.dtype(dtype)
    integrator = BatchIntegrator(synthetic.geometry(shape, bins), kind, device, form)
    for largest in (1, 30, int(np.iinfo(kind).max)):
        frames = synthetic.frames(8, shape, kind, largest)
        check(integrator, frames, Validity.of(kind))


@pytest.mark.parametrize("n_frames", range(1, 9))
def test_slots_beyond_the_batch_do_not_count(device: cl.Device, form: Form, n_frames: int) -> None:
    kind = np.dtype("u2")
    integrator = BatchIntegrator(synthetic.geometry(SHAPE, BINS), kind, device, form)
    frames = synthetic.frames(8, SHAPE, kind, 100)
    check(integrator, frames, Validity.of(kind), n_frames)
    total, lost = integrator.read_image()
    geometry, validity = integrator.geometry, Validity.of(kind)
    expected = reference.accumulate_image(
        frames[:n_frames].reshape(n_frames, -1), geometry.bin_table, geometry.bins, validity
    )
    assert np.array_equal(total.ravel(), expected[0])
    assert np.array_equal(lost.ravel(), expected[1])


@pytest.mark.parametrize("dummies", [[0], [7], [0, 1, 2, 3], [65535]])
def test_listed_dummies_do_not_count_even_when_they_are_zero(device: cl.Device, form: Form, dummies: list[int]) -> None:
    kind = np.dtype("u4")
    integrator = BatchIntegrator(synthetic.geometry(SHAPE, BINS), kind, device, form)
    frames = synthetic.frames(5, SHAPE, kind, 9)
    frames[:, 3] = 65535
    lost = check(integrator, frames, Validity.of(kind, dummies)).lost_count
    assert lost.sum() > 0
    _, image_lost = integrator.read_image()
    assert image_lost.sum() == lost.sum()


def test_dummies_are_compared_on_integers(device: cl.Device, form: Form) -> None:
    """2^25 + 1 and 2^25 are one and the same float32."""
    kind, dummy = np.dtype("u4"), 2**25
    integrator = BatchIntegrator(synthetic.geometry((1, 4), 1, masked=0), kind, device, form)
    sums = check(integrator, np.array([[[dummy, dummy + 1, dummy - 1, 5]]], kind), Validity.of(kind, [dummy]))
    assert sums.signal[0, 0] == 2 * dummy + 5
    assert sums.lost_count[0, 0] == 1


def test_the_limit_is_compared_on_integers(device: cl.Device, form: Form) -> None:
    """2^32 - 3 and 2^32 - 2 are one and the same float32."""
    kind = np.dtype("u4")
    geometry = synthetic.geometry((1, 4), 1, masked=0)
    integrator = BatchIntegrator(geometry, kind, device, form)
    top = 2**32
    frames = np.array([[[top - 1, top - 2, top - 3, 5]]], kind)
    sums = check(integrator, frames, Validity.of(kind))
    assert sums.signal[0, 0] == top - 3 + 5
    assert sums.lost_count[0, 0] == 2
    assert check(integrator, frames, Validity.of(kind, saturation=4)).lost_count[0, 0] == 4


def test_huge_values_are_summed_in_halves(device: cl.Device, form: Form) -> None:
    """Eight frames of thousands of pixels near 2^32: squares and products need more than 64 bits."""
    kind, shape = np.dtype("u4"), (97, 131)
    integrator = BatchIntegrator(synthetic.geometry(shape, 2), kind, device, form)
    frames = np.full((8, *shape), 2**32 - 3, kind)
    sums = check(integrator, frames, Validity.of(kind))
    assert (sums.signal_sq[..., 0] > 0).any()
    check(integrator, np.full((8, *shape), 3, kind), Validity.of(kind))


def test_just_below_and_above_64_bits(device: cl.Device, form: Form) -> None:
    """One bin of 2^k equal pixels: the sum of squares crosses 2^64 between two neighbouring values."""
    kind, shape = np.dtype("u4"), (64, 64)
    integrator = BatchIntegrator(synthetic.geometry(shape, 1, masked=0), kind, device, form)
    edge = int(np.sqrt(2**64 / 4096))
    for value in (edge - 1, edge, edge + 1):
        check(integrator, np.full((2, *shape), value, kind), Validity.of(kind))


def test_products_may_need_more_than_64_bits_where_squares_do_not(device: cl.Device, form: Form) -> None:
    """Fifty pixels of 2^29: their squares add up to 2^63.6, their products with norms near 2^30 to more than 2^64."""
    kind, shape = np.dtype("u4"), (5, 10)
    integrator = BatchIntegrator(synthetic.geometry(shape, 1, masked=0), kind, device, form)
    sums = check(integrator, np.full((1, *shape), 2**29, kind), Validity.of(kind))
    assert (sums.signal_sq[..., 0] == 0).all()
    assert (sums.norm_signal[..., 0] > 0).all()


def test_summed_image_carries_into_its_high_word(device: cl.Device, form: Form) -> None:
    kind = np.dtype("u4")
    integrator = BatchIntegrator(synthetic.geometry(SHAPE, BINS), kind, device, form)
    frames = np.full((8, *SHAPE), 2**31 + 12345, kind)
    for _ in range(3):
        check(integrator, frames, Validity.of(kind))
    total, lost = integrator.read_image()
    used = ~integrator.geometry.mask
    assert (total[used] == 24 * (2**31 + 12345)).all()
    assert (total[~used] == 0).all()
    assert not lost.any()
    integrator.clear()
    assert not integrator.read_image()[0].any()


@pytest.mark.parametrize("group", [1, 2, 32, 128])
def test_work_group_size_does_not_matter(device: cl.Device, group: int) -> None:
    kind, shape = np.dtype("u2"), (97, 131)
    integrator = BatchIntegrator(synthetic.geometry(shape, 300), kind, device, "groups")
    frames = synthetic.frames(8, shape, kind, 60000)
    integrator.slots[:] = frames
    buffer = integrator._slots[0].buffer
    expected, _ = integrator._kernels.integrate(buffer, 8, Validity.of(kind))
    expected = expected.copy()
    pixels, tables = PixelFormat.of(integrator.geometry, kind), integrator._tables
    other = GroupKernels(integrator._queue, integrator.geometry, pixels, integrator._image, tables, group)
    assert np.array_equal(other.integrate(buffer, 8, Validity.of(kind))[0], expected)


def test_a_fully_masked_detector_gives_zeros(device: cl.Device, form: Form) -> None:
    kind, geometry = np.dtype("u2"), synthetic.geometry(SHAPE, BINS).masked(np.ones(SHAPE, bool))
    integrator = BatchIntegrator(geometry, kind, device, form)
    sums = check(integrator, synthetic.frames(2, SHAPE, kind, 9), Validity.of(kind))
    assert not sums.signal.any()


def test_library_integrates_any_number_of_frames_at_once(device: cl.Device) -> None:
    geometry = synthetic.geometry(SHAPE, BINS)
    frames = synthetic.frames(19, SHAPE, np.dtype("u2"), 50)
    integrator = Integrator(geometry, device)
    together = integrator.integrate(frames)
    apart = integrator.integrate(frames[:5]) + integrator.integrate(frames[5:])
    assert together.n_frames == 19
    assert np.array_equal(together.words, apart.words)
    with pytest.raises(ValueError, match="does not fit"):
        integrator.integrate(frames[:, :10])
    with pytest.raises(ValueError, match="not supported"):
        integrator.integrate(frames.astype(float))


def test_too_large_a_frame_is_refused_before_allocation(device: cl.Device) -> None:
    with pytest.raises(OutOfDeviceMemory) as caught:
        check_memory(device, 1 << 60, 1)
    assert caught.value.needed_bytes == 1 << 60


def test_a_kernel_that_does_not_build_says_why(device: cl.Device) -> None:
    with pytest.raises(KernelBuildError, match="lanes") as caught:
        build(cl.Context([device]), "lanes", {"PIXEL": "nonsense", "PIXELS": 1, "BINS": 1, "ITEMS": 1})
    assert "nonsense" in caught.value.log


def test_geometry_bins_can_be_empty(device: cl.Device, form: Form) -> None:
    geometry: Geometry = synthetic.geometry((3, 5), 40)
    counts = np.bincount(geometry.bin_table[geometry.bin_table < 40], minlength=40)
    assert (counts == 0).any()
    kind = np.dtype("u1")
    check(BatchIntegrator(geometry, kind, device, form), synthetic.frames(3, (3, 5), kind, 200), Validity.of(kind))


def test_another_mask_on_the_same_integrator_is_like_a_new_one(device: cl.Device, form: Form) -> None:
    kind = np.dtype("u2")
    base = synthetic.geometry(SHAPE, BINS)
    frames = synthetic.frames(8, SHAPE, kind, 300)
    integrator = BatchIntegrator(base, kind, device, form)
    check(integrator, frames, Validity.of(kind))
    masks = np.random.default_rng(5).random((2, *SHAPE)) < 0.3
    for geometry in (base.masked(masks[0]), base.masked(masks[1]), base):
        assert integrator.fits(geometry, kind)
        integrator.change_mask(geometry)
        integrator.clear()
        sums = check(integrator, frames, Validity.of(kind))
        static = StaticSums.of(geometry.bin_table, geometry.norm_q, geometry.bins)
        assert np.array_equal(sums.rows(integrator.static), sums.rows(static))
        total, lost = integrator.read_image()
        expected = reference.evaluate_image(total.ravel(), lost.ravel(), 8, geometry)
        assert np.array_equal(integrator.evaluate_image(8).norm, expected.norm)
    assert not integrator.fits(base, np.dtype("u4"))
    assert not integrator.fits(synthetic.geometry(SHAPE, BINS), kind)
