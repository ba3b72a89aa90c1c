"""From profiles to how spotty the rings are: pyFAI's spottiness, and one over well-measured bins only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sums import RingProfile

MIN_SIGNAL = 10
MIN_PIXELS = 100
MIN_AZIMUTH = 0.5


@dataclass(frozen=True)
class SpottinessValues:
    """The three numbers: floats, or arrays of shape (frames,) for a batch. ``rings`` is NaN where no bin qualifies."""

    plain: NDArray[np.float64]
    weighted: NDArray[np.float64]
    rings: NDArray[np.float64]


def spottiness(profile: RingProfile, azimuth_fraction: NDArray[np.float64]) -> SpottinessValues:
    """Spottiness of one profile (bins,) or of many (frames, bins).

    ``plain`` and ``weighted`` are pyFAI's ``calc_spottiness`` (pyFAI 2026.9; after Ingham, J. Appl. Cryst. 47 (2014)
    166): the root of the mean over all bins, empty ones included, of variance / max(1, signal)^2, unweighted and
    weighted by intensity. ``rings`` takes the bins with at least 10 counts, 100 valid pixels and half of the azimuth,
    and no clamp.

    Parameters
    ----------
    azimuth_fraction
        Share of the circle each bin covers, shape (bins,).
    """
    signal, variance = profile.signal, np.maximum(profile.variance, 0.0)
    relative = variance / np.maximum(signal, 1.0) ** 2
    weight = np.maximum(profile.intensity, 0.0)
    weights = weight.sum(-1)
    weighted = np.sqrt((weight * relative).sum(-1) / np.where(weights > 0, weights, 1.0))
    good = (signal >= MIN_SIGNAL) & (profile.count >= MIN_PIXELS) & (azimuth_fraction >= MIN_AZIMUTH)
    n_good = good.sum(-1)
    rings = np.sqrt(np.where(good, relative, 0.0).sum(-1) / np.where(n_good > 0, n_good, 1))
    return SpottinessValues(np.sqrt(relative.mean(-1)), weighted, np.where(n_good > 0, rings, np.nan))
