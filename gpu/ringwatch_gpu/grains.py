"""The cake of the summed image in, how well each ring is known out: scatter of its sectors, spots, smooth trend.

The relative variance of a ring's intensity is (1 + cv^2) / K for K spots whose photons vary by cv: the sectors of the
ring tell it without knowing the shape of a spot (see `azimuth`), photon noise adds its own part.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from .azimuth import SmoothFit
from .jackknife import quantile_replicates, quantile_weights, standard_error
from .reference import ImageSums
from .rings import Rings
from .scatter import Scatter
from .sums import RingProfile

_LARGEST_LEAK = 0.25
"""More of a spot than this cannot lie beyond the border of a sector that is at least as long as the spot."""

_LEAST_LEFT = 0.5
"""Of the intensity of a ring, where most of it lies in the sector that is left out: replicates must stay finite."""

_SIGNIFICANT = 2.0
_FALSE_TRENDS, _BY_CHANCE = 0.05, 0.01
"""Share of the rings that seem to have a trend by chance; probability to take that for one of all rings."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RingScatter:
    """Each ring's intensity and its variance, arrays of shape (rings,); replicates (rings, sectors).

    Attributes
    ----------
    net
        Counts above the background.
    relative, photons
        Relative variance of ``net``; its part that photon noise explains.
    relative_replicates
        With one sector left out.
    spots, spots_bound
        Effective number of spots; True where it is a lower bound, because the scatter is that of photons.
    smooth, has_trend
        Relative variance of the smooth azimuthal variation, around zero where there is none; whether it is more than
        chance.
    smooth_replicates
        With one sector left out.
    """

    net: Floats
    relative: Floats
    photons: Floats
    relative_replicates: Floats
    spots: Floats
    spots_bound: NDArray[np.bool_]
    spots_replicates: Floats
    smooth: Floats
    has_trend: NDArray[np.bool_]
    smooth_replicates: Floats

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Rings of which enough is seen."""
        return np.isfinite(self.relative)

    @property
    def trend(self) -> Floats:
        """Relative standard deviation of the smooth azimuthal variation of each ring, zero where it may be chance."""
        return np.where(self.has_trend, np.sqrt(np.maximum(self.smooth, 0.0)), np.where(self.usable, 0.0, np.nan))

    @property
    def typical_trend(self) -> tuple[float, float]:
        """Median of the rings' ``smooth``, and its standard error; zero if not more rings have one than by chance."""
        usable = self.usable
        n_rings, n_real = int(usable.sum()), int(self.has_trend[usable].sum())
        weights = quantile_weights(self.smooth[usable], 0.5)
        error = float(standard_error(weights @ self.smooth_replicates[usable]))
        if n_real == 0 or bdtrc(n_real - 1, n_rings, _FALSE_TRENDS) > _BY_CHANCE:
            return 0.0, error
        return max(float(weights @ self.smooth[usable]), 0.0), error

    @property
    def typical(self) -> Scatter | None:
        """Relative variance of the rings' median; None without a ring.

        Estimates of a variance are skewed, like a gamma distribution: their median is below their mean by a third of
        their own relative variance, which is put right.
        """
        usable = self.usable
        if not usable.any():
            return None
        relative, replicates = self.relative[usable], self.relative_replicates[usable]
        weights = quantile_weights(relative, 0.5)
        skew = 1 + weights @ (standard_error(replicates) / relative) ** 2 / 3
        photons = float(weights @ self.photons[usable])
        return Scatter(float(skew * weights @ relative), photons, skew * quantile_replicates(relative, replicates, 0.5))


