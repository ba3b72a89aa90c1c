"""From profiles to how spotty the rings are: pyFAI's spottiness, and one over well-measured bins only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .sums import RingProfile

MIN_SIGNAL = 10
MIN_PIXELS = 100
MIN_AZIMUTH = 0.5

_SMOOTH, _STRONG = 0.05, 0.15

SpottinessClass = Literal["smooth", "mild", "strong"]


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
    weights = bin_weights(profile.signal, profile.intensity, profile.count, azimuth_fraction)
    squares = np.einsum("...bw,...b->w...", weights, np.maximum(profile.variance, 0.0))
    return SpottinessValues(*np.sqrt(squares))


def spottiness_class(plain: float) -> SpottinessClass:
    """The class that pyFAI's rule of thumb gives a plain spottiness: smooth below .05, strong above .15.

    Meant for bins of about one pixel over the whole detector (``Geometry.pixel_bins``); elsewhere it says nothing.
    """
    if plain < _SMOOTH:
        return "smooth"
    return "strong" if plain > _STRONG else "mild"


def bin_weights(
    signal: NDArray[np.float64],
    intensity: NDArray[np.float64],
    count: NDArray[np.float64] | NDArray[np.uint64],
    azimuth_fraction: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What each bin's variance counts for in the three squares of `spottiness`: square = sum over bins of w variance.

    Parameters
    ----------
    signal, intensity, count
        Of one profile (bins,) or of many (frames, bins); ``intensity`` in any unit.
    azimuth_fraction
        Share of the circle each bin covers, shape (bins,).

    Returns
    -------
    weights
        Shape (..., bins, 3): plain, weighted, rings. NaN for rings where no bin qualifies.
    """
    per_square = 1.0 / np.maximum(signal, 1.0) ** 2
    bright = np.maximum(intensity, 0.0)
    good = (signal >= MIN_SIGNAL) & (count >= MIN_PIXELS) & (azimuth_fraction >= MIN_AZIMUTH)
    shares = (np.full_like(bright, 1.0 / signal.shape[-1]), bright / _total(bright, 1.0), good / _total(good, np.nan))
    return np.stack([share * per_square for share in shares], axis=-1)


def _total(shares: NDArray[np.generic], empty: float) -> NDArray[np.float64]:
    """Sum over the bins, ``empty`` where that is 0; shape (..., 1)."""
    total = shares.sum(-1, keepdims=True, dtype=np.float64)
    return np.where(total > 0, total, empty)
