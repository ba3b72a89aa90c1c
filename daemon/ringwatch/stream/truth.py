"""A simulated powder and bin edges in, the expected sums and spottiness out: what a reduction of it must find.

Expectations follow Campbell's theorem for spots that fall at random on each ring. They hold to leading order: where a
bin holds few counts or a ring few spots, the mean of a quotient is not the quotient of the means. Log-normal amplitudes
have expectations that a series of ordinary length does not come near.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringwatch.stream.powder import Pixels, Powder, Rings, pixel_mask, pixels, rings

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expected:
    """Sums per radial bin with all normalizations 1, arrays of shape (bins,), and what follows from them.

    ``count``: valid pixels; ``signal``: counts; ``variance``: sum of the squared deviations from the bin's mean.
    """

    count: Floats
    signal: Floats
    variance: Floats

    @property
    def spottiness(self) -> float:
        """Root mean square over all bins of the relative standard error of the mean, as pyFAI computes it."""
        return float(np.sqrt(self._relative_variance().mean()))

    @property
    def spottiness_weighted(self) -> float:
        """The same, bins weighted by their mean intensity."""
        return float(np.sqrt(np.average(self._relative_variance(), weights=self.signal / np.maximum(self.count, 1))))

    def _relative_variance(self) -> Floats:
        return np.asarray(self.variance / np.maximum(1, self.signal) ** 2)


@dataclass(frozen=True, slots=True)
class Truth:
    """Expectations for one frame, the union of N frames, and their pixel-wise sum and average."""

    frame: Expected
    union: Expected
    summed: Expected
    averaged: Expected


def truth(powder: Powder, n_frames: int, edges_deg: Floats) -> Truth:
    """Expected sums of a simulated series.

    Parameters
    ----------
    powder
        What is simulated, on a detector perpendicular to the beam (a tilt of some mrad makes no difference).
    n_frames
        N, number of frames of the union, the sum and the average.
    edges_deg
        Edges of the radial bins in degrees of 2 theta, shape (bins + 1,). A pixel belongs to the bin of its centre.
    """
    seen = pixels(powder)
    visible = rings(powder, float(seen.radius_px.max()))
    edges_px = np.tan(np.radians(edges_deg)) * powder.distance_m / powder.pixel_size_m
    mean, grain = _pixel_moments(powder, seen, visible)
    valid = ~pixel_mask(powder) & (seen.radius_px >= edges_px[0]) & (seen.radius_px <= edges_px[-1])
    bins = len(edges_px) - 1
    index = np.minimum(np.searchsorted(edges_px, seen.radius_px[valid], side="right") - 1, bins - 1)
    count, signal, mean_sq, scatter = (
        np.bincount(index, weights=values[valid], minlength=bins).astype(np.float64)
        for values in (np.ones(powder.shape), mean, mean**2, grain)
    )
    share = 1 / np.maximum(count, 1)
    slope = mean_sq - signal**2 * share
    of_bin = _bin_variance(powder, visible, edges_px, count)
    n, repeats = n_frames, _repetition(powder, n_frames)
    union = n * (scatter + signal + slope) - (n * repeats * of_bin + signal) * share
    summed = n**2 * (repeats * (scatter - of_bin * share) + slope) + n * signal * (1 - share)
    return Truth(
        frame=Expected(count, signal, scatter + signal + slope - (of_bin + signal) * share),
        union=Expected(n * count, n * signal, union),
        summed=Expected(count, n * signal, summed),
        averaged=Expected(count, signal, summed / n**2),
    )


def _pixel_moments(powder: Powder, seen: Pixels, visible: Rings) -> tuple[Floats, Floats]:
    """Mean of each pixel and its variance from frame to frame by the grains alone, photon noise not included."""
    spot_sq, jitter_sq = powder.spot_sigma_px**2, powder.ring_jitter_px**2
    mean, variance = np.zeros(powder.shape), np.zeros(powder.shape)
    for radius, spots, photons in zip(*visible, strict=True):
        linear_density = spots / (2 * np.pi * radius)
        mean += linear_density * photons * _normal(seen.radius_px - radius, spot_sq + jitter_sq)
        # A squared Gaussian is a Gaussian of half the variance and 1 / (4 pi sigma^2) of the area.
        squared = linear_density * photons**2 * powder.second_moment / (4 * np.pi * spot_sq)
        variance += squared * _normal(seen.radius_px - radius, spot_sq / 2 + jitter_sq)
    return seen.background + mean * seen.polarization, variance * seen.polarization**2


def _bin_variance(powder: Powder, visible: Rings, edges_px: Floats, count: Floats) -> Floats:
    """Variance of a bin's sum from frame to frame by the grains: each spot gives it the part that lies inside."""
    coverage = count / (np.pi * np.diff(edges_px**2))
    nodes = np.linspace(-4, 4, 41)
    weights = _normal(nodes, 1.0)
    variance = np.zeros(len(count))
    for radius, spots, photons in zip(*visible, strict=True):
        centres = radius + powder.ring_jitter_px * nodes
        below = _normal_integral((edges_px[:, np.newaxis] - centres) / powder.spot_sigma_px)
        variance += spots * photons**2 * powder.second_moment * np.average(np.diff(below, axis=0) ** 2, 1, weights)
    return coverage * variance


def _repetition(powder: Powder, n: int) -> float:
    """One over the number of independent frames among n: the mean correlation of all pairs of frames."""
    q, p = powder.survival, powder.static_fraction
    pairs = 1.0 if q == 1 else (1 + q) / (n * (1 - q)) - 2 * q * (1 - q**n) / (n * (1 - q)) ** 2
    return p + (1 - p) * pairs


def _normal(x: Floats, variance: float) -> Floats:
    return np.asarray(np.exp(-(x**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance))


def _normal_integral(x: Floats) -> Floats:
    return np.asarray([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in x.ravel()]).reshape(x.shape)
