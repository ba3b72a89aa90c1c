"""The specification of kernels/split_lanes.cl and split_groups.cl: sums of split pixels, in plain numpy float64."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import exact
from .geometry import Geometry
from .reference import float_bincount
from .split_sums import SplitFrameSums, share_quanta
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


def integrate(frames: NDArray[np.integer], geometry: Geometry, validity: Validity) -> SplitFrameSums:
    """Sums of each frame (frames, pixels): every pixel counts for its share in every bin that it reaches."""
    split = _SplitFrame.of(geometry)
    per_frame = [_integrate_one(frame, split, geometry.bins, validity) for frame in frames]
    return SplitFrameSums(*(np.stack(parts) for parts in zip(*per_frame, strict=True)))


def _integrate_one(
    frame: NDArray[np.integer], split: _SplitFrame, bins: int, validity: Validity
) -> tuple[Floats, NDArray[np.uint64], NDArray[np.uint64], exact.Words]:
    entries, norm = split
    bad = validity.invalid(frame)[entries.pixel]
    lost, valid = entries.where(bad), entries.where(~bad)
    signal: Floats = valid.share.astype(np.float64) * frame[valid.pixel]
    gone = norm[bad].astype(np.uint64)
    return (
        np.stack([float_bincount(valid.bin, x, bins) for x in (signal, signal**2, signal * norm[~bad])]),
        exact.bincount(lost.bin, share_quanta(lost), bins)[:, 1],
        exact.bincount(lost.bin, gone, bins)[:, 1],
        exact.bincount(lost.bin, gone * gone, bins),
    )


def image_profiles(
    image_sum: NDArray[np.uint64], image_lost: NDArray[np.uint32], n_frames: int, geometry: Geometry
) -> tuple[RingProfile, RingProfile]:
    """Profiles of the summed and of the averaged image (pixels,), over pixels that were valid at least once.

    In two passes: means first, squared distances from them second.
    """
    entries, norm = _SplitFrame.of(geometry)
    valid = (n_frames - image_lost.astype(np.int64))[entries.pixel]
    kept = valid > 0
    entries, valid = entries.where(kept), valid[kept]
    g: Floats = norm[kept] * np.float64(geometry.norm_quantum)
    share = entries.share.astype(np.float64)
    summed: Floats = share * image_sum[entries.pixel]
    pairs = ((summed, g * valid), (summed / valid, g))
    first, second = (_two_pass(entries.bin, s, w, share, geometry.bins) for s, w in pairs)
    return first, second


def _two_pass(bin_: NDArray[np.intp], s: Floats, w: Floats, share: Floats, bins: int) -> RingProfile:
    signal, norm, norm_sq, count = (float_bincount(bin_, x, bins) for x in (s, w, w * w, share))
    mean = signal / np.where(norm > 0, norm, 1.0)
    return RingProfile.of(signal, float_bincount(bin_, (s - w * mean[bin_]) ** 2, bins), norm, norm_sq, count)
