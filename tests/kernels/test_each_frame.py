"""Profiles of single frames that leave outliers out: the specification's for each frame alone."""

import numpy as np
import pyopencl as cl
import pytest

from ringwatch_gpu import Integrator, Rejection, SigmaClip
from ringwatch_gpu.reference_rejection import reject
from ringwatch_gpu.validity import Validity

from . import synthetic

GEOMETRY = synthetic.geometry(synthetic.SHAPE, synthetic.BINS)
U2 = np.dtype("u2")
FRAMES = synthetic.frames(3, GEOMETRY.shape, U2, 60)
FRAMES[:, ::5, ::7] = 5000


@pytest.mark.parametrize("rejection", [None, Rejection(SigmaClip(3, 2), None, median_clip=False, error_model="hybrid")])
def test_each_frame_is_rejected_alone(device: cl.Device, rejection: Rejection | None) -> None:
    found = Integrator(GEOMETRY, device).reject(FRAMES, rejection)
    assert set(found) == set((rejection or Rejection()).methods)
    bad = Validity.of(U2).invalid(FRAMES)
    for number, frame in enumerate(FRAMES):
        total, lost = np.where(bad[number], 0, frame).ravel().astype("u8"), bad[number].ravel().astype("u4")
        for method, sums in reject(total, lost, 1, GEOMETRY, rejection or Rejection()).items():
            assert np.array_equal(found[method].signal[number], sums[0]), method
            assert np.array_equal(found[method].variance[number], sums[4]), method


def test_a_frame_of_another_shape_is_refused(device: cl.Device) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Integrator(GEOMETRY, device).reject(np.zeros((3, 4), "u2"))


def test_no_frame_gives_no_profile(device: cl.Device) -> None:
    assert Integrator(GEOMETRY, device).reject(FRAMES[:0]) == {}
