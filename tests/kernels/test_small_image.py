"""The summed image made small on the device: the same integers as the specification, and what a person sees of them."""

from typing import get_args

import numpy as np
import pyopencl as cl
import pytest

from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.reference_small_image import block_sums
from ringwatch_gpu.small_image import LARGEST_SIDE, mean_counts, step_of
from ringwatch_gpu.validity import Validity

from . import synthetic


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


@pytest.mark.parametrize(
    ("shape", "form"), [((1, 1), "lanes"), ((3, 700), "groups"), ((1100, 5), "lanes"), ((600, 530), "groups")]
)
def test_blocks_are_those_of_the_specification(device: cl.Device, form: Form, shape: tuple[int, int]) -> None:
    """Small images are made by one and the same kernel for both forms."""
    geometry, dtype = synthetic.geometry(shape, 11), np.dtype("u4")
    integrator = BatchIntegrator(geometry, dtype, device, form)
    integrator.slots[:] = synthetic.frames(8, shape, dtype, 4_000_000_000, 0.3)
    integrator.integrate(8, Validity.of(dtype))
    total, lost = integrator.read_image()
    used = geometry.bin_table.reshape(shape) < geometry.bins
    step = step_of(shape)
    expected = mean_counts(*block_sums(total, lost, used, 8, step), 8)
    small = integrator.small_image(8)
    np.testing.assert_array_equal(small, expected)
    assert max(small.shape) <= LARGEST_SIDE
    assert small.shape == (-(-shape[0] // step), -(-shape[1] // step))


def test_a_pixel_that_lost_frames_is_shown_as_if_it_had_not(device: cl.Device, form: Form) -> None:
    geometry, dtype = synthetic.geometry((4, 4), 3, masked=0.0), np.dtype("u1")
    integrator = BatchIntegrator(geometry, dtype, device, form)
    integrator.slots[:] = 10
    integrator.slots[3:, 1, 1] = 255
    integrator.slots[:, 2, 2] = 255
    integrator.integrate(8, Validity.of(dtype))
    small = integrator.small_image(8)
    assert small[0, 0] == 80
    assert small[1, 1] == 80
    assert np.isnan(small[2, 2])
