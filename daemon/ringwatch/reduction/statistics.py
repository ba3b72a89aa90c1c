"""The summed image and sectors of single frames in, statistics out: as they are published, and as they decide."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ringwatch.config import RINGS_FRACTION
from ringwatch.messages import Estimate, Metric, RingTable, Statistics
from ringwatch.stop.evaluation import NORMAL_95, Measurement
from ringwatch_gpu.azimuth import SmoothFit
from ringwatch_gpu.drift import DriftWatch
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.grains import Cake, RingScatter, ring_scatter
from ringwatch_gpu.jackknife import quantile_weights, standard_error
from ringwatch_gpu.motion import Motion, SectorHistory
from ringwatch_gpu.reference import ImageSums
from ringwatch_gpu.ring_positions import RadialAxis
from ringwatch_gpu.rings import Rings, find_rings, rings_at
from ringwatch_gpu.scatter import Scatter, bin_spottiness, spottiness_scatter
from ringwatch_gpu.sectors import GROUPS, equal_groups
from ringwatch_gpu.spottiness import SpottinessValues
from ringwatch_gpu.sums import RingProfile

FindRings = Callable[[RingProfile], Rings]
Floats = NDArray[np.float64]
Measurements = Mapping[Metric, Measurement]
Scatters = tuple[Scatter, Scatter, Scatter | None]
"""Plain, weighted, and over the rings where there are any."""


class SpotStatistics:
    """Statistics of one accumulation.

    Parameters
    ----------
    bins
        Number of radial bins.
    find_rings
        Where the rings are in a profile of the summed image.
    rings_fraction
        Share of the rings that have the published spots and counts, or more.
    """

    def __init__(self, bins: int, find_rings: FindRings, rings_fraction: float) -> None:
        self._find_rings, self._rings_fraction = find_rings, rings_fraction
        edges = np.searchsorted(equal_groups(bins), np.arange(GROUPS + 1))
        self._group_first, self._group_last = edges[:-1], edges[1:]
        self._history = SectorHistory(GROUPS)
        self._drift = DriftWatch()

    @classmethod
    def of(
        cls, geometry: Geometry, d_spacings_A: Floats | None = None, rings_fraction: float = RINGS_FRACTION
    ) -> "SpotStatistics":
        """Statistics for a geometry, with rings at given lattice spacings, or wherever the profile shows some.

        Raises
        ------
        GeometryError
            The spacings cannot be placed on the radial axis.
        """
        axis = RadialAxis.of(geometry)
        if d_spacings_A is not None:
            axis.position(d_spacings_A)  # now, not at the first evaluation

        def find(profile: RingProfile) -> Rings:
            return find_rings(profile, axis) if d_spacings_A is None else rings_at(d_spacings_A, profile, axis)

        return cls(geometry.bins, find, rings_fraction)

    @property
    def wants_sectors(self) -> bool:
        """Whether it takes the sectors of another frame before the next evaluation."""
        return not self._history.is_full

    @property
    def drift_since(self) -> int | None:
        """Frame since which the pattern is changing; None while it is not."""
        return self._drift.since

    def add_sectors(self, sectors: Floats | NDArray[np.int64]) -> None:
        """Take the counts in the sectors of a single frame, shape (groups, sectors)."""
        self._history.add(sectors)

    def evaluate(
        self, image: ImageSums, profile: RingProfile, n_frames: int, split: SpottinessValues | None = None
    ) -> tuple[Statistics, Measurements]:
        """Statistics of the summed image.

        Parameters
        ----------
        image
            Its sums, in counts.
        profile
            Of the summed image.
        split
            Its spottiness where pixels are split. Then the sectors of whole pixels say how well it is known, and which
            share is photon noise.
        """
        cake = Cake(image, n_frames)
        total, expected, length = cake.summed(self._group_first, self._group_last)
        fit = SmoothFit(expected)
        gain = 1.0 if image.noise is None else image.noise.gain
        floor = cake.summed_noise(self._group_first, self._group_last) - gain * total
        self._history.digest(fit, gain, floor / n_frames)
        self._drift.see(n_frames, total, fit)
        motion = self._history.motion(fit, total, n_frames)
        found = self._find_rings(profile)
        rings = ring_scatter(cake, found, profile, self._history.overlap_length(fit, length)) if len(found) else None
        scatters = spottiness_scatter(image)
        if split is not None:
            scatters = _of_split(scatters, split)
        trend = _trend(rings)
        smooth = 0.0 if trend is None else trend.value**2
        measurements = _measurements(image, scatters, rings, smooth, self._rings_fraction)
        statistics = Statistics(
            n_frames=n_frames,
            measures={metric: measurement.estimate for metric, measurement in measurements.items()},
            independent_frames=_independent_frames(motion),
            repeating_fraction=_repeating(motion),
            azimuthal_trend=trend,
            photon_share=_photon_share(scatters[2]),
            crystallites=_crystallites(rings),
            bin_spottiness=bin_spottiness(image),
            rings=None if rings is None else _table(found, rings, image),
        )
        return statistics, measurements


def _of_split(scatters: Scatters, split: SpottinessValues) -> Scatters:
    plain, weighted, even = scatters
    rings = None if even is None or np.isnan(split.rings) else even.scaled_to(float(split.rings) ** 2)
    return plain.scaled_to(float(split.plain) ** 2), weighted.scaled_to(float(split.weighted) ** 2), rings


def _measurements(
    image: ImageSums,
    scatters: Scatters,
    rings: RingScatter | None,
    smooth: float,
    rings_fraction: float,
) -> Measurements:
    plain, weighted, even = scatters
    found: dict[Metric, Measurement] = {
        "spottiness": _falling(plain, smooth),
        "spottiness_weighted": _falling(weighted, smooth),
    }
    if even is not None:
        found["spottiness_rings"] = _falling(even, smooth)
        found["excess"] = _excess(even, smooth)
        found["relative_error"] = _relative_error(image, even, smooth)
    uncertainty = None if rings is None else rings.typical
    if rings is not None and uncertainty is not None:
        found["ring_uncertainty"] = _falling(uncertainty, 0.0)
        found["spots"] = _spots(rings, rings_fraction)
        counts = _counts(rings, rings_fraction)
        found |= {"counts": counts} if counts else {}
    return {metric: measurement for metric, measurement in found.items() if measurement.variance != 0}


def _falling(scatter: Scatter, smooth: float) -> Measurement:
    """A metric that is the root of its scatter; ``smooth`` is the relative variance of the azimuthal trend."""
    return Measurement(
        _root(scatter.total, scatter.replicates), scatter.total, scatter.photons,
        scatter.trend_factor * smooth, scatter.slope, scatter.replicates,
    )  # fmt: skip


def _root(variance: float, replicates: Floats) -> Estimate:
    """Root of a variance; its interval is even in the logarithm, since variances are skewed."""
    value = float(np.sqrt(variance))
    if value == 0:
        return Estimate(0.0, 0.0, 0.0)
    error = float(standard_error(np.log(np.maximum(replicates, 1e-300)))) / 2
    factor = float(np.exp(min(NORMAL_95 * error, 700.0)))
    return Estimate(value, value / factor, value * factor)


def _excess(scatter: Scatter, smooth: float) -> Measurement:
    """Root of what photon noise does not explain; negative where there is less scatter than that."""
    variance, error = scatter.total - scatter.photons, float(standard_error(scatter.replicates))
    limits = (variance, variance - NORMAL_95 * error, variance + NORMAL_95 * error)
    value, low, high = (float(np.copysign(np.sqrt(abs(limit)), limit)) for limit in limits)
    replicates = np.maximum(scatter.replicates - scatter.photons, 1e-3 * scatter.photons)
    return Measurement(
        Estimate(value, low, high), variance, 0.0, scatter.trend_factor * smooth,
        scatter.slope, replicates, left_out=scatter.photons,
    )  # fmt: skip


def _relative_error(image: ImageSums, scatter: Scatter, smooth: float) -> Measurement:
    """Mean over the bins of standard error over intensity, as ID31 uses it; its scatter is that of the spottiness."""
    value = float(np.nanmean(bin_spottiness(image)))
    return _falling(scatter.scaled_to(value**2), smooth)


def _spots(rings: RingScatter, rings_fraction: float) -> Measurement:
    """Spots that the given share of the rings have or exceed; a lower bound where photon noise hides them."""
    usable = rings.usable
    weights = quantile_weights(rings.spots[usable], 1 - rings_fraction)
    spots, replicates = float(weights @ rings.spots[usable]), weights @ rings.spots_replicates[usable]
    inner = _root(spots**2, replicates**2)
    hidden = bool(rings.spots_bound[usable].mean() > rings_fraction)
    estimate = Estimate(spots, spots, spots, "lower") if hidden else inner
    return Measurement(estimate, 1 / spots, replicates=1 / replicates)


def _counts(rings: RingScatter, rings_fraction: float) -> Measurement | None:
    """Net counts that the given share of the rings have or exceed."""
    usable = rings.usable
    weights = quantile_weights(rings.net[usable], 1 - rings_fraction)
    counts = float(weights @ rings.net[usable])
    if counts <= 0:
        return None
    error = NORMAL_95 * counts * float(np.sqrt(weights @ rings.photons[usable]))
    return Measurement(Estimate(counts, max(counts - error, 0.0), counts + error), 1 / counts)


def _independent_frames(motion: Motion | None) -> Estimate | None:
    if motion is None or motion.shared <= 0:
        return None
    inner = _root(motion.shared**2, np.maximum(motion.shared_replicates, 1e-300) ** 2)
    value, low, high = (max(1 / share, 1.0) for share in (inner.value, inner.high, inner.low))
    return Estimate(value, low, high)


def _repeating(motion: Motion | None) -> Estimate | None:
    if motion is None:
        return None
    error = NORMAL_95 * float(standard_error(motion.repeating_replicates))
    return Estimate(motion.repeating, motion.repeating - error, motion.repeating + error)


def _trend(rings: RingScatter | None) -> Estimate | None:
    if rings is None or not rings.usable.any():
        return None
    smooth, error = rings.typical_trend
    value, low, high = (
        float(np.sqrt(max(smooth + deviations * error, 0.0))) for deviations in (0, -NORMAL_95, NORMAL_95)
    )
    return Estimate(value, low, high)


def _photon_share(scatter: Scatter | None) -> Estimate | None:
    if scatter is None or scatter.total <= 0:
        return None
    inner = _root((scatter.photons / scatter.total) ** 2, (scatter.photons / scatter.replicates) ** 2)
    return Estimate(min(inner.value, 1.0), min(inner.low, 1.0), min(inner.high, 1.0))


def _crystallites(rings: RingScatter | None) -> Estimate | None:
    """Spots on all rings together; a lower bound if that of any ring is."""
    if rings is None or not rings.usable.any():
        return None
    usable = rings.usable
    total = float(rings.spots[usable].sum())
    inner = _root(total**2, rings.spots_replicates[usable].sum(axis=0) ** 2)
    return Estimate(total, total, total, "lower") if rings.spots_bound[usable].any() else inner


def _table(found: Rings, rings: RingScatter, image: ImageSums) -> RingTable:
    value = np.sqrt(rings.relative)
    logs = np.log(np.maximum(rings.relative_replicates, 1e-300))
    factor = np.exp(NORMAL_95 * standard_error(logs) / 2)
    return RingTable(
        position=found.position,
        d_spacing_A=found.d_spacing_A,
        first=found.first,
        last=found.last,
        net_counts=rings.net,
        uncertainty=value,
        uncertainty_low=value / factor,
        uncertainty_high=value * factor,
        spottiness=np.array([_spottiness(image, *window) for window in zip(found.first, found.last, strict=True)]),
        spots=np.where(rings.usable, rings.spots, np.nan),
        spots_bound=rings.spots_bound,
        trend=rings.trend,
    )


def _spottiness(image: ImageSums, first: int, last: int) -> float:
    window = slice(first, last)
    square: float = np.mean(image.variance[window] / np.maximum(image.signal[window], 1.0) ** 2)
    return float(np.sqrt(square))
