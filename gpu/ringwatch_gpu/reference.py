"""The specification: what every kernel computes, in plain numpy. Kernels are tested against these functions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import exact
from .exact import Words
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


@dataclass(frozen=True)
class ImageSums:
    """Statistics of the summed image per bin: exact signal and norm, two-pass variance; and of the averaged image.

    Arrays of shape (bins,), norm as words (bins, 2). Norms are in units of the norm quantum; the norm of a pixel in the
    summed image is its g times the number of frames in which it was valid, in the averaged image its g.
    """

    signal: NDArray[np.uint64]
    norm: Words
    count: NDArray[np.uint64]
    norm_sq: NDArray[np.float64]
    variance: NDArray[np.float64]
    averaged_signal: NDArray[np.float64]
    averaged_norm: NDArray[np.float64]
    averaged_variance: NDArray[np.float64]


def evaluate_image(
    image_sum: NDArray[np.uint64],
    image_lost: NDArray[np.uint32],
    n_frames: int,
    bin_table: NDArray[np.uint16],
    norm_q: NDArray[np.uint32],
    bins: int,
) -> ImageSums:
    """Two-pass statistics of the summed and of the averaged image, over pixels that were valid at least once."""
    used = (bin_table < bins) & (image_lost < n_frames)
    index, total = bin_table[used], image_sum[used]
    valid = n_frames - image_lost[used].astype(np.uint64)
    g = norm_q[used].astype(np.uint64)
    signal, norm = exact.bincount(index, total, bins)[:, 1], exact.bincount(index, g * valid, bins)
    weight = (g * valid).astype(np.float64)
    average, plain = total / np.maximum(valid, 1), g.astype(np.float64)
    averaged_signal, averaged_norm = float_bincount(index, average, bins), float_bincount(index, plain, bins)
    return ImageSums(
        signal,
        norm,
        np.bincount(index, minlength=bins).astype(np.uint64),
        float_bincount(index, weight**2, bins),
        _variance(index, total.astype(np.float64), weight, signal.astype(np.float64), exact.to_float(norm)),
        averaged_signal,
        averaged_norm,
        _variance(index, average, plain, averaged_signal, averaged_norm),
    )


def _variance(
    index: NDArray[np.integer],
    s: NDArray[np.float64],
    g: NDArray[np.float64],
    signal: NDArray[np.float64],
    norm: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Second pass: sum over the pixels of a bin of (s - g signal / norm)^2."""
    mean = signal / np.where(norm > 0, norm, 1.0)
    return float_bincount(index, (s - g * mean[index]) ** 2, len(signal))


def float_bincount(index: NDArray[np.integer], values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Sum of ``values`` per index in [0, bins)."""
    return np.bincount(index, values, bins).astype(np.float64)
