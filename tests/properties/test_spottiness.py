"""Spottiness depends on what it should, and on nothing else."""

import numpy as np
import pytest

from ringwatch_gpu.spottiness import bin_weights, spottiness
from ringwatch_gpu.sums import RingProfile

SIGNAL, VARIANCE, COUNT = np.array([100.0, 400.0]), np.array([50.0, 900.0]), np.array([200.0, 300.0])


def profile_of(*columns: np.ndarray) -> RingProfile:
    signal, variance, count = columns
    return RingProfile.of(signal, variance, count, count, count)


def test_empty_bins_count_as_perfectly_smooth() -> None:
    """As in pyFAI: a bin without a pixel lowers the mean over all bins, not the weighted one, nor that of rings."""
    filled, empty = (SIGNAL, VARIANCE, COUNT), np.zeros(2)
    without = spottiness(profile_of(*filled), np.ones(2))
    among = spottiness(profile_of(*(np.concatenate([column, empty]) for column in filled)), np.ones(4))
    assert among.plain == pytest.approx(without.plain / np.sqrt(2), rel=1e-14)
    assert among.weighted == pytest.approx(without.weighted, rel=1e-14)
    assert among.rings == pytest.approx(without.rings, rel=1e-14)


def test_weights_of_the_bins_give_the_three_squares() -> None:
    """For one profile and for many at once; NaN for rings where no bin qualifies."""
    rng = np.random.default_rng(3)
    signal, variance = rng.integers(0, 60, (4, 30)).astype(float), rng.random((4, 30)) * 50
    count, azimuth = rng.integers(1, 300, (4, 30)).astype(float), rng.random(30)
    count[3] = 1
    profiles = profile_of(signal, variance, count)
    values, weights = spottiness(profiles, azimuth), bin_weights(signal, profiles.intensity, count, azimuth)
    assert weights.shape == (4, 30, 3)
    for frame in range(4):
        one = bin_weights(signal[frame], profiles.intensity[frame], count[frame], azimuth)
        assert np.array_equal(one, weights[frame], equal_nan=True)
        squares = (one * variance[frame, :, np.newaxis]).sum(axis=0)
        expected = [values.plain[frame] ** 2, values.weighted[frame] ** 2, values.rings[frame] ** 2]
        assert squares == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert np.isnan(values.rings).tolist() == [False, False, False, True]
