"""Sums of a batch of split pixels, from the float64 of the device to the integers of `RingSums`; and static sums."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import exact
from .exact import Words
from .geometry import Geometry
from .splitting import QUANTUM_BITS, Entries, Splitting, entry_norms
from .sums import ROWS, SPLIT_UNITS, RingProfile, StaticSums

SPLIT_PLANES = 3
_WORD = 2.0**64


@dataclass(frozen=True)
class SplitFrameSums:
    """Sums of each frame of a batch whose pixels are split; see `FrameSums`.

    Attributes
    ----------
    sums
        signal, signal_sq and norm_signal (in quanta), float64, shape (frames, 3, bins).
    lost_count, lost_norm, lost_norm_sq
        Of the invalid pixels: shares in 2^-24, norms in quanta; (frames, bins) and words (frames, bins, 2).
    """

    sums: NDArray[np.float64]
    lost_count: NDArray[np.uint64]
    lost_norm: NDArray[np.uint64]
    lost_norm_sq: Words

    @classmethod
    def of(cls, sums: NDArray[np.float64], lost: NDArray[np.uint64]) -> "SplitFrameSums":
        """Copies of what a device wrote: sums (frames, 3, bins) and lost (frames, 4, bins), its squares in halves."""
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

    def rows(self, static: StaticSums) -> Words:
        """All six sums in `SPLIT_UNITS`, shape (frames, 6, bins, 2)."""
        n_frames, _, bins = self.sums.shape
        rows = np.zeros((n_frames, len(ROWS), bins, 2), np.uint64)
        for row, name in enumerate(ROWS[:SPLIT_PLANES]):
            rows[:, row] = _rounded(self.sums[:, row] / SPLIT_UNITS[name])
        rows[:, 3] = exact.subtract(static.norm, exact.words(self.lost_norm))
        rows[:, 4] = exact.subtract(static.norm_sq, self.lost_norm_sq)
        rows[:, 5, :, 1] = static.count - self.lost_count
        return rows


def _rounded(values: NDArray[np.float64]) -> Words:
    """Nearest integers of floats from 0 to 2^127."""
    whole = np.rint(values)
    high = np.floor(whole / _WORD)
    return exact.words((whole - high * _WORD).astype(np.uint64), high.astype(np.uint64))


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


def image_profiles(sums: NDArray[np.float64], norm_quantum: float) -> tuple[RingProfile, RingProfile]:
    """Profiles of the summed and of the averaged image from their sums, shape (2, 8, bins): see `sum_image`."""
    summed, averaged = (_image_profile(image, norm_quantum) for image in sums)
    return summed, averaged


def _image_profile(sums: NDArray[np.float64], norm_quantum: float) -> RingProfile:
    V, T, H, G1, G2, n = sums[:6]
    mean = V / np.where(G1 > 0, G1, 1.0)
    variance = np.maximum(T - 2 * mean * H + mean * mean * G2, 0.0)
    return RingProfile.of(V.copy(), variance, G1 * norm_quantum, G2 * norm_quantum**2, n.copy())
