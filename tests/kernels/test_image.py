"""Statistics of the summed and of the averaged image, and its cake: integers exact, float64 as the specification."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pyopencl as cl
import pytest
from numpy.typing import NDArray

from ringwatch_gpu import exact, reference
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.validity import Validity

from . import synthetic

# Both are float64 sums of at most some thousand terms in different orders; variance subtracts the mean first.
RTOL = 1e-11
# Norms of the cake are sums of norms near 2^30 that are rounded to multiples of 2^10.
CAKE_RTOL = 1e-6
# Each pixel is rounded down to 2^-60 of the squared signal, and its square is rounded before.
SCATTER_ATOL = 2.0**-60 * 500

EXACT = ("signal", "norm", "count", "cake_signal")
FLOATS = (
    "norm_sq",
    "variance",
    "averaged_signal",
    "averaged_norm",
    "averaged_variance",
    "bin_weights",
)
SHAPE, BINS = synthetic.SHAPE, synthetic.BINS


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


@pytest.mark.parametrize("invalid", [0.0, 0.3])
@pytest.mark.parametrize("largest", [2, 60000])
def test_evaluation_is_that_of_the_specification(device: cl.Device, form: Form, invalid: float, largest: int) -> None:
    check(device, form, np.dtype("u2"), largest, invalid)


def test_evaluation_beyond_32_bits(device: cl.Device, form: Form) -> None:
    assert check(device, form, np.dtype("u4"), 4_000_000_000, 0.3).max() > 2**33


@pytest.mark.parametrize(
    ("shape", "bins", "dtype"),
    [((1, 1), 1, "u1"), ((3, 5), 40, "u2"), ((2, 900), 1, "u4"), ((97, 131), 300, "u1")],
)
def test_evaluation_of_awkward_shapes(
    device: cl.Device, form: Form, shape: tuple[int, int], bins: int, dtype: str
) -> None:
    kind = np.dtype(dtype)
    integrator = BatchIntegrator(synthetic.geometry(shape, bins), kind, device, form)
    integrator.slots[:] = synthetic.frames(8, shape, kind, 200, 0.1)
    integrator.integrate(8, Validity.of(kind))
    assert_specified(integrator, 8)


def check(
    device: cl.Device, form: Form, kind: np.dtype[np.generic], largest: int, invalid: float
) -> NDArray[np.uint64]:
    """Evaluate sixteen frames, compare with the specification; returns the summed image."""
    integrator = integrated(BatchIntegrator(synthetic.geometry(SHAPE, BINS), kind, device, form), largest, invalid)
    assert_specified(integrator, 16)
    return integrator.read_image()[0]


def integrated(integrator: BatchIntegrator, largest: int, invalid: float) -> BatchIntegrator:
    """The same after sixteen random frames with one dead pixel and a dead corner."""
    kind = integrator.dtype
    for seed in (1, 2):
        frames = synthetic.frames(8, SHAPE, kind, largest, invalid, seed)
        frames[:, 5, 7] = frames[:, 25:, 30:] = np.iinfo(kind).max  # never valid
        integrator.slots[:] = frames
        integrator.integrate(8, Validity.of(kind))
    return integrator


def assert_specified(integrator: BatchIntegrator, n_frames: int) -> None:
    total, lost = integrator.read_image()
    expected = reference.evaluate_image(total.ravel(), lost.ravel(), n_frames, integrator.geometry)
    found = integrator.evaluate_image(n_frames)
    for name in EXACT:
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in FLOATS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=RTOL, err_msg=name)
    largest = np.maximum(expected.signal, 1)[:, np.newaxis].astype(float) ** 2
    np.testing.assert_allclose(
        found.cake_scatter / largest, expected.cake_scatter / largest, rtol=RTOL, atol=SCATTER_ATOL
    )
    np.testing.assert_allclose(found.cake_norm, expected.cake_norm, rtol=CAKE_RTOL)
    assert np.array_equal(found.cake_norm == 0, expected.cake_norm == 0)


def test_the_cake_adds_up_to_the_bins(device: cl.Device, form: Form) -> None:
    """Sector by sector, dead ones included: signal, norm and variance of the bins."""
    integrator = integrated(BatchIntegrator(synthetic.geometry(SHAPE, BINS), np.dtype("u2"), device, form), 900, 0.1)
    image = integrator.evaluate_image(16)
    assert np.array_equal(image.cake_signal.sum(axis=1), image.signal)
    np.testing.assert_allclose(image.cake_norm.sum(axis=1), exact.to_float(image.norm), rtol=CAKE_RTOL)
    largest = np.maximum(image.signal, 1).astype(float) ** 2
    np.testing.assert_allclose(
        image.cake_scatter.sum(axis=1) / largest, image.variance / largest, rtol=RTOL, atol=SCATTER_ATOL
    )


def test_a_change_of_mask_changes_the_cake(device: cl.Device, form: Form) -> None:
    base = synthetic.geometry(SHAPE, BINS)
    integrator = BatchIntegrator(base, np.dtype("u2"), device, form)
    mask = np.random.default_rng(5).random(SHAPE) < 0.3
    for geometry in (base, base.masked(mask), base):
        integrator.change_mask(geometry)
        integrator.clear()
        assert_specified(integrated(integrator, 900, 0.1), 16)


def test_evaluation_repeats_bit_for_bit(device: cl.Device, form: Form) -> None:
    integrator = integrated(BatchIntegrator(synthetic.geometry(SHAPE, BINS), np.dtype("u4"), device, form), 1000, 0.1)
    first, second = integrator.evaluate_image(16), integrator.evaluate_image(16)
    for field in fields(reference.ImageSums):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name)), field.name
    assert first.variance.any()
