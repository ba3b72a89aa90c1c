"""What scatters by itself: photons that a dark took off still do; a model of the pixels can stand in for them."""

from dataclasses import replace

import numpy as np
import pytest

from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.noise import Noise, PixelVariance, modelled
from ringwatch_gpu.reference import ImageSums, evaluate_image
from ringwatch_gpu.scatter import photon_variance
from ringwatch_gpu.sums import RingProfile
from tests.statistics import spotty

SIZE, BINS, MEAN, DARK = 192, 20, 30.0, 90.0


def image_of(geometry: Geometry, signal: np.ndarray, noise: Noise) -> ImageSums:
    """The statistics of one frame of signals in quanta."""
    lost = np.zeros(geometry.pixels, np.uint32)
    squares = np.bincount(geometry.bin_table, signal.ravel().astype(float) ** 2)[:BINS] + 1
    sums = evaluate_image(np.where(geometry.mask, 0, signal).ravel(), lost, 1, geometry, squares=squares)
    return sums.in_counts(geometry.signal_quantum, noise)


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    """With a dark that differs from pixel to pixel."""
    plain = spotty.disc(SIZE, BINS)
    return plain.signed(dark=DARK + np.random.default_rng(1).normal(0, 5, plain.shape))


@pytest.fixture(scope="module")
def photons(geometry: Geometry) -> np.ndarray:
    """Signals of a smooth sample above the dark, in quanta."""
    norm = (geometry.norm_q * geometry.norm_quantum).reshape(geometry.shape)
    assert geometry.dark is not None
    raw = np.random.default_rng(2).poisson(MEAN * norm + geometry.dark)
    assert geometry.dark_q is not None
    return raw * 256 - geometry.dark_q.reshape(geometry.shape)


def test_a_dark_takes_no_noise_away(geometry: Geometry, photons: np.ndarray) -> None:
    """The variance of the pixels of a bin is that of the counts before the dark: about four times the signal."""
    image = image_of(geometry, photons, Noise.of(geometry))
    good = image.count > 200
    np.testing.assert_allclose(image.variance[good].sum() / photon_variance(image)[good].sum(), 1, atol=0.03)
    without = image_of(geometry, photons, Noise(1.0, np.zeros(BINS)))
    assert (photon_variance(image) > 2.5 * photon_variance(without))[good].all()


def test_sectors_have_the_noise_of_their_bin(geometry: Geometry, photons: np.ndarray) -> None:
    image = image_of(geometry, photons, Noise.of(geometry))
    np.testing.assert_allclose(image.cake_noise.sum(axis=1), image.noise_variance, rtol=1e-6)


def test_a_model_takes_the_place_of_photons() -> None:
    plain = spotty.disc(SIZE, BINS)
    norm = (plain.norm_q * plain.norm_quantum).reshape(plain.shape)
    noise = Noise.of(plain, PixelVariance(2.0, 7.0))
    rng = np.random.default_rng(3)
    signal = np.rint(rng.normal(MEAN * norm, np.sqrt(2.0 * MEAN * norm + 49.0))).astype(np.int64)
    image = image_of(plain, signal, noise)
    good = image.count > 200
    np.testing.assert_allclose(image.variance[good].sum() / photon_variance(image)[good].sum(), 1, atol=0.03)
    np.testing.assert_allclose(image.noise_variance, 2.0 * image.signal + 49.0 * image.count, rtol=1e-6)


def test_without_a_dark_noise_is_the_counts_themselves() -> None:
    plain = spotty.disc(SIZE, BINS)
    counts = np.random.default_rng(4).poisson(3.0, plain.shape)
    image = image_of(plain, counts, Noise.of(plain))
    assert np.array_equal(image.noise_variance, image.signal)
    assert np.array_equal(image.cake_noise, image.cake_signal)
    assert np.array_equal(replace(image, noise=None).noise_variance, image.signal)


def test_a_modelled_profile_keeps_all_but_its_errors() -> None:
    ones = np.ones(3)
    profile = RingProfile.of(np.array([8.0, -50.0, 0.0]), ones, 2 * ones, ones, 4 * ones)
    found = modelled(profile, PixelVariance(0.5, 2.0), np.array([4.0, 4.0, 0.0]))
    assert found.variance.tolist() == [0.5 * 8 + 4 * 4, 0.0, 0.0]
    assert found.sem.tolist() == [np.sqrt(20) / 2, 0.0, 0.0]
    assert np.array_equal(found.intensity, profile.intensity)
