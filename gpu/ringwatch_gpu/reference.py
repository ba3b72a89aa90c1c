"""The specification: what every kernel computes, in plain numpy. Kernels are tested against these functions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import exact
from .exact import Words
from .geometry import Geometry
from .geometry_pyfai import SECTORS
from .sectors import GROUPS
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
    """Sums of each frame (frames, pixels) over the pixels of each bin; pixels with bin >= bins are not used."""
    per_frame = [_integrate_one(frame, bin_table, norm_q, bins, validity) for frame in frames]
    return FrameSums(*(np.stack(parts) for parts in zip(*per_frame, strict=True)))


def _integrate_one(
    frame: NDArray[np.integer],
    bin_table: NDArray[np.uint16],
    norm_q: NDArray[np.uint32],
    bins: int,
    validity: Validity,
) -> tuple[NDArray[np.uint64], Words, Words, NDArray[np.uint64], NDArray[np.uint64], Words]:
    used, bad = bin_table < bins, validity.invalid(frame)
    ok, lost = used & ~bad, used & bad
    s, g = frame[ok].astype(np.uint64), norm_q[ok].astype(np.uint64)
    gone = norm_q[lost].astype(np.uint64)
    index, lost_index = bin_table[ok], bin_table[lost]
    return (
        exact.bincount(index, s, bins)[:, 1],
        exact.bincount(index, s * s, bins),
        exact.bincount(index, s * g, bins),
        np.bincount(lost_index, minlength=bins).astype(np.uint64),
        exact.bincount(lost_index, gone, bins)[:, 1],
        exact.bincount(lost_index, gone * gone, bins),
    )


def accumulate_image(
    frames: NDArray[np.integer], bin_table: NDArray[np.uint16], bins: int, validity: Validity
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Pixel-wise sum of valid values, and number of frames in which a used pixel was invalid, both (pixels,)."""
    bad = validity.invalid(frames)
    used = bin_table < bins
    values = np.where(bad, 0, frames).astype(np.uint64).sum(0)
    return np.where(used, values, 0).astype(np.uint64), np.where(used, bad.sum(0), 0).astype(np.uint32)


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
    frame: NDArray[np.integer], geometry: Geometry, group_of_bin: NDArray[np.uint8], validity: Validity
) -> NDArray[np.uint64]:
    """Valid counts of a frame (pixels,) in each azimuthal sector of each group of bins, shape (GROUPS, SECTORS)."""
    group = np.append(group_of_bin, np.uint8(GROUPS))[geometry.bin_table]
    ok = (group < GROUPS) & ~validity.invalid(frame)
    cell = group[ok] * np.int64(SECTORS) + geometry.sector[ok]
    return exact.bincount(cell, frame[ok].astype(np.uint64), GROUPS * SECTORS)[:, 1].reshape(GROUPS, SECTORS)


SCATTER_UNITS = float(1 << 60)


@dataclass(frozen=True)
class ImageSums:
    """Statistics of the summed image per bin: exact signal and norm, two-pass variance; and of the averaged image.

    Norms are in units of the norm quantum; the norm of a pixel in the summed image is its g times the number of frames
    in which it was valid, in the averaged image its g. Arrays have the shape (bins,), but:

    Attributes
    ----------
    norm
        Words, shape (bins, 2).
    cake_signal, cake_norm
        Signal and norm of the summed image in each azimuthal sector of each bin, shape (bins, SECTORS); the signal is
        exact, the norm to float64 (0 where no pixel was ever valid).
    cake_scatter
        What each sector adds to the variance of its bin, over the squared signal of the bin, (bins, SECTORS); in whole
        2^-60 a pixel.
    bin_weights
        What each bin's variance counts for in plain, weighted and rings spottiness of the summed image, (bins, 3).
    """

    signal: NDArray[np.uint64]
    norm: Words
    count: NDArray[np.uint64]
    norm_sq: NDArray[np.float64]
    variance: NDArray[np.float64]
    averaged_signal: NDArray[np.float64]
    averaged_norm: NDArray[np.float64]
    averaged_variance: NDArray[np.float64]
    cake_signal: NDArray[np.uint64]
    cake_norm: NDArray[np.float64]
    cake_scatter: NDArray[np.float64]
    bin_weights: NDArray[np.float64]


def evaluate_image(
    image_sum: NDArray[np.uint64],
    image_lost: NDArray[np.uint32] | NDArray[np.uint64],
    exposure: int,
    geometry: Geometry,
    unit: float = 1.0,
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
    """
    bins = geometry.bins
    used = (geometry.bin_table < bins) & (image_lost < exposure)
    index, sector, total = geometry.bin_table[used], geometry.sector[used], image_sum[used]
    cell = index * np.int64(SECTORS) + sector
    valid = exposure - image_lost[used].astype(np.uint64)
    g = geometry.norm_q[used].astype(np.uint64)
    signal, norm = exact.bincount(index, total, bins)[:, 1], _product_sums(index, g, valid, bins)
    count = np.bincount(index, minlength=bins).astype(np.uint64)
    weight = g.astype(np.float64) * valid.astype(np.float64)
    average, plain = total / (valid * unit), g.astype(np.float64)
    averaged_signal, averaged_norm = float_bincount(index, average, bins), float_bincount(index, plain, bins)
    mean = signal / _nonzero(exact.to_float(norm))
    square = (total - weight * mean[index]) ** 2
    averaged_square = (average - plain * (averaged_signal / _nonzero(averaged_norm))[index]) ** 2
    weights = bin_weights(signal.astype(np.float64), mean, count, geometry.azimuth_fraction)
    cake_signal = exact.bincount(cell, total, bins * SECTORS)[:, 1]
    cake_norm = exact.to_float(_product_sums(cell, g, valid, bins * SECTORS))
    per_square = SCATTER_UNITS / np.maximum(signal, 1).astype(np.float64) ** 2
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
        scatter.reshape(bins, SECTORS) / SCATTER_UNITS,
        weights,
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
