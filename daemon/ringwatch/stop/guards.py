"""The conditions of a measurement in, why it must not be stopped automatically out."""

import numpy as np

from ringwatch.config import StopConfig
from ringwatch.messages import Metric, Reason
from ringwatch.stop.evaluation import Conditions, Evaluation, Measurement, variance_at

MAX_LOST_SHARE = 0.01
MAX_SATURATED_PIXELS = 10.0
STATIC_FRAMES = 32
"""Sooner nobody can tell grains that stay from grains that stay for some frames."""


def broken_condition(conditions: Conditions) -> Reason | None:
    """What is wrong with the measurement itself: it forbids an automatic stop whatever the metric says."""
    found: dict[Reason, bool] = {
        "beam_loss": conditions.beam_down_since is not None,
        "energy": bool(conditions.mismatch),
        "eight_bit": conditions.pixel_bits <= 8,
        "masked_zeros": conditions.masked_zeros,
        "frames_lost": conditions.lost_share > MAX_LOST_SHARE,
        "saturation": conditions.saturated_pixels > MAX_SATURATED_PIXELS,
        "drift": conditions.drift_since is not None,
    }
    return next((reason for reason, is_so in found.items() if is_so), None)


def is_static(evaluation: Evaluation, config: StopConfig) -> bool:
    """Whether the same grains light up again and again, so that independent frames can never be enough.

    A share p of grains that stay limits the independent frames to 1/p. The first half of the frames has it in common
    with the second.
    """
    statistics = evaluation.statistics
    repeating, independent = statistics.repeating_fraction, statistics.independent_frames
    if repeating is None or independent is None or evaluation.n_frames < STATIC_FRAMES:
        return False
    too_few = independent.high < max(config.min_independent_frames, evaluation.n_frames / 8)
    return too_few and repeating.low > 1 / config.min_independent_frames


def thin_evidence(evaluation: Evaluation, metric: Metric, config: StopConfig) -> Reason | None:
    """Why the target of a metric that seems to be met may be a lucky dip."""
    if evaluation.measurements[metric].left_out > variance_at(metric, dict(config.criteria)[metric]):
        return "photons"
    statistics = evaluation.statistics
    independent, crystallites = statistics.independent_frames, statistics.crystallites
    if independent is not None and independent.value < config.min_independent_frames and not config.allow_static:
        return "few_independent"
    if crystallites is not None and crystallites.value < config.min_spots:
        return "few_spots"
    needs_rings = config.combine == "all" or metric == "ring_uncertainty"
    return "rings_above" if needs_rings and _too_many_rings_above(evaluation, config) else None


def _too_many_rings_above(evaluation: Evaluation, config: StopConfig) -> bool:
    """Whether more rings than allowed are above the target, each by more than it is known."""
    rings, target = evaluation.statistics.rings, dict(config.criteria).get("ring_uncertainty")
    if rings is None or target is None:
        return False
    known = np.isfinite(rings.uncertainty_low)
    return bool((rings.uncertainty_low[known] > target).sum() > (1 - config.rings_fraction) * known.sum())


def is_photon_limited(measurement: Measurement) -> bool:
    """Whether most of what is left is photon noise: the rings are even, counts are missing."""
    return measurement.photons > 0.5 * max(measurement.variance, 0.0)
