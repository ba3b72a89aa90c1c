"""The library's front door: frames one by one, together and summed up, from whatever yields them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import pyopencl as cl
import pytest

from ringwatch_gpu import reference
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.integrator import Integrator
from ringwatch_gpu.rejection import Rejection
from ringwatch_gpu.summed_image import image_profile
from ringwatch_gpu.validity import Validity
from tests.kernels import synthetic

SHAPE, U2 = synthetic.SHAPE, np.dtype("u2")
RINGS = synthetic.geometry(SHAPE, synthetic.BINS)
FRAMES = synthetic.frames(19, SHAPE, U2, 50, invalid=0.2)
Source = Callable[[np.ndarray, Path], Iterable[np.ndarray]]


def dataset(frames: np.ndarray, folder: Path) -> h5py.Dataset:
    file = h5py.File(folder / "frames.h5", "w")
    file["frames"] = frames
    return file["frames"]


SOURCES: dict[str, Source] = {
    "array": lambda frames, _: frames,
    "list": lambda frames, _: list(frames),
    "generator": lambda frames, _: (frame for frame in frames),
    "dataset": dataset,
    "other byte order": lambda frames, _: frames.astype(">u2"),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_frames_come_from_whatever_yields_them(device: cl.Device, tmp_path: Path, source: Source) -> None:
    integrator = Integrator(RINGS, device)
    found = integrator.integrate(source(FRAMES, tmp_path))
    assert found.n_frames == 19
    np.testing.assert_array_equal(found.words, integrator.integrate(FRAMES).words)


def test_each_frame_has_its_sums_and_they_add_to_those_of_all(device: cl.Device) -> None:
    integrator = Integrator(RINGS, device)
    patterns = list(integrator.each(FRAMES))
    assert [pattern.n_frames for pattern in patterns] == [1] * 19
    for frame, pattern in zip(FRAMES, patterns, strict=True):
        np.testing.assert_array_equal(pattern.words, integrator.integrate(frame).words)
    np.testing.assert_array_equal(sum(patterns[1:], patterns[0]).words, integrator.integrate(FRAMES).words)


def test_patterns_outlive_what_is_integrated_between_them(device: cl.Device) -> None:
    integrator = Integrator(RINGS, device)
    patterns = integrator.each(FRAMES)
    first = next(patterns)
    image = integrator.accumulate(FRAMES[5:9])
    np.testing.assert_array_equal(first.words, integrator.integrate(FRAMES[0]).words)
    np.testing.assert_array_equal(sum(patterns, first).words, integrator.integrate(FRAMES).words)
    np.testing.assert_array_equal(image.union.words, integrator.integrate(FRAMES[5:9]).words)


def test_the_summed_image_is_that_of_these_frames_alone(device: cl.Device) -> None:
    integrator = Integrator(RINGS, device)
    integrator.integrate(FRAMES[:3])
    integrator.accumulate(FRAMES[3:5])
    image = integrator.accumulate(FRAMES[5:])

    validity, flat = Validity.of(U2), FRAMES[5:].reshape(14, -1)
    total, lost = reference.accumulate_image(flat, RINGS.bin_table, RINGS.bins, validity)
    expected = reference.evaluate_image(total, lost, 14, RINGS)
    np.testing.assert_array_equal(image.total.ravel(), total)
    np.testing.assert_array_equal(image.lost.ravel(), lost)
    for name, values in vars(image_profile(expected, RINGS.norm_quantum)).items():
        np.testing.assert_allclose(getattr(image.profile, name), values, rtol=1e-12, err_msg=name)
    np.testing.assert_array_equal(image.profile.signal, image.union.profile.signal)
    np.testing.assert_array_equal(image.profile.normalization, image.union.profile.normalization)


def test_the_averaged_image_is_integrated_as_numpy_does(device: cl.Device) -> None:
    """Two frames with many dummies: some pixels are never valid."""
    frames = synthetic.frames(2, SHAPE, U2, 50, invalid=0.4)
    image = Integrator(RINGS, device).accumulate(frames)
    average = np.ma.masked_equal(frames, 65535).mean(axis=0).filled(np.nan)
    np.testing.assert_allclose(np.where(RINGS.mask, np.nan, image.average), np.where(RINGS.mask, np.nan, average))
    assert np.isnan(image.average[~RINGS.mask]).any()

    used = ~(RINGS.mask | np.isnan(average)).ravel()
    where, s, g = RINGS.bin_table[used], average.ravel()[used], RINGS.norm_q[used] * RINGS.norm_quantum
    signal, norm, norm_sq = (np.bincount(where, x, RINGS.bins) for x in (s, g, g * g))
    mean = np.divide(signal, norm, out=np.zeros_like(norm), where=norm > 0)
    variance = np.bincount(where, (s - g * mean[where]) ** 2, RINGS.bins)
    np.testing.assert_allclose(image.averaged.intensity, mean, rtol=1e-12)
    np.testing.assert_allclose(image.averaged.norm_sq, norm_sq, rtol=1e-12)
    np.testing.assert_allclose(image.averaged.variance, variance, rtol=1e-9)


def test_profiles_without_outliers_are_made_where_asked_for(device: cl.Device) -> None:
    assert Integrator(RINGS, device).accumulate(FRAMES).without_outliers == {}
    asked = Integrator(RINGS, device, rejection=Rejection(quantile=None)).accumulate(FRAMES)
    assert set(asked.without_outliers) == {"sigma_clip", "median_clip"}


def test_spottiness_is_that_of_the_profile_and_of_its_sums(device: cl.Device) -> None:
    integrator = Integrator(RINGS, device)
    sums = integrator.integrate(FRAMES)
    assert integrator.spottiness(sums) == integrator.spottiness(sums.profile)
    assert 0 < integrator.spottiness(sums).plain < 1


def test_no_frames_are_no_sums_and_no_image(device: cl.Device) -> None:
    integrator = Integrator(RINGS, device)
    assert integrator.integrate([]).n_frames == 0
    assert list(integrator.each([])) == []
    with pytest.raises(ValueError, match="no frame"):
        integrator.accumulate([])


WRONG = {
    "another shape among them": ([FRAMES[0], FRAMES[1, :10]], r"\(10, 53\) does not fit"),
    "another shape": (FRAMES[:, :10], "does not fit"),
    "a row": (FRAMES[0, 0], r"shape \(\) does not fit"),
    "another type": ([*FRAMES[:9], FRAMES[9].astype("u4")], "uint32 among frames of uint16"),
    "floats": (FRAMES.astype(float), "not supported"),
}


@pytest.mark.parametrize(("frames", "words"), WRONG.values(), ids=WRONG.keys())
def test_frames_that_do_not_fit_are_refused(device: cl.Device, frames: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Integrator(RINGS, device).integrate(frames)  # type: ignore[arg-type]


def test_the_package_offers_what_users_need() -> None:
    import ringwatch_gpu

    assert ringwatch_gpu.Geometry is Geometry
    names = {"Geometry", "Integrator", "Rejection", "RingSums", "SigmaClip", "SummedImage"}
    assert set(ringwatch_gpu.__all__) == names
    for name in ringwatch_gpu.__all__:
        assert getattr(ringwatch_gpu, name).__name__ == name