class Cake:
    """Counts and expected counts in the cells (bin, sector) of the summed image, and their sums over several bins.

    Attributes
    ----------
    counts, expected
        Shape (bins, sectors); ``expected`` if each bin were even around the azimuth.
    noise
        Variance of the noise of ``counts``; without a dark the counts themselves.
    length
        Length of a sector along each bin, as its mean norm in a frame, shape (bins,).
    """

    def __init__(self, image: ImageSums, n_frames: int) -> None:
        norm = image.cake_norm
        self.counts, self.noise = image.cake_signal.astype(np.float64), image.cake_noise
        total = norm.sum(axis=1)
        mean = self.counts.sum(axis=1) / np.where(total > 0, total, 1.0)
        self.expected = norm * mean[:, np.newaxis]
        self.length = total / np.maximum((norm > 0).sum(axis=1), 1) / n_frames

    def summed(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Counts and expected counts (stretches, sectors), and mean length of a sector (stretches,)."""
        member = self._members(first, last)
        bins = np.maximum(member.sum(axis=1), 1)
        return member @ self.counts, member @ self.expected, np.maximum(member @ self.length / bins, 1e-9)

    def summed_noise(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> Floats:
        """Variance of the noise of the counts, shape (stretches, sectors)."""
        return self._members(first, last) @ self.noise

    def _members(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> Floats:
        """1 where a bin belongs to a stretch, shape (stretches, bins)."""
        member = np.zeros((first.size, len(self.counts)))
        for row, (begin, end) in enumerate(zip(first, last, strict=True)):
            member[row, begin:end] = 1.0
        return member


def ring_scatter(cake: Cake, rings: Rings, profile: RingProfile, overlap_length: float) -> RingScatter:
    """How well each ring is known.

    Parameters
    ----------
    profile
        Of the summed image.
    overlap_length
        From `SectorHistory.overlap_length`, in the unit of ``cake.length``.
    """
    counts, expected, length = cake.summed(rings.first, rings.last)
    fit = SmoothFit(expected)
    background = rings.summed(rings.background * profile.normalization)
    seen = fit.counts(expected) / np.maximum(expected.sum(axis=1), 1e-300)
    noise_of_cells = cake.summed_noise(rings.first, rings.last)
    total, noise = fit.counts(counts), fit.counts(noise_of_cells)
    net = total - background * seen
    whole = 1 / (1 - 2 * _leak(overlap_length, length))  # what the borders of the sectors hide, as a factor
    squares = fit.residuals(counts) ** 2
    variance, variances = fit.variance(squares), fit.variance_without_one(squares)
    part, noise_part = (np.where(fit.covered, cells, 0.0) for cells in (counts, noise_of_cells))
    share = np.where(fit.covered, expected, 0.0) / np.maximum(fit.counts(expected), 1e-300)[:, np.newaxis]
    totals, noises = (
        (whole_ring[:, np.newaxis] - cells) / np.maximum(1 - share, 1e-9)
        for whole_ring, cells in ((total, part), (noise, noise_part))
    )
    nets = np.maximum(totals - (background * seen)[:, np.newaxis], _LEAST_LEFT * net[:, np.newaxis])
    good = fit.usable & (net > 0)
    safe, safes = np.where(good, net, np.nan), np.where(good[:, np.newaxis], nets, np.nan)
    grains, grain_replicates = (variance - noise) * whole, (variances - noises) * whole[:, np.newaxis]
    relative = (np.maximum(grains, 0) + noise) / safe**2
    relatives = (np.maximum(grain_replicates, 0) + noises) / safes**2
    photons = noise / safe**2
    smooth, has_trend, smooth_replicates = fit.smooth_variance(counts, variance)
    spots, bound, spots_replicates = _spots(
        grains / safe**2, grain_replicates / safes**2, photons, np.maximum(fit.degrees, 1)
    )
    return RingScatter(
        counts.sum(axis=1) - background, relative, photons, relatives, spots, bound, spots_replicates,
        smooth, good & has_trend, smooth_replicates,
    )  # fmt: skip


def _spots(
    share: Floats, replicates: Floats, photons: Floats, degrees: Floats
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """1 / relative variance of the grains; where that is hidden by photon noise, 1 / its upper limit.

    The mean of the inverse of a variance from f degrees of freedom is f / (f - 2) times too large. The variance is not
    better known than that of the photons, however even the sectors happen to be.
    """
    error = np.maximum(standard_error(replicates), photons * np.sqrt(2 / degrees))
    bound = ~(share > _SIGNIFICANT * error)
    ceiling = np.where(bound, np.maximum(share, 0) + _SIGNIFICANT * error, share)
    ceilings = np.where(bound[:, np.newaxis], ceiling[:, np.newaxis], np.maximum(replicates, 1e-300))
    unbiased = np.where(bound, 1.0, 1 - 2 / degrees.clip(3))
    return unbiased / np.maximum(ceiling, 1e-300), bound, unbiased[:, np.newaxis] / np.maximum(ceilings, 1e-300)


def _leak(overlap_length: float, length: Floats) -> Floats:
    return np.minimum(overlap_length / length, _LARGEST_LEAK)
