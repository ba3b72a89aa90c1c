"""Sums of the summed image in, its spottiness as relative variances out: photons, trend and slope told apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import exact
from .geometry_pyfai import SECTORS
from .reference import ImageSums

_PLAIN, _WEIGHTED, _RINGS = range(3)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scatter:
    """A relative variance; its root is what is published.

    Attributes
    ----------
    total
        All of it.
    photons
        Its part that photon noise explains.
    replicates
        ``total`` with one azimuthal sector left out, shape (sectors,).
    slope
        Its part that the slope of the profile inside the radial bins explains: no number of frames takes it away.
    trend_factor
        What a smooth azimuthal variation of relative variance 1 would add.
    """

    total: float
    photons: float
    replicates: Floats
    slope: float = 0.0
    trend_factor: float = 0.0

    def scaled_to(self, total: float) -> "Scatter":
        """Another relative variance, made up of the same shares."""
        ratio = total / self.total if self.total > 0 else 0.0
        return Scatter(
            total, ratio * self.photons, ratio * self.replicates, ratio * self.slope, ratio * self.trend_factor
        )


def spottiness_scatter(image: ImageSums) -> tuple[Scatter, Scatter, Scatter | None]:
    """Squares of the plain, the weighted and the rings spottiness of the summed image; None where no bin qualifies."""
    rings = None if np.isnan(image.bin_weights[:, _RINGS]).any() else _scatter(image, _RINGS)
    return _scatter(image, _PLAIN), _scatter(image, _WEIGHTED), rings


def bin_spottiness(image: ImageSums) -> Floats:
    """Relative standard error of the mean of each bin of the summed image, NaN in bins not measured well enough."""
    good = image.bin_weights[:, _RINGS] > 0
    signal = np.where(good, image.signal, np.nan)
    return np.asarray(np.sqrt(np.maximum(image.variance, 0.0)) / signal)


def photon_variance(image: ImageSums) -> Floats:
    """What photon noise alone is expected to add to the variance of each bin: V (1 - G2 / G1^2), shape (bins,).

    V is the variance of the noise of the signal: the counts themselves, where no dark was taken off.
    """
    norm = exact.to_float(image.norm)
    return np.asarray(image.noise_variance * (1 - image.norm_sq / np.where(norm > 0, norm, np.inf) ** 2))


def _scatter(image: ImageSums, which: int) -> Scatter:
    weights = image.bin_weights[:, which]
    signal, norm = image.signal.astype(np.float64), exact.to_float(image.norm)
    intensity = signal / np.where(norm > 0, norm, 1.0)
    steepness = np.gradient(intensity) if intensity.size > 1 else np.zeros_like(intensity)
    return Scatter(
        total=float((weights * image.variance).sum()),
        photons=float((weights * photon_variance(image)).sum()),
        replicates=_replicates(image, which),
        slope=float((weights * image.norm_sq * steepness**2).sum() / 12),  # uniform inside a bin
        trend_factor=float((weights * image.norm_sq * intensity**2).sum()),
    )


def _replicates(image: ImageSums, which: int) -> Floats:
    """The square with one sector left out, for as many pixels as there were: its pixels go, and the mean moves."""
    signal, norm = (part.sum(axis=1, keepdims=True) for part in (image.cake_signal.astype(np.float64), image.cake_norm))
    left, left_norm = signal - image.cake_signal, norm - image.cake_norm
    mean, left_mean = (s / np.where(g > 0, g, 1.0) for s, g in ((signal, norm), (left, left_norm)))
    spread = (image.norm_sq[:, np.newaxis] * left_norm / np.where(norm > 0, norm, 1.0)) * (left_mean - mean) ** 2
    variance = image.variance[:, np.newaxis] - image.cake_scatter - spread
    shares = _shares(image, which, left_mean)
    relative = np.maximum(variance, 0.0) / np.maximum(left, 1.0) ** 2
    return np.asarray((shares * relative).sum(axis=0) * (SECTORS - 1) / SECTORS)


def _shares(image: ImageSums, which: int, intensity: Floats) -> Floats:
    """What each bin's relative variance counts for; for the weighted square with the intensities that are left."""
    if which == _WEIGHTED:
        bright = np.maximum(intensity, 0.0)
        return np.asarray(bright / np.maximum(bright.sum(axis=0), np.finfo(float).tiny))
    signal = np.maximum(image.signal.astype(np.float64), 1.0)
    return np.asarray((image.bin_weights[:, which] * signal**2)[:, np.newaxis])
