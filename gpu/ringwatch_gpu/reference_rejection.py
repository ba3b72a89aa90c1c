"""The specification of kernels/rejection.cl: outlier-rejecting profiles of the summed image, in plain numpy.

Of the pixels of a bin: s = sum of valid signals in counts, w = norm times the number of frames in which the pixel was
valid (both 0 for one that never was), x = s / w. Where pixels are split, s and w are multiplied by the share of the
pixel in the bin. Quantiles come from a full sort; sums are added in the order of the kernels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bin_order import LANES
from .geometry import Geometry
from .noise import Noise
from .rejection import Rejection, SigmaClip, largest_weight, weight_unit
from .splitting import parts
from .sums import ErrorModel

Floats = NDArray[np.float64]

_ROUNDING = 2.0**-40
_FEWEST = 3
_MAD_TO_SIGMA = 1.4826
_CLIP_SIGMAS = 4.0
_CLIP_PASSES = 3
_NEAR, _FAR = 2.0**-20, 1024


def reject(
    image_sum: NDArray[np.integer],
    image_lost: NDArray[np.uint32] | NDArray[np.uint64],
    exposure: int,
    geometry: Geometry,
    rejection: Rejection,
) -> dict[str, Floats]:
    """Signal, norm, norm^2, count and variance of what each method keeps, each (5, bins); norms in quanta.

    ``exposure`` and ``image_lost`` as for `reference.evaluate_image`.
    """
    unit = weight_unit(largest_weight(geometry), exposure)
    pixel, bin_, share, norm = parts(geometry, geometry.bin_table < geometry.bins)
    valid = exposure - image_lost[pixel].astype(np.uint64)
    weight = norm.astype(np.float64) * valid.astype(np.float64) * unit
    counts, noise = image_sum.astype(np.float64) * geometry.signal_quantum, Noise.of_parts(geometry, rejection.variance)
    signal = share * counts[pixel]
    members = (np.flatnonzero(bin_ == number) for number in range(geometry.bins))
    floors, model = noise.floor / unit, rejection.error_model
    bins = [
        Bin(signal[of], weight[of], noise.gain, floor, share[of]) for of, floor in zip(members, floors, strict=True)
    ]
    found: dict[str, Floats] = {}
    if rejection.sigma_clip is not None:
        found["sigma_clip"] = np.transpose([sigma_clip(bin_, rejection.sigma_clip, model) for bin_ in bins])
    if rejection.quantile is not None:
        found["quantile"] = np.transpose([quantile(bin_, *rejection.quantile, model) for bin_ in bins])
    if rejection.median_clip:
        found["median_clip"] = np.transpose([median_clip(bin_, model) for bin_ in bins])
    for sums in found.values():
        sums[1] /= unit
        sums[2] /= unit**2
    return found


@dataclass(frozen=True)
class Bin:
    """Signal, weight and share of each pixel of a bin, (pixels,); variance of its noise is c x gain x s + floor x w."""

    s: Floats
    w: Floats
    gain: float = 1.0
    floor: float = 0.0
    c: Floats | float = 1.0

    @property
    def x(self) -> Floats:
        """Their ratio, infinite for what was never valid."""
        return np.divide(self.s, self.w, out=np.full_like(self.s, np.inf), where=self.w > 0)

    @property
    def first_ratio(self) -> float:
        """That of some pixel: near the mean, mostly."""
        return float(self.x[0]) if self.w.size and self.w[0] > 0 else 0.0

    def sums(self, share: Floats, of_counts: bool, pivot: float = 0.0) -> Floats:
        """Signal, norm, norm^2, count and variance of shares of the pixels: of their counts, or about their mean.

        The latter from distances to ``pivot``, any guess of the mean; to the mean itself where that is far away.
        """
        found = self._sums_about(pivot, share, of_counts)
        mean = _mean(found)
        near = abs(mean - pivot) <= abs(mean) * _NEAR or (mean - pivot) ** 2 * found[2] <= _FAR * found[4]
        return found if of_counts or near else self._sums_about(mean, share, of_counts)

    def _sums_about(self, pivot: float, share: Floats, of_counts: bool) -> Floats:
        kept, taken = share * self.w, share * self.s
        distance = taken - kept * pivot
        noise = share * share * np.maximum(self.c * self.c, self.c * (self.gain * self.s) + self.floor * self.w)
        summed = (taken, kept, kept * kept, share, noise if of_counts else distance * distance)
        sums = np.array([lane_sum(values) for values in summed])
        if not of_counts:
            shift = _mean(sums) - pivot
            sums[4] = max(0.0, sums[4] - shift * (2 * lane_sum(distance * kept) - shift * sums[2]))
        return sums


def _mean(sums: Floats) -> float:
    return float(sums[0] / sums[1]) if sums[1] > 0 else 0.0


def lane_sum(values: Floats) -> float:
    """Sum in the order of the kernels: value i to lane i % LANES, each lane in order, then halves onto halves."""
    rows = np.zeros((-(-values.size // LANES), LANES))
    rows.ravel()[: values.size] = values
    lanes = np.zeros(LANES)
    for row in rows:
        lanes += row
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return float(lanes[0])


def sigma_clip(bin_: Bin, settings: SigmaClip, model: ErrorModel = "azimuthal") -> Floats:
    """Discard what is more than k standard deviations from the mean, until nothing is (pyFAI's sigma_clip)."""
    x, highest = bin_.x, np.finfo(np.float64).max
    lowest = -highest
    share, by_counts = (x <= highest).astype(np.float64), model == "poisson"
    kept = bin_.sums(share, by_counts, bin_.first_ratio)
    for _ in range(settings.max_iter):
        signal, norm, norm_sq, count, variance = kept
        if count == 0:
            break
        mean = signal / norm
        chauvenet = np.sqrt(2 * np.log(max(_FEWEST, count) / np.sqrt(2 * np.pi)))
        limit = max(settings.thres, chauvenet) * max(np.sqrt(variance / norm_sq), abs(mean) * _ROUNDING)
        lowest, highest = max(lowest, mean - limit), min(highest, mean + limit)
        share = ((x >= lowest) & (x <= highest)).astype(np.float64)
        fewer = bin_.sums(share, by_counts, mean)
        if fewer[3] == count:
            break
        kept = fewer
    return bin_.sums(share, of_counts=True) if model == "hybrid" else kept


def quantile(bin_: Bin, qmin: float, qmax: float, model: ErrorModel = "azimuthal") -> Floats:
    """What lies between two quantiles of the weight, the pixels at the ends in part."""
    order = Order.of(bin_.x, bin_.w)
    if not order.total:
        return np.zeros(5)
    (first, first_share), (last, last_share) = order.band(qmin, qmax)
    y = bin_.x.astype(np.float32)
    share = ((y > first) & (y < last)).astype(np.float64)
    share[y == first] = first_share
    share[y == last] = last_share
    return bin_.sums(share, model != "azimuthal", 0.5 * (first + last))


def median_clip(bin_: Bin, model: ErrorModel = "azimuthal") -> Floats:
    """What agrees with the noise, to four sigma: about the median first, then three times about the mean."""
    if not bin_.w.any():
        return np.zeros(5)
    centre = Order.of(bin_.x, bin_.w).median
    spread = Order.of(np.abs(bin_.x - centre), bin_.w).median
    of_counts = model != "azimuthal"
    kept = bin_.sums(_in_noise(bin_, centre, _CLIP_SIGMAS * (_MAD_TO_SIGMA * spread)), of_counts, centre)
    for _ in range(_CLIP_PASSES):
        mean = kept[0] / kept[1]
        share = _in_noise(bin_, mean, 0.0)
        if not share.any():
            break
        kept = bin_.sums(share, of_counts, mean)
    return kept


def _in_noise(bin_: Bin, mean: float, tolerance: float) -> Floats:
    expected = bin_.w * mean
    variance = np.maximum(1.0, bin_.gain * expected + bin_.floor * bin_.w)
    limit = np.maximum(_CLIP_SIGMAS * _CLIP_SIGMAS * variance, (bin_.w * tolerance) ** 2)
    return (((bin_.s - expected) ** 2 <= limit) & (bin_.w > 0)).astype(np.float64)


@dataclass(frozen=True)
class Order:
    """Values in increasing order, and the weight up to and including each, shape (values,)."""

    values: NDArray[np.float32]
    until: NDArray[np.uint64]

    @classmethod
    def of(cls, values: Floats, weights: Floats) -> "Order":
        """Equal ones together; values are rounded to float32, weights down to integers."""
        valid = weights > 0
        found, place = np.unique(values[valid].astype(np.float32), return_inverse=True)
        sums = np.zeros(found.size, np.uint64)
        np.add.at(sums, place, weights[valid].astype(np.uint64))
        return cls(found, np.cumsum(sums, dtype=np.uint64))

    @property
    def total(self) -> int:
        """Weight of all."""
        return int(self.until[-1]) if self.until.size else 0

    @property
    def median(self) -> float:
        """Middle of the two values on both sides of half the weight, mostly one and the same."""
        half_way = int(np.rint(0.5 * self.total))
        return 0.5 * sum(float(self.values[self._reached(rank)]) for rank in (half_way, half_way + 1))

    def band(self, qmin: float, qmax: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """First and last value between two quantiles, with the shares of their pixels."""
        start, end = (min(int(np.rint(q * self.total)), self.total) for q in (qmin, qmax))
        first, last = self._reached(start + 1), self._reached(end)
        until, weight = int(self.until[first]), [self._weight(place) for place in (first, last)]
        parts = until - start, end - (int(self.until[last]) - weight[1])
        if first == last:
            parts = (end - start if start < end else weight[0],) * 2
        elif start == end:  # between two values: as much of both
            parts = (min(weight),) * 2
        shares = float(parts[0]) / float(weight[0]), float(parts[1]) / float(weight[1])
        return (float(self.values[first]), shares[0]), (float(self.values[last]), shares[1])

    def _reached(self, rank: int) -> int:
        """Which value the weight ``rank`` belongs to, 1 to the total."""
        return int(np.searchsorted(self.until, np.uint64(min(max(rank, 1), self.total))))

    def _weight(self, place: int) -> int:
        return int(self.until[place]) - (int(self.until[place - 1]) if place else 0)
