"""Spottiness depends on what it should, and on nothing else."""

import numpy as np
import pytest

from ringwatch_gpu.spottiness import spottiness
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
