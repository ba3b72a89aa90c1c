"""The specification: what every kernel computes, in plain numpy. Kernels are tested against these functions."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import exact
from .exact import Words
from .geometry import Geometry
from .geometry_pyfai import SECTORS
from .noise import Noise
from .sectors import GROUPS
from .signals import signals
from .spottiness import bin_weights
from .sums import FrameSums
from .validity import Validity


def integrate(
    frames: NDArray[np.integer],
    bin_table: NDArray[np.uint16],
    norm_q: NDArray[np.uint32],
    bins: int,
    validity: Validity,
) -> FrameSums:
    """Sums of frames of counts (frames, pixels) over the pixels of each bin; pixels with bin >= bins are not used."""
    return integrate_signals(frames.astype(np.int64), validity.invalid(frames), bin_table, norm_q, bins)


def integrate_signals(
    signal: NDArray[np.int64],
    bad: NDArray[np.bool_],
    bin_table: NDArray[np.uint16],
    norm_q: NDArray[np.uint32],
    bins: int,
) -> FrameSums:
    """The same of signals (frames, pixels) of either sign (see `signals.signals`), and True where they do not count."""
    per_frame = [_integrate_one(*frame, bin_table, norm_q, bins) for frame in zip(signal, bad, strict=True)]
    return FrameSums(*(np.stack(parts) for parts in zip(*per_frame, strict=True)))


def _integrate_one(
    signal: NDArray[np.int64],
    bad: NDArray[np.bool_],
    bin_table: NDArray[np.uint16],
    norm_q: NDArray[np.uint32],
    bins: int,
) -> tuple[NDArray[np.int64], Words, Words, NDArray[np.uint64], NDArray[np.uint64], Words]:
    used = bin_table < bins
    ok, lost = used & ~bad, used & bad
    s, g = signal[ok], norm_q[ok].astype(np.uint64)
    magnitude, gone = np.abs(s).astype(np.uint64), norm_q[lost].astype(np.uint64)
    index, lost_index = bin_table[ok], bin_table[lost]
    return (
        _sums(index, s, bins),
        exact.bincount(index, magnitude * magnitude, bins),
        exact.signed_bincount(index, s, g, bins),
        np.bincount(lost_index, minlength=bins).astype(np.uint64),
        exact.bincount(lost_index, gone, bins)[:, 1],
        exact.bincount(lost_index, gone * gone, bins),
    )


def _sums(index: NDArray[np.integer], signal: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Sum of signals per index in [0, bins); below 2^63."""
    return exact.signed_bincount(index, signal, np.ones(signal.size, np.uint64), bins)[:, 1].view(np.int64)


