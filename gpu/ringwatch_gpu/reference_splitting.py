"""The specification of kernels/split_lanes.cl and split_groups.cl: sums of split pixels, in plain numpy float64."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import exact
from .geometry import Geometry
from .reference import float_bincount
from .signals import signals
from .split_sums import SPLIT_PLANES, SplitFrameSums, SplitImage, share_quanta
from .splitting import Entries, entry_norms
from .sums import RingProfile
from .validity import Validity

Floats = NDArray[np.float64]


class _SplitFrame(NamedTuple):
    """Entries of the used pixels, with their bins and norms in quanta."""

    entries: Entries
    norm: NDArray[np.uint32]

    @classmethod
    def of(cls, geometry: Geometry) -> "_SplitFrame":
        if geometry.splitting is None:
            raise ValueError("the pixels of this geometry are not split")
        entries = geometry.splitting.entries(np.flatnonzero(geometry.bin_table < geometry.bins))
        return cls(entries, entry_norms(entries, geometry.norm_q))


def integrate(
    frames: NDArray[np.generic], geometry: Geometry, validity: Validity, *, tells_noise: bool = False
) -> SplitFrameSums:
    """Sums of each frame (frames, pixels): every pixel counts for its share in every bin that it reaches."""
    split, (signal, bad) = _SplitFrame.of(geometry), signals(frames, geometry, validity)
    planes = SPLIT_PLANES + tells_noise
    per_frame = [_integrate_one(*frame, split, geometry.bins, planes) for frame in zip(signal, bad, strict=True)]
    return SplitFrameSums(*(np.stack(parts) for parts in zip(*per_frame, strict=True)))


def _integrate_one(
    frame: NDArray[np.int64], is_bad: NDArray[np.bool_], split: _SplitFrame, bins: int, planes: int
) -> tuple[Floats, NDArray[np.uint64], NDArray[np.uint64], exact.Words]:
    entries, norm = split
    bad = is_bad[entries.pixel]
    lost, valid = entries.where(bad), entries.where(~bad)
    share = valid.share.astype(np.float64)
    signal: Floats = share * frame[valid.pixel]
    summed = (signal, signal**2, signal * norm[~bad], signal * share)
    gone = norm[bad].astype(np.uint64)
    return (
        np.stack([float_bincount(valid.bin, x, bins) for x in summed[:planes]]),
        exact.bincount(lost.bin, share_quanta(lost), bins)[:, 1],
        exact.bincount(lost.bin, gone, bins)[:, 1],
        exact.bincount(lost.bin, gone * gone, bins),
    )


def evaluate_image(
    image_sum: NDArray[np.integer],
    image_lost: NDArray[np.uint32] | NDArray[np.uint64],
    exposure: int,
    geometry: Geometry,
    unit: float = 1.0,
) -> SplitImage:
    """The summed and the averaged image (pixels,), over pixels that were valid at least once.

    In two passes: means first, squared distances from them second. ``image_lost``, ``exposure`` and ``unit`` as for
    `reference.evaluate_image`.
    """
    entries, norm = _SplitFrame.of(geometry)
    valid = (exposure - image_lost.astype(np.int64))[entries.pixel]
    kept = valid > 0
    entries, times = entries.where(kept), valid[kept] * np.float64(unit)
    g: Floats = norm[kept] * np.float64(geometry.norm_quantum)
    share = entries.share.astype(np.float64)
    total: Floats = image_sum[entries.pixel] * np.float64(geometry.signal_quantum)
    pairs = ((share * total, g * times), (share * total / times, g))
    first, second = (_two_pass(entries.bin, s, w, share, geometry.bins) for s, w in pairs)
    noise, zeros = (float_bincount(entries.bin, share**2 * x, geometry.bins) for x in (total, total == 0))
    return SplitImage(first, second, noise, zeros)


def _two_pass(bin_: NDArray[np.intp], s: Floats, w: Floats, share: Floats, bins: int) -> RingProfile:
    signal, norm, norm_sq, count = (float_bincount(bin_, x, bins) for x in (s, w, w * w, share))
    mean = signal / np.where(norm > 0, norm, 1.0)
    return RingProfile.of(signal, float_bincount(bin_, (s - w * mean[bin_]) ** 2, bins), norm, norm_sq, count)
