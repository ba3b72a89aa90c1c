"""Sums of a batch of split pixels, from the float64 of the device to the integers of `RingSums`; and static sums."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import exact
from .exact import Words
from .geometry import Geometry
from .noise import Noise
from .splitting import QUANTUM_BITS, Entries, Splitting, entry_norms
from .sums import ROWS, SPLIT_UNITS, SPLIT_WORDS, SUM_ROWS, RingProfile, StaticSums, weighed_rows

SPLIT_PLANES = 3
_SUMMED_ROWS = (0, 1, 2, 6)
"""Which of `SUM_ROWS` the planes of a device are."""
_WORD = 2.0**64


@dataclass(frozen=True)
class SplitFrameSums:
    """Sums of each frame of a batch whose pixels are split; see `FrameSums`.

    Attributes
    ----------
    sums
        signal, signal_sq and norm_signal (in quanta), and noise_signal if asked for: float64, (frames, 3 or 4, bins).
    lost_count, lost_norm, lost_norm_sq
        Of the invalid pixels: shares in 2^-24, norms in quanta; (frames, bins) and words (frames, bins, 2).
    """

    sums: NDArray[np.float64]
    lost_count: NDArray[np.uint64]
    lost_norm: NDArray[np.uint64]
    lost_norm_sq: Words

    @classmethod
    def of(cls, sums: NDArray[np.float64], lost: NDArray[np.uint64]) -> "SplitFrameSums":
        """Copies of what a device wrote: sums (frames, planes, bins), lost (frames, 4, bins) with squares in halves."""
        count, norm, low, high = np.moveaxis(lost, 1, 0)
        return cls(sums.copy(), count.copy(), norm.copy(), exact.from_halves(low, high))

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def total_signal(self) -> NDArray[np.int64]:
        """Sum of the valid signals of each frame, shape (frames,)."""
        total: NDArray[np.int64] = np.rint(self.sums[:, 0].sum(axis=1)).astype(np.int64)
        return total

    def valid_pixels(self, static: StaticSums) -> NDArray[np.int64]:
        """Number of valid pixels of each frame, shape (frames,)."""
        shares = static.count.sum() - self.lost_count.sum(axis=1)
        valid: NDArray[np.int64] = np.rint(np.ldexp(shares.astype(np.float64), -QUANTUM_BITS)).astype(np.int64)
        return valid

    def rows(self, static: StaticSums, exposure: NDArray[np.uint64] | None = None) -> Words:
        """All sums in `SPLIT_UNITS`, shape (frames, 6 or 7, bins, 3); weighed as by `FrameSums.rows`."""
        n_frames, planes, bins = self.sums.shape
        rows = np.zeros((n_frames, len(ROWS) + planes - SPLIT_PLANES, bins, SPLIT_WORDS), np.uint64)
        for plane, row in enumerate(_SUMMED_ROWS[:planes]):
            rows[:, row] = _rounded(self.sums[:, plane] / SPLIT_UNITS[SUM_ROWS[row]])
        rows[:, 3, :, 1:] = exact.subtract(static.norm, exact.words(self.lost_norm))
        rows[:, 4, :, 1:] = exact.subtract(static.norm_sq, self.lost_norm_sq)
        rows[:, 5, :, 2] = static.count - self.lost_count
        return rows if exposure is None else weighed_rows(rows, exposure)


def _rounded(values: NDArray[np.float64]) -> Words:
    """Nearest integers of floats from -2^191 to 2^191, in three words."""
    rest, parts = np.rint(np.abs(values)), []
    for scale in (_WORD * _WORD, _WORD, 1.0):
        word = np.floor(rest / scale)
        rest = rest - word * scale
        parts.append(word.astype(np.uint64))
    magnitude: Words = np.stack(parts, axis=-1)
    is_negative = (values < 0)[..., np.newaxis]
    return np.where(is_negative, exact.subtract(np.zeros_like(magnitude), magnitude), magnitude)


def split_statics(geometry: Geometry, splitting: Splitting) -> StaticSums:
    """What the bins hold before any frame; ``count`` in 2^-24. Takes about a second for 10^7 entries."""
    return _statics(geometry, splitting, geometry.bin_table < geometry.bins)


def moved_statics(static: StaticSums, old: Geometry, new: Geometry, splitting: Splitting) -> StaticSums:
    """The same after the mask changed: only the pixels that differ are looked at."""
    changed = old.bin_table != new.bin_table
    gone, come = (_statics(new, splitting, changed & (side.bin_table < side.bins)) for side in (old, new))
    return static.exchanged(gone, come)


def _statics(geometry: Geometry, splitting: Splitting, pixels: NDArray[np.bool_]) -> StaticSums:
    entries, bins = splitting.entries(np.flatnonzero(pixels)), geometry.bins
    norm = entry_norms(entries, geometry.norm_q).astype(np.uint64)
    return StaticSums(
        exact.bincount(entries.bin, norm, bins),
        exact.bincount(entries.bin, norm * norm, bins),
        exact.bincount(entries.bin, share_quanta(entries), bins)[:, 1],
    )


def share_quanta(entries: Entries) -> NDArray[np.uint64]:
    """Shares in 2^-24."""
    return np.rint(np.ldexp(entries.share, QUANTUM_BITS)).astype(np.uint64)


@dataclass(frozen=True)
class SplitImage:
    """The summed image of split pixels.

    Attributes
    ----------
    summed, averaged
        Profiles of the summed and of the averaged image, in counts.
    noise_signal
        Sum c^2 S over its pixels, in counts, shape (bins,).
    zeros
        Sum c^2 of those with S = 0, shape (bins,).
    """

    summed: RingProfile
    averaged: RingProfile
    noise_signal: NDArray[np.float64]
    zeros: NDArray[np.float64]

    @classmethod
    def of(
        cls, sums: NDArray[np.float64], norm_quantum: float, signal_quantum: float = 1.0, unit: float = 1.0
    ) -> "SplitImage":
        """From the sums of the kernels.

        Parameters
        ----------
        sums
            What `sum_image` gives, shape (2, 8, bins).
        norm_quantum, signal_quantum
            Those of the geometry.
        unit
            What 1 of the frames' exposure is worth.
        """
        summed = _image_profile(sums[0], norm_quantum * unit, signal_quantum)
        averaged = _image_profile(sums[1], norm_quantum, signal_quantum)
        return cls(summed, averaged, sums[0, 6] * signal_quantum, sums[0, 7].copy())

    def counts_variance(self, noise: Noise, norm_quantum: float) -> NDArray[np.float64]:
        """Variance of the summed image by its counts; of those without a dark sum c^2 max(1, S), as pyFAI takes it."""
        variance = noise.variance(self.noise_signal, self.summed.normalization / norm_quantum)
        return variance + self.zeros if noise.is_of_counts else variance


def image_squares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the squared pixels of the summed image that reach a bin, from the sums of the kernels: (bins,)."""
    squares: NDArray[np.float64] = sums[1, 6].copy()
    return squares


def _image_profile(sums: NDArray[np.float64], norm_quantum: float, signal_quantum: float) -> RingProfile:
    V, T, H, G1, G2, n = sums[:6]
    mean = V / np.where(G1 > 0, G1, 1.0)
    variance = np.maximum(T - 2 * mean * H + mean * mean * G2, 0.0)
    signal, variance = V * signal_quantum, variance * signal_quantum**2
    return RingProfile.of(signal, variance, G1 * norm_quantum, G2 * norm_quantum**2, n.copy())
