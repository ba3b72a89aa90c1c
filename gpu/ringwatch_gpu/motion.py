"""Sectors of single frames in, whether the grains move out: independent frames, repeating share, size of a spot.

One frame of each batch is kept sector by sector. If every frame shows new grains, the scatter of N frames together is N
times that of one; if the same grains light up again, it is N^2 times.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .azimuth import SmoothFit
from .geometry_pyfai import SECTORS
from .jackknife import quantile_weights

_PENDING = 64
_BLOCKS = 64
_SIGNIFICANT = 5.0
"""Standard deviations of photon noise that a group has to exceed: of many groups none does by chance."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """How the grains of the summed image relate to those of single frames.

    Attributes
    ----------
    shared
        Share g of a single frame's relative variance that is left in the summed image: 1/N if all N frames differ,
        1 if they are equal. Median of the groups of radial bins.
    shared_replicates
        The same with one sector left out, shape (sectors,).
    repeating
        Covariance of the first with the second half of the frames over the variance of a frame; 0 if nothing repeats.
    repeating_replicates
        Shape (sectors,).
    """

    shared: float
    shared_replicates: Floats
    repeating: float
    repeating_replicates: Floats


class SectorHistory:
    """The sectors of sampled frames: their scatter, and sums of stretches of them in order of time; bounded."""

    def __init__(self, groups: int) -> None:
        shape = (groups, SECTORS)
        self._pending: list[NDArray[np.float64] | NDArray[np.int64]] = []
        self._blocks: list[Floats] = []
        self._block_frames: list[int] = []
        self._frames_per_block = 1
        self.n_frames = 0
        self._noise = np.zeros(groups)
        self._gain, self._floor = 1.0, np.zeros(shape)
        self._squares, self._neighbours = np.zeros(shape), np.zeros(shape)

    @property
    def is_full(self) -> bool:
        """Whether it has to digest what it was given before it takes more."""
        return len(self._pending) >= _PENDING

    def add(self, sectors: NDArray[np.float64] | NDArray[np.int64]) -> None:
        """Take the counts of one frame, shape (groups, sectors)."""
        self._pending.append(sectors)

    def digest(self, fit: SmoothFit, gain: float = 1.0, floor: Floats | None = None) -> None:
        """Reduce what was added since the last time, with the smooth fit of now.

        Parameters
        ----------
        gain, floor
            The variance of the noise of a frame's counts is gain x counts + floor, of shape (groups, sectors).
        """
        self._gain, self._floor = gain, np.zeros_like(self._squares) if floor is None else floor
        if not self._pending:
            return
        sectors = np.stack(self._pending).astype(np.float64)
        self._pending.clear()
        residuals = fit.residuals(sectors)
        self._squares += (residuals**2).sum(axis=0)
        self._neighbours += (residuals * np.roll(residuals, -1, axis=-1)).sum(axis=0)
        self._noise += fit.counts(self._gain * sectors + self._floor).sum(axis=0)
        self.n_frames += len(sectors)
        for frame in sectors:
            self._append(frame)

    def motion(self, fit: SmoothFit, total: Floats, n_frames: int) -> Motion | None:
        """Compare the summed image of ``n_frames`` frames with the sampled frames.

        Parameters
        ----------
        fit
            Of the groups.
        total
            Sectors of the summed image, shape (groups, sectors).

        Returns
        -------
        None as long as no group shows grains in single frames.
        """
        seen = self._seen(fit, self._single(fit))
        if not seen.any():
            return None
        shared, shared_replicates = self._shared(fit, total, n_frames, seen)
        repeating, repeating_replicates = self._repeating(fit, seen)
        return Motion(shared, shared_replicates, repeating, repeating_replicates)

    def overlap_length(self, fit: SmoothFit, sector_length: Floats) -> float:
        """Share of a spot's variance that is lost beyond one border of a sector, times its length: about 0.64 sigma.

        Neighbouring residuals are correlated by spots that lie across the border. The share is inversely proportional
        to the sector's length, which gives one number for all groups.

        Parameters
        ----------
        sector_length
            Length of a sector along the ring in any unit, shape (groups,).
        """
        single = self._single(fit)
        seen = self._seen(fit, single)
        if not seen.any():
            return 0.0
        leaked = fit.leaked(self._squares.sum(axis=1), self._neighbours.sum(axis=1)) / max(self.n_frames, 1)
        share = leaked[seen] / (single + 2 * np.maximum(leaked, 0))[seen]
        inverse = 1 / sector_length[seen]
        return max(float((share * inverse).sum() / (inverse**2).sum()), 0.0)

    def _append(self, frame: Floats) -> None:
        """Put a frame into the last block, or begin one; when there are too many, neighbours become one."""
        if self._block_frames and self._block_frames[-1] < self._frames_per_block:
            self._blocks[-1] = self._blocks[-1] + frame
            self._block_frames[-1] += 1
            return
        if len(self._blocks) == _BLOCKS:
            self._blocks = [a + b for a, b in zip(self._blocks[::2], self._blocks[1::2], strict=True)]
            self._block_frames = [a + b for a, b in zip(self._block_frames[::2], self._block_frames[1::2], strict=True)]
            self._frames_per_block *= 2
        self._blocks.append(frame)
        self._block_frames.append(1)

    def _single(self, fit: SmoothFit) -> Floats:
        """Variance of a group's counts in one frame that grains cause, photons taken off; shape (groups,)."""
        return np.asarray((fit.variance(self._squares) - self._noise) / max(self.n_frames, 1))

    def _seen(self, fit: SmoothFit, single: Floats) -> NDArray[np.bool_]:
        """Groups in which grains stand out of photon noise, whose sum (P z)^2 / counts is chi squared distributed."""
        frames = max(self.n_frames, 1)
        by_chance = self._noise / frames * np.sqrt(2 / np.maximum(fit.degrees, 1) / frames)
        return np.asarray(fit.usable & (single > _SIGNIFICANT * by_chance) & (single > 0))

    def _shared(self, fit: SmoothFit, total: Floats, n_frames: int, seen: NDArray[np.bool_]) -> tuple[float, Floats]:
        """Variance of the summed image over that of a frame, relative to their counts."""
        squares = fit.residuals(total) ** 2
        noise = fit.counts(self._gain * total + self._floor * n_frames)[:, np.newaxis]

        def shared(choose: _Choose) -> Floats:
            return (choose(fit, squares) - noise) / self._single_of(choose, fit) / n_frames**2

        return _median_and_replicates(shared, seen)

    def _repeating(self, fit: SmoothFit, seen: NDArray[np.bool_]) -> tuple[float, Floats]:
        """Covariance of the two halves of the sampled frames over the variance of a frame."""
        half = np.searchsorted(np.cumsum(self._block_frames), self.n_frames / 2) + 1
        first, second = self._blocks[:half], self._blocks[half:]
        if not second:
            return 0.0, np.zeros(SECTORS)
        pairs = sum(self._block_frames[:half]) * sum(self._block_frames[half:])
        products = fit.residuals(_total(first)) * fit.residuals(_total(second))

        def repeating(choose: _Choose) -> Floats:
            return choose(fit, products) / pairs / self._single_of(choose, fit)

        return _median_and_replicates(repeating, seen)

    def _single_of(self, choose: "_Choose", fit: SmoothFit) -> Floats:
        single = (choose(fit, self._squares) - self._noise[:, np.newaxis]) / max(self.n_frames, 1)
        return np.where(single > 0, single, np.inf)


_Choose = Callable[[SmoothFit, Floats], Floats]
"""From squares (groups, sectors) to variances: of all sectors (groups, 1), or with one left out (groups, sectors)."""


def _of_all(fit: SmoothFit, squares: Floats) -> Floats:
    return fit.variance(squares)[:, np.newaxis]


def _median_and_replicates(statistic: Callable[[_Choose], Floats], seen: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Median over the groups that are seen, and the same with one sector left out."""
    values = statistic(_of_all)[seen, 0]
    weights = quantile_weights(values, 0.5)
    return float(weights @ values), weights @ statistic(SmoothFit.variance_without_one)[seen]


def _total(blocks: list[Floats]) -> Floats:
    return np.asarray(np.sum(blocks, axis=0))
