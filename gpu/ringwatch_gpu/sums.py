"""The sums of every radial bin, exact: of each frame of a batch, and of any set of frames.

With s the signal of a pixel in whole quanta, g its normalization in units of ``norm_quantum`` and valid pixels only:
signal = sum s, signal_sq = sum s^2, norm_signal = sum g s, norm = sum g, norm_sq = sum g^2, count = number of pixels.
All are integers, so the union of two sets is addition, and taking a part away is subtraction: any order, any device,
any partition gives the same bits (Kieffer et al., J. Appl. Cryst. (2025), with the cross term made exact).

Where a monitor says how much beam each frame had, the norm of a pixel in a frame is f g, with f as in `monitor`.

Where pixels are split, s, g and 1 are multiplied by the share c of the pixel in the bin: signal_sq = sum c^2 s^2. The
sums of a frame come from float64 and are rounded to `SPLIT_UNITS`; from there on all is integers again. A seventh sum,
noise_signal = sum c^2 s, is made where the noise of counts is to be told.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import exact, monitor
from .errors import DigestMismatch
from .exact import Integers, Words
from .geometry import Geometry
from .regrouping import places

ErrorModel = Literal["azimuthal", "poisson", "hybrid"]
"""What the variance of a profile is, as in pyFAI: "azimuthal" is that of the pixels of a bin about their mean,
"poisson" that of their counts. "hybrid" is "poisson", but outliers are told by the azimuthal one."""

ROWS = ("signal", "signal_sq", "norm_signal", "norm", "norm_sq", "count")
SPLIT_UNITS = {
    "signal": 2.0**-64,
    "signal_sq": 2.0**-80,
    "norm_signal": 2.0**-56,
    "count": 2.0**-24,
    "noise_signal": 2.0**-80,
}
"""Units of the rows where pixels are split; others are 1. One count with the smallest share, 2^-25, is squared
2^-50, and rounded by less than 10^-7 of that."""

SPLIT_WORDS = 3
"""Words of a sum where pixels are split: those of 10^6 frames of 10^5 pixels of 2^32 counts have up to 181 bits,
weighed with a monitor 188."""

NOISE_ROW = "noise_signal"
"""A seventh row, of split pixels where it is asked for: sum c^2 s, as noise goes with the squares of the shares."""

SUM_ROWS = (*ROWS, NOISE_ROW)

_SPLIT_SCALE = np.array([[SPLIT_UNITS.get(row, 1.0)] for row in ROWS])
_CANCELLED = 1e-7
"""A variance below this share of the sum of squares has lost half of its digits to cancellation."""


@dataclass(frozen=True)
class StaticSums:
    """What the pixels of each bin hold before any frame: norm, norm_sq (words, shape (bins, 2)) and count (bins,)."""

    norm: Words
    norm_sq: Words
    count: NDArray[np.uint64]

    @classmethod
    def of(cls, bin_table: NDArray[np.uint16], norm_q: NDArray[np.uint32], bins: int) -> "StaticSums":
        """Sums over the used pixels (bin < bins) of flat tables of shape (pixels,)."""
        used = bin_table < bins
        index, g = bin_table[used], norm_q[used].astype(np.uint64)
        count = np.bincount(index, minlength=bins).astype(np.uint64)
        return cls(exact.bincount(index, g, bins), exact.bincount(index, g * g, bins), count)

    def moved(
        self, old: NDArray[np.uint16], new: NDArray[np.uint16], norm_q: NDArray[np.uint32], bins: int
    ) -> "StaticSums":
        """The same after the bin table changed from ``old`` to ``new``: only the pixels that differ are looked at."""
        changed = np.flatnonzero(old != new)
        gone, come = (StaticSums.of(table[changed], norm_q[changed], bins) for table in (old, new))
        return self.exchanged(gone, come)

    def exchanged(self, gone: "StaticSums", come: "StaticSums") -> "StaticSums":
        """The same without what some pixels held, and with what others hold."""
        return StaticSums(
            exact.add(exact.subtract(self.norm, gone.norm), come.norm),
            exact.add(exact.subtract(self.norm_sq, gone.norm_sq), come.norm_sq),
            self.count - gone.count + come.count,
        )


@dataclass(frozen=True)
class FrameSums:
    """Sums of each frame of a batch; words have shape (frames, bins, 2), plain sums (frames, bins).

    What the invalid pixels took away is kept apart (``lost_*``): norms and counts of valid frames are static.
    """

    signal: NDArray[np.int64]
    signal_sq: Words
    norm_signal: Words
    lost_count: NDArray[np.uint64]
    lost_norm: NDArray[np.uint64]
    lost_norm_sq: Words

    def __len__(self) -> int:
        return len(self.signal)

    @property
    def total_signal(self) -> NDArray[np.int64]:
        """Sum of the valid signals of each frame, shape (frames,)."""
        total: NDArray[np.int64] = self.signal.sum(axis=1)
        return total

    def valid_pixels(self, static: StaticSums) -> NDArray[np.int64]:
        """Number of valid pixels of each frame, shape (frames,)."""
        valid: NDArray[np.int64] = (static.count.sum() - self.lost_count.sum(axis=1)).astype(np.int64)
        return valid

    def rows(self, static: StaticSums, exposure: NDArray[np.uint64] | None = None) -> Words:
        """All six sums, shape (frames, 6, bins, 2).

        Parameters
        ----------
        exposure
            f of each frame (`monitor.exposure`), shape (frames,): norms are weighed with it, and each number has three
            words.
        """
        n_frames, bins = self.signal.shape
        rows = np.zeros((n_frames, len(ROWS), bins, 2), np.uint64)
        rows[:, 0], rows[:, 1], rows[:, 2] = exact.signed_words(self.signal), self.signal_sq, self.norm_signal
        rows[:, 3], rows[:, 4], rows[:, 5, :, 1] = static.norm, static.norm_sq, static.count
        if self.lost_count.any():
            rows[:, 3] = exact.subtract(rows[:, 3], exact.words(self.lost_norm))
            rows[:, 4] = exact.subtract(rows[:, 4], self.lost_norm_sq)
            rows[:, 5, :, 1] -= self.lost_count
        return rows if exposure is None else weighed_rows(rows, exposure)


@dataclass(frozen=True)
class RingProfile:
    """Azimuthal mean profile, all of shape (bins,); names and meaning are pyFAI's, empty bins are 0.

    intensity = signal / normalization, std = sqrt(variance / norm_sq), sem = sqrt(variance) / normalization, with
    variance = sum (s - g I)^2 (azimuthal error model) if nothing else is said.
    """

    intensity: NDArray[np.float64]
    std: NDArray[np.float64]
    sem: NDArray[np.float64]
    signal: NDArray[np.float64]
    variance: NDArray[np.float64]
    normalization: NDArray[np.float64]
    norm_sq: NDArray[np.float64]
    count: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        signal: NDArray[np.float64],
        variance: NDArray[np.float64],
        normalization: NDArray[np.float64],
        norm_sq: NDArray[np.float64],
        count: NDArray[np.float64],
    ) -> "RingProfile":
        """The profile that belongs to these sums."""
        filled = normalization > 0
        safe = np.where(filled, normalization, 1.0)
        intensity = np.where(filled, signal / safe, 0.0)
        sem = np.where(filled, np.sqrt(variance) / safe, 0.0)
        std = np.sqrt(variance / np.where(norm_sq > 0, norm_sq, 1.0))
        return cls(intensity, std, sem, signal, variance, normalization, norm_sq, count)

    def with_variance(self, variance: NDArray[np.float64]) -> "RingProfile":
        """The same with another variance, and so with other errors."""
        return RingProfile.of(self.signal, variance, self.normalization, self.norm_sq, self.count)


@dataclass(frozen=True)
class RingSums:
    """Exact sums of a set of frames.

    Attributes
    ----------
    words
        Shape as from `sums_shape`, rows as in `SUM_ROWS`, norms in units of ``norm_quantum``.
    n_frames
        Number of frames behind them.
    digest
        Name of everything that must be equal for two sums to be merged.
    norm_quantum
        One unit of g, or of f g.
    signal_quantum
        One unit of s, in counts: part of the digest.
    is_exact
        Whether all rows are plain integers; else (split pixels) they are in `SPLIT_UNITS`.
    """

    words: Words
    n_frames: int
    digest: str
    norm_quantum: float
    signal_quantum: float = 1.0
    is_exact: bool = True

    @classmethod
    def zero(
        cls,
        bins: int,
        digest: str,
        norm_quantum: float,
        size: int = 2,
        *,
        signal_quantum: float = 1.0,
        is_exact: bool = True,
    ) -> "RingSums":
        """The sums of no frame, of ``size`` words each."""
        return cls(np.zeros((len(ROWS), bins, size), np.uint64), 0, digest, norm_quantum, signal_quantum, is_exact)

    @classmethod
    def none_of(
        cls, geometry: Geometry, monitor_reference: float | None = None, *, tells_noise: bool = False
    ) -> "RingSums":
        """The sums of no frame of a geometry, where there is a monitor: weighed with it; see `sums_shape`."""
        of_norm = geometry.norm_quantum * (1.0 if monitor_reference is None else monitor.QUANTUM)
        words = np.zeros(sums_shape(geometry, monitor_reference, tells_noise=tells_noise), np.uint64)
        digest = sums_digest(geometry, monitor_reference, tells_noise=tells_noise)
        return cls(words, 0, digest, of_norm, geometry.signal_quantum, geometry.is_exact)

    def __add__(self, other: "RingSums") -> "RingSums":
        self._require_same(other)
        return replace(self, words=exact.add(self.words, other.words), n_frames=self.n_frames + other.n_frames)

    def __sub__(self, other: "RingSums") -> "RingSums":
        self._require_same(other)
        return replace(self, words=exact.subtract(self.words, other.words), n_frames=self.n_frames - other.n_frames)

    def plus_rows(self, rows: Words) -> "RingSums":
        """These sums and those of a batch of frames, shape (frames, 6, bins, words)."""
        words = exact.add(self.words, exact.total(rows))
        return replace(self, words=words, n_frames=self.n_frames + len(rows))

    def minus_rows(self, rows: Words) -> "RingSums":
        """These sums without those of frames that are in them, shape (frames, 6, bins, words)."""
        words = exact.subtract(self.words, exact.total(rows))
        return replace(self, words=words, n_frames=self.n_frames - len(rows))

    def rebinned(self, fine: Geometry, coarse: Geometry) -> "RingSums":
        """The sums of coarser bins: what integrating the same frames with ``coarse`` gives, bit for bit.

        So they carry the digest of ``coarse`` and add to sums that were integrated with it.

        Parameters
        ----------
        fine
            The geometry of these sums.
        coarse
            One whose bins are made of whole bins of ``fine``: from a cake to rings or to an arc of them, or to fewer
            radial bins (`Geometry.cake`, `Geometry.arc`, `Geometry.coarser`).

        Raises
        ------
        DigestMismatch
            ``fine`` is not the geometry of these sums.
        GeometryError
            The bins do not fit.
        """
        if fine.digest != self.digest:
            raise DigestMismatch(self.digest, fine.digest)
        words = exact.grouped(self.words, places(fine, coarse), coarse.bins)
        return replace(self, words=words, digest=coarse.digest)

    def row(self, name: str) -> Integers:
        """One of `SUM_ROWS` as Python integers, shape (bins,); in units of `SPLIT_UNITS` where pixels are split."""
        return exact.to_integers(self.words[SUM_ROWS.index(name)])

    @cached_property
    def profile(self) -> RingProfile:
        """The profile of all frames together."""
        return self.profiles_of(self.words)

    @cached_property
    def noise_signal(self) -> NDArray[np.float64]:
        """What the noise of counts goes with, in counts, shape (bins,): their sum, of split pixels sum c^2 s.

        Raises
        ------
        ValueError
            Sums of split pixels that were made without it.
        """
        return self.noise_signal_of(self.words)

    def noise_signal_of(self, rows: Words) -> NDArray[np.float64]:
        """The same of other sums in the same units, shape (..., rows, bins, words): (..., bins)."""
        if self.is_exact:
            return exact.to_float(rows[..., 0, :, :]) * self.signal_quantum
        if rows.shape[-3] == len(ROWS):
            raise ValueError("these sums of split pixels do not tell their noise: tells_noise=True")
        return exact.to_float(rows[..., len(ROWS), :, :]) * (SPLIT_UNITS[NOISE_ROW] * self.signal_quantum)

    def profiles_of(self, rows: Words) -> RingProfile:
        """Profiles of other sums in the same units, shape (..., rows, bins, words): arrays of shape (..., bins)."""
        return ring_profiles(rows, self.norm_quantum, self.signal_quantum, is_exact=self.is_exact)

    def _require_same(self, other: "RingSums") -> None:
        if self.digest != other.digest:
            raise DigestMismatch(self.digest, other.digest)


def sums_shape(
    geometry: Geometry, monitor_reference: float | None = None, *, tells_noise: bool = False
) -> tuple[int, int, int]:
    """Rows, bins and words of the sums: six rows of two words.

    With a monitor or of split pixels three words. Of split pixels a seventh row if they are to tell their noise; whole
    ones tell it always.
    """
    rows = SUM_ROWS if tells_noise and not geometry.is_exact else ROWS
    n_words = 2 if monitor_reference is None and geometry.is_exact else SPLIT_WORDS
    return len(rows), geometry.bins, n_words


def sums_digest(geometry: Geometry, monitor_reference: float | None = None, *, tells_noise: bool = False) -> str:
    """Name of everything that must be equal for sums to be merged."""
    name = geometry.digest
    if tells_noise and not geometry.is_exact:
        name = hashlib.sha256(f"{name} {NOISE_ROW}".encode()).hexdigest()
    return name if monitor_reference is None else monitor.digest(name, monitor_reference)


def weighed_rows(rows: Words, exposure: NDArray[np.uint64]) -> Words:
    """The sums of each frame with its norms times f."""
    f, weighed = exposure[:, np.newaxis], exact.widened(rows, monitor.WORDS)
    weighed[:, 2], weighed[:, 3] = exact.scaled(weighed[:, 2], f), exact.scaled(weighed[:, 3], f)
    weighed[:, 4] = exact.scaled(exact.scaled(weighed[:, 4], f), f)
    return weighed


def ring_profiles(
    rows: Words, norm_quantum: float, signal_quantum: float = 1.0, *, is_exact: bool = True
) -> RingProfile:
    """Profiles in counts from the first six sums, shape (..., rows, bins, words): arrays of shape (..., bins).

    With V, T, H, G1, G2 the rows and m = V / G1: variance = T - 2 m H + m^2 G2, in float64. What cancels costs
    4 T / variance times 1e-16; the few bins where that could matter (pixels almost equal) are taken in integers, but
    not where pixels are split: there the squares were rounded already.
    """
    rows = rows[..., : len(ROWS), :, :]
    V, T, H, G1, G2, n = np.moveaxis(exact.to_float(rows) * (1.0 if is_exact else _SPLIT_SCALE), -2, 0)
    mean = V / np.where(G1 > 0, G1, 1.0)
    variance = np.maximum(T - 2 * mean * H + mean * mean * G2, 0.0)
    cancelled = variance < _CANCELLED * T
    if is_exact and cancelled.any():
        variance[cancelled] = exact_variance(np.moveaxis(rows, -3, 0)[:, cancelled])
    signal, variance = V * signal_quantum, variance * signal_quantum**2
    return RingProfile.of(signal, variance, G1 * norm_quantum, G2 * norm_quantum**2, n)


def exact_variance(rows: Words) -> NDArray[np.float64]:
    """Variance of bins from their six sums (6, bins, 2), correctly rounded: in integers nothing cancels.

    variance = (T G1^2 - 2 V H G1 + V^2 G2) / G1^2; 0 where G1 is.
    """
    V, T, H, G1, G2 = (exact.to_integers(row) for row in rows[:5])
    square = G1 * G1
    numerator = T * square - 2 * V * H * G1 + V * V * G2
    return np.array([a / b if b else 0.0 for a, b in zip(numerator, square, strict=True)])