def accumulate_image(
    frames: NDArray[np.integer], bin_table: NDArray[np.uint16], bins: int, validity: Validity
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Pixel-wise sum of valid counts, and number of frames in which a used pixel was invalid, both (pixels,)."""
    return accumulate_signals(frames.astype(np.int64), validity.invalid(frames), bin_table, bins)


def accumulate_signals(
    signal: NDArray[np.int64], bad: NDArray[np.bool_], bin_table: NDArray[np.uint16], bins: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """The same of signals (frames, pixels) of either sign, and True where they do not count."""
    used = bin_table < bins
    total = np.where(used, np.where(bad, 0, signal).sum(0), 0)
    return total, np.where(used, bad.sum(0), 0).astype(np.uint32)


def lost_exposure(
    frames: NDArray[np.integer],
    bin_table: NDArray[np.uint16],
    bins: int,
    validity: Validity,
    exposure: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    """What the frames in which a used pixel was invalid would have counted for, (pixels,)."""
    lost = (validity.invalid(frames) * exposure[:, np.newaxis]).sum(0, dtype=np.uint64)
    return np.where(bin_table < bins, lost, 0).astype(np.uint64)


def sector_sums(
    frame: NDArray[np.generic], geometry: Geometry, group_of_bin: NDArray[np.uint8], validity: Validity
) -> NDArray[np.int64]:
    """Valid signals of a frame (pixels,) in each azimuthal sector of each group of bins, shape (GROUPS, SECTORS)."""
    signal, bad = signals(frame, geometry, validity)
    group = np.append(group_of_bin, np.uint8(GROUPS))[geometry.bin_table]
    ok = (group < GROUPS) & ~bad
    cell = group[ok] * np.int64(SECTORS) + geometry.sector[ok]
    return _sums(cell, signal[ok], GROUPS * SECTORS).reshape(GROUPS, SECTORS)


SCATTER_UNITS = float(1 << 60)


@dataclass(frozen=True)
class ImageSums:
    """Statistics of the summed image per bin: exact signal and norm, two-pass variance; and of the averaged image.

    Signals are in quanta, or in counts after `in_counts`. Norms are in units of their quantum; the norm of a pixel in
    the summed image is its g times the number of frames in which it was valid, in the averaged image its g. Arrays have
    the shape (bins,), but:

    Attributes
    ----------
    norm
        Words, shape (bins, 2).
    cake_signal, cake_norm
        Signal and norm of the summed image in each azimuthal sector of each bin, shape (bins, SECTORS); the signal is
        exact, the norm to float64 (0 where no pixel was ever valid).
    cake_scatter
        What each sector adds to the variance of its bin, (bins, SECTORS); each pixel rounded down to a whole 2^-60 of
        the squared signal of the bin.
    noise
        What scatters by itself, from `in_counts`; None is that of counts.
    bin_weights
        What each bin's variance in counts adds to plain, weighted and rings spottiness of the summed image, (bins, 3).
        What each bin's variance counts for in plain, weighted and rings spottiness of the summed image, (bins, 3).
    zeros
        Number of pixels that were valid and counted nothing.
    """

    signal: NDArray[np.int64] | NDArray[np.float64]
    norm: Words
    count: NDArray[np.uint64]
    norm_sq: NDArray[np.float64]
    variance: NDArray[np.float64]
    averaged_signal: NDArray[np.float64]
    averaged_norm: NDArray[np.float64]
    averaged_variance: NDArray[np.float64]
    cake_signal: NDArray[np.int64] | NDArray[np.float64]
    cake_norm: NDArray[np.float64]
    cake_scatter: NDArray[np.float64]
    bin_weights: NDArray[np.float64]
    zeros: NDArray[np.uint64]
    noise: Noise | None = None

    def in_counts(self, quantum: float, noise: Noise) -> "ImageSums":
        """The same with signals in counts, where they are in units of ``quantum``."""
        return replace(
            self,
            noise=noise,
            signal=self.signal.astype(np.float64) * quantum,
            variance=self.variance * quantum**2,
            averaged_signal=self.averaged_signal * quantum,
            averaged_variance=self.averaged_variance * quantum**2,
            cake_signal=self.cake_signal.astype(np.float64) * quantum,
            cake_scatter=self.cake_scatter * quantum**2,
        )

    @property
    def noise_variance(self) -> NDArray[np.float64]:
        """Variance of the noise of the signals, shape (bins,)."""
        signal = self.signal.astype(np.float64)
        return signal if self.noise is None else self.noise.variance(signal, exact.to_float(self.norm))

    @property
    def cake_noise(self) -> NDArray[np.float64]:
        """Variance of the noise of each sector, shape (bins, SECTORS)."""
        signal = self.cake_signal.astype(np.float64)
        return signal if self.noise is None else self.noise.variance(signal, self.cake_norm)

    @property
    def counts_variance(self) -> NDArray[np.float64]:
        """Variance of the summed image by its counts (Poisson), shape (bins,).

        Of counts without a dark sum max(1, s) over the pixels, as pyFAI takes it.
        """
        plain = self.noise is None or self.noise.is_of_counts
        return self.noise_variance + self.zeros if plain else self.noise_variance


def evaluate_image(
    image_sum: NDArray[np.integer],
    image_lost: NDArray[np.uint32] | NDArray[np.uint64],
    exposure: int,
    geometry: Geometry,
    unit: float = 1.0,
    squares: NDArray[np.float64] | None = None,
) -> ImageSums:
    """Two-pass statistics of the summed and of the averaged image, over pixels that were valid at least once.

    Parameters
    ----------
    image_lost
        What the frames in which a pixel was invalid would have counted for, (pixels,).
    exposure
        What all frames count for: their number, or with a monitor the sum of their f, in units of 2^-20.
    unit
        What 1 of that is worth.
    squares
        In place of the squared signals, where pixels may be negative: no bin's squared pixels add up to more, (bins,).
    """
    bins = geometry.bins
    used = (geometry.bin_table < bins) & (image_lost < exposure)
    index, sector, total = geometry.bin_table[used], geometry.sector[used], image_sum[used].astype(np.int64)
    cell = index * np.int64(SECTORS) + sector
    valid = exposure - image_lost[used].astype(np.uint64)
    g = geometry.norm_q[used].astype(np.uint64)
    signal, norm = _sums(index, total, bins), _product_sums(index, g, valid, bins)
    count = np.bincount(index, minlength=bins).astype(np.uint64)
    weight = g.astype(np.float64) * valid.astype(np.float64)
    average, plain = total / (valid * unit), g.astype(np.float64)
    averaged_signal, averaged_norm = float_bincount(index, average, bins), float_bincount(index, plain, bins)
    mean = signal / _nonzero(exact.to_float(norm))
    square = (total - weight * mean[index]) ** 2
    averaged_square = (average - plain * (averaged_signal / _nonzero(averaged_norm))[index]) ** 2
    weights = bin_weights(signal.astype(np.float64) * geometry.signal_quantum, mean, count, geometry.azimuth_fraction)
    cake_signal = _sums(cell, total, bins * SECTORS)
    cake_norm = exact.to_float(_product_sums(cell, g, valid, bins * SECTORS))
    largest = np.maximum(signal, 1).astype(np.float64) ** 2 if squares is None else squares
    per_square = SCATTER_UNITS / largest
    scatter = exact.bincount(cell, (square * per_square[index]).astype(np.uint64), bins * SECTORS)[:, 1]
    return ImageSums(
        signal,
        norm,
        count,
        float_bincount(index, weight**2, bins),
        float_bincount(index, square, bins),
        averaged_signal,
        averaged_norm,
        float_bincount(index, averaged_square, bins),
        cake_signal.reshape(bins, SECTORS),
        cake_norm.reshape(bins, SECTORS),
        scatter.reshape(bins, SECTORS) / SCATTER_UNITS * largest[:, np.newaxis],
        weights,
        np.bincount(index[total == 0], minlength=bins).astype(np.uint64),
    )


def _product_sums(index: NDArray[np.integer], a: NDArray[np.uint64], b: NDArray[np.uint64], bins: int) -> Words:
    """Exact sum of a b per index in [0, bins), for a below 2^32."""
    low, high = (exact.bincount(index, a * part, bins) for part in (b & np.uint64(0xFFFFFFFF), b >> np.uint64(32)))
    return exact.add(low, exact.scaled(exact.scaled(high, 1 << 31), 2))


def _nonzero(norm: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(norm > 0, norm, 1.0)


def float_bincount(index: NDArray[np.integer], values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Sum of ``values`` per index in [0, bins)."""
    return np.bincount(index, values, bins).astype(np.float64)
