"""Statistics of the summed and of the averaged image: integers exact, float64 as the specification."""

import numpy as np
import pyopencl as cl
import pytest
from numpy.typing import NDArray

from ringwatch_gpu import reference
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.validity import Validity

from . import synthetic

# Both are float64 sums of at most some thousand terms in different orders; variance subtracts the mean first.
RTOL = 1e-11


@pytest.mark.parametrize("invalid", [0.0, 0.3])
@pytest.mark.parametrize("largest", [2, 60000])
def test_evaluation_is_that_of_the_specification(device: cl.Device, invalid: float, largest: int) -> None:
    check(device, np.dtype("u2"), largest, invalid)


def test_evaluation_beyond_32_bits(device: cl.Device) -> None:
    assert check(device, np.dtype("u4"), 4_000_000_000, 0.3).max() > 2**33


def check(device: cl.Device, kind: np.dtype[np.generic], largest: int, invalid: float) -> NDArray[np.uint64]:
    """Evaluate sixteen frames, compare with the specification; returns the summed image."""
    shape, validity = (61, 47), Validity.of(kind)
    geometry = synthetic.geometry(shape, 13)
    integrator = BatchIntegrator(geometry, kind, device)
    for seed in (1, 2):
        frames = synthetic.frames(8, shape, kind, largest, invalid, seed)
        frames[:, 5, 7] = np.iinfo(kind).max  # never valid
        integrator.slots[:] = frames
        integrator.integrate(8, validity)
    total, lost = integrator.read_image()
    expected = reference.evaluate_image(
        total.ravel(), lost.ravel(), 16, geometry.bin_table, geometry.norm_q, geometry.bins
    )
    found = integrator.evaluate_image(16)
    for name in ("signal", "norm", "count"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in ("norm_sq", "variance", "averaged_signal", "averaged_norm", "averaged_variance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=RTOL, err_msg=name)
    return total


def test_evaluation_repeats_bit_for_bit(device: cl.Device) -> None:
    kind, shape = np.dtype("u4"), (61, 47)
    integrator = BatchIntegrator(synthetic.geometry(shape, 13), kind, device)
    integrator.slots[:] = synthetic.frames(8, shape, kind, 1000)
    integrator.integrate(8, Validity.of(kind))
    first, second = integrator.evaluate_image(8), integrator.evaluate_image(8)
    assert np.array_equal(first.variance, second.variance)
    assert first.variance.any()
