"""Frames that count for their monitor: lost pixels, evaluation and profiles without outliers as the specification."""

from typing import get_args

import numpy as np
import pyopencl as cl
import pytest
from numpy.typing import NDArray

from ringwatch_gpu import exact, monitor, reference, reference_rejection
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.rejection import Rejection, SigmaClip
from ringwatch_gpu.sums import RingProfile, RingSums
from ringwatch_gpu.validity import Validity

from . import synthetic
from .test_image import BINS, CAKE_RTOL, EXACT, FLOATS, RTOL, SCATTER_ATOL, SHAPE

# Frames of which some had hardly any beam; the last one so much that its square takes 64 bits.
EXPOSURE = monitor.exposure([1.0, 0.5, 1e-6, 1.7, 3.3, 0.99, 1.0, 2.0, 1.1, 0.01, 4095.9], 1.0)
N_FRAMES = len(EXPOSURE)
# A bin of one pixel has no variance but that of rounding.
VARIANCE_ATOL = 1e-20
CLIP = Rejection(SigmaClip(), None, median_clip=False)
QUANTILES = Rejection(None, (0.2, 1.0), median_clip=False)


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


def frames_of(shape: tuple[int, int], kind: np.dtype[np.generic], invalid: float) -> NDArray[np.integer]:
    """With one dead pixel, and one that loses all frames but that of the largest exposure."""
    frames = synthetic.frames(N_FRAMES, shape, kind, 120, invalid)
    dead = -1 if kind.kind == "i" else np.iinfo(kind).max
    frames[:, -1, -1] = frames[:-1, 0, -1] = dead
    return frames


def summed(
    device: cl.Device, form: Form, frames: NDArray[np.integer], bins: int, rejection: Rejection = CLIP
) -> tuple[BatchIntegrator, RingSums]:
    """An integrator that has taken all frames, and their sums."""
    geometry = synthetic.geometry(frames.shape[1:], bins)
    integrator = BatchIntegrator(geometry, frames.dtype, device, form, rejection=rejection, monitored=True)
    union, validity = RingSums.none_of(geometry, 1.0), Validity.of(frames.dtype)
    for first in range(0, N_FRAMES, 8):
        part, exposure = frames[first : first + 8], EXPOSURE[first : first + 8]
        integrator.slots[: len(part)] = part
        sums = integrator.integrate(len(part), validity, exposure=exposure)
        union = union.plus_rows(sums.rows(integrator.static, exposure))
    return integrator, union


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i4"])
@pytest.mark.parametrize("invalid", [0.0, 0.3])
def test_pixels_lose_the_exposure_of_frames_in_which_they_are_invalid(
    device: cl.Device, form: Form, kind: str, invalid: float
) -> None:
    frames = frames_of(SHAPE, np.dtype(kind), invalid)
    integrator, _ = summed(device, form, frames, BINS)
    geometry, flat = integrator.geometry, frames.reshape(N_FRAMES, -1)
    expected = reference.lost_exposure(flat, geometry.bin_table, geometry.bins, Validity.of(frames.dtype), EXPOSURE)
    found = integrator.read_lost_exposure()
    assert found is not None
    assert np.array_equal(found.ravel(), expected)
    assert expected.max() == int(EXPOSURE.sum())
    integrator.clear()
    cleared = integrator.read_lost_exposure()
    assert cleared is not None
    assert not cleared.any()


@pytest.mark.parametrize(("shape", "bins"), [((1, 1), 1), ((3, 5), 40), ((2, 900), 1), (SHAPE, BINS)])
def test_evaluation_is_that_of_the_specification(
    device: cl.Device, form: Form, shape: tuple[int, int], bins: int
) -> None:
    integrator, union = summed(device, form, frames_of(shape, np.dtype("u2"), 0.1), bins)
    total, lost = integrator.read_image()[0], integrator.read_lost_exposure()
    assert lost is not None
    all_frames = int(EXPOSURE.sum())
    expected = reference.evaluate_image(total.ravel(), lost.ravel(), all_frames, integrator.geometry, monitor.QUANTUM)
    found = integrator.evaluate_image(all_frames)
    for name in EXACT:
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in FLOATS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), RTOL, VARIANCE_ATOL, err_msg=name)
    np.testing.assert_allclose(found.cake_scatter, expected.cake_scatter, rtol=RTOL, atol=SCATTER_ATOL)
    largest = all_frames * 2.0**30  # norm of a pixel: what it lost is cut at 24 bits of that
    np.testing.assert_allclose(found.cake_norm, expected.cake_norm, CAKE_RTOL, 100 * largest * 2.0**-24)
    assert np.array_equal(found.cake_norm == 0, expected.cake_norm == 0)
    assert np.array_equal(exact.widened(found.norm, monitor.WORDS), union.words[3])
    assert np.array_equal(found.signal, union.words[0, :, -1])


@pytest.mark.parametrize("rejection", [CLIP, QUANTILES], ids=lambda rejection: rejection.methods[0])
def test_profiles_without_outliers_are_those_of_the_specification(
    device: cl.Device, form: Form, rejection: Rejection
) -> None:
    integrator, _ = summed(device, form, frames_of(SHAPE, np.dtype("u2"), 0.1), BINS, rejection)
    total, lost = integrator.read_image()[0], integrator.read_lost_exposure()
    assert lost is not None
    all_frames, geometry = int(EXPOSURE.sum()), integrator.geometry
    (method,) = rejection.methods
    expected = reference_rejection.reject(total.ravel(), lost.ravel(), all_frames, geometry, rejection)[method]
    signal, norm, norm_sq, count, variance = expected
    quantum = geometry.norm_quantum * monitor.QUANTUM
    same = RingProfile.of(signal, variance, norm * quantum, norm_sq * quantum**2, count)
    found = integrator.reject_outliers(all_frames)[method]
    for name, values in vars(same).items():
        assert np.array_equal(getattr(found, name), values), name


def test_a_frame_of_twice_the_beam_has_the_same_averaged_image(device: cl.Device, form: Form) -> None:
    """Counts and exposure doubled: intensities are those at the reference, whatever the beam."""
    geometry = synthetic.geometry(SHAPE, BINS, masked=0)
    once = synthetic.frames(1, SHAPE, np.dtype("u2"), 300, 0)
    integrator = BatchIntegrator(geometry, once.dtype, device, form, monitored=True)
    images = []
    for beam in (1, 2):
        integrator.clear()
        integrator.slots[0] = beam * once[0]
        integrator.integrate(1, Validity.of(once.dtype), exposure=monitor.exposure([beam], 1.0))
        images.append(integrator.evaluate_image(beam << 20))
    one, two = images
    np.testing.assert_allclose(two.averaged_signal, one.averaged_signal, rtol=RTOL)
    np.testing.assert_allclose(two.averaged_variance, one.averaged_variance, rtol=RTOL)
    np.testing.assert_allclose(one.averaged_signal, one.signal, rtol=RTOL)
    np.testing.assert_allclose(two.variance, 4 * one.variance, rtol=RTOL)
