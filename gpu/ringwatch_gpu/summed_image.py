"""The summed image of a device in, its pixels and profiles out: of the sum, of the average, without outliers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import exact
from .batch import BatchIntegrator
from .noise import Noise
from .reference import ImageSums
from .rejection import Method
from .sums import RingProfile, RingSums


@dataclass(frozen=True, eq=False)
class SummedImage:
    """Pixel-wise sum of frames and the profiles made of it. A spot that stays in place stays a spot in it.

    Attributes
    ----------
    union
        The sums of the same frames, ring by ring: equal signal and norms, another variance.
    total, lost
        Sum of the valid counts of each used pixel, in units of ``union.signal_quantum``, and in how many frames it was
        invalid; shape (rows, columns).
    profile
        Of the summed image: intensity is counts a frame, variance and sem are those of the summed counts.
    averaged
        Of the averaged image, ``total`` divided by the number of valid frames: pyFAI's integration of an average.
    without_outliers
        The outlier-rejecting profiles that were asked for: "sigma_clip", "quantile", "median_clip".
    """

    union: RingSums
    total: NDArray[np.uint64] | NDArray[np.int64]
    lost: NDArray[np.uint32]
    profile: RingProfile
    averaged: RingProfile
    without_outliers: Mapping[Method, RingProfile]

    @classmethod
    def of(cls, batch: BatchIntegrator, union: RingSums) -> "SummedImage":
        """What ``batch`` has summed up, with the union of the same frames, at least one."""
        n_frames, (total, lost) = union.n_frames, batch.read_image()
        split = batch.split_image(n_frames)
        profile, averaged = _whole_profiles(batch, lost, union) if split is None else (split.summed, split.averaged)
        return cls(union, total, lost, profile, averaged, batch.reject_outliers(n_frames))

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.union.n_frames

    @property
    def average(self) -> NDArray[np.float64]:
        """The averaged image, shape (rows, columns); NaN where a pixel was never valid."""
        valid = self.n_frames - self.lost.astype(np.float64)
        counts = self.total * self.union.signal_quantum
        return np.asarray(np.where(valid > 0, counts / np.maximum(valid, 1), np.nan))


def image_profile(image: ImageSums, norm_quantum: float) -> RingProfile:
    """Profile of the summed image."""
    return RingProfile.of(
        image.signal.astype(np.float64),
        image.variance,
        exact.to_float(image.norm) * norm_quantum,
        image.norm_sq * norm_quantum**2,
        image.count.astype(np.float64),
    )


def _whole_profiles(
    batch: BatchIntegrator, lost: NDArray[np.uint32], union: RingSums
) -> tuple[RingProfile, RingProfile]:
    image = batch.evaluate_image(union.n_frames).in_counts(union.signal_quantum, Noise.of(batch.geometry))
    quantum = union.norm_quantum
    averaged = RingProfile.of(
        image.averaged_signal,
        image.averaged_variance,
        image.averaged_norm * quantum,
        _norm_squares(batch, lost, union.n_frames) * quantum**2,
        image.count.astype(np.float64),
    )
    return image_profile(image, quantum), averaged


def _norm_squares(batch: BatchIntegrator, lost: NDArray[np.uint32], n_frames: int) -> NDArray[np.float64]:
    """Sum of the squared norms of the pixels that were valid at least once, shape (bins,)."""
    geometry = batch.geometry
    used = (geometry.bin_table < geometry.bins) & (lost.ravel() < n_frames)
    g = geometry.norm_q[used].astype(np.uint64)
    return exact.to_float(exact.bincount(geometry.bin_table[used], g * g, geometry.bins))
