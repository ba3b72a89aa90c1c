"""Evaluations made by hand: a metric with its error, and what else a decision rests on, in one line each."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ringwatch.config import StopConfig
from ringwatch.messages import Decision, Estimate, Forecast, Metric, Origin, Reason, RingTable, Statistics
from ringwatch.stop.evaluation import NORMAL_95, Conditions, Evaluation, Measurement, variance_at
from ringwatch.stop.rule import StopRule
from ringwatch.stop.sentences import sentence

ORIGIN = Origin(17, "s17", "silicon", 1, "d1ce57")
TIME_NS = 1_700_000_000_000_000_000
FRAME_TIME_S = 0.05
SECTORS = 36
CERTAIN = 1e-4
"""Standard error of the logarithm of a metric that is known as well as one could wish."""


def estimate(value: float, error: float = CERTAIN) -> Estimate:
    """A value and the standard error of its logarithm."""
    factor = math.exp(NORMAL_95 * error)
    return Estimate(value, value / factor, value * factor)


def replicates(variance: float, error: float) -> NDArray[np.float64]:
    """Leave-one-out values whose jackknife error of the logarithm is ``error``."""
    signs = np.resize([1.0, -1.0], SECTORS)
    return np.asarray(variance * np.exp(error / math.sqrt(SECTORS - 1) * signs))


def measured(metric: Metric, value: float, error: float = CERTAIN, **parts: float) -> Measurement:
    """A metric with the standard error of its logarithm; ``parts`` are shares of its variance."""
    variance = variance_at(metric, value)
    power = 1 if metric in {"spots", "counts"} else 2
    shares = {name: share * variance for name, share in parts.items()}
    return Measurement(estimate(value, error), variance, replicates=replicates(variance, power * error), **shares)


def statistics(n_frames: int, measurements: Mapping[Metric, Measurement], **changes: Any) -> Statistics:
    """Of a sample that turns well, with many crystallites."""
    fields: dict[str, Any] = {
        "independent_frames": estimate(0.8 * n_frames, 0.05),
        "repeating_fraction": Estimate(0.0, -0.02, 0.02),
        "azimuthal_trend": Estimate(0.01, 0.0, 0.02),
        "photon_share": Estimate(0.1, 0.08, 0.12),
        "crystallites": estimate(400.0, 0.05),
        "bin_spottiness": np.full(4, 0.02),
        "rings": rings(0.010, 0.012, 0.014),
    }
    published = {metric: measurement.estimate for metric, measurement in measurements.items()}
    return Statistics(n_frames=n_frames, measures=published, **(fields | changes))


def rings(*uncertainty: float) -> RingTable:
    """Rings that are known so well."""
    value = np.array(uncertainty)
    n, position = len(uncertainty), np.linspace(3.0, 6.0, len(uncertainty))
    return RingTable(
        position=position,
        d_spacing_A=9.408 / position,
        first=np.arange(n),
        last=np.arange(n) + 1,
        net_counts=np.full(n, 1e6),
        uncertainty=value,
        uncertainty_low=value / 1.1,
        uncertainty_high=value * 1.1,
        spottiness=value,
        spots=np.full(n, 100.0),
        spots_bound=np.zeros(n, np.bool_),
        trend=np.full(n, 0.01),
    )


def evaluation(
    n_frames: int,
    measurements: Mapping[Metric, Measurement],
    elapsed_s: float | None = math.nan,
    conditions: Conditions | None = None,
    **changes: Any,
) -> Evaluation:
    """After so many frames; ``changes`` are those of the statistics. 20 frames/s unless the time is given."""
    return Evaluation(
        origin=ORIGIN,
        time_ns=TIME_NS,
        n_frames=n_frames,
        elapsed_s=n_frames * FRAME_TIME_S if elapsed_s is not None and math.isnan(elapsed_s) else elapsed_s,
        measurements=measurements,
        statistics=statistics(n_frames, measurements, **changes),
        conditions=conditions or Conditions(),
    )


def config(**keys: Any) -> StopConfig:
    """Rings even to 2 %, and as few other demands as possible."""
    fields: dict[str, Any] = {"metric": "spottiness_rings", "target": 0.02, "min_frames": 1, "min_time_s": 0.0}
    return StopConfig(**(fields | keys))


class Series:
    """A rule, and the numbers of frames at which it is asked."""

    def __init__(self, **keys: Any) -> None:
        self.config = config(**keys)
        self.rule = StopRule(self.config)
        self.n_frames = 32

    def at(self, value: float | None, error: float = CERTAIN, /, **changes: Any) -> Decision:
        """Decision on the next value of the one metric; None where it cannot be measured."""
        metric = self.config.criteria[0][0]
        parts = changes.pop("parts", {})
        return self.see({} if value is None else {metric: measured(metric, value, error, **parts)}, **changes)

    def see(self, measurements: Mapping[Metric, Measurement], **changes: Any) -> Decision:
        """Decision on the next evaluation."""
        decision = self.rule.decide(self.evaluation(measurements, **changes))
        self.n_frames += 2
        return decision

    def evaluation(self, measurements: Mapping[Metric, Measurement], **changes: Any) -> Evaluation:
        """The next evaluation."""
        return evaluation(changes.pop("n_frames", self.n_frames), measurements, **changes)

    def reasons(self, *values: float | None, **changes: Any) -> list[str]:
        """Reasons of the decisions on some values in a row."""
        return [self.at(value, **changes).reason_code for value in values]


T = TypeVar("T", Measurement, Forecast, RingTable)


def changed(given: T, **changes: Any) -> T:
    """The same, changed."""
    return replace(given, **changes)


NO_FORECAST = Forecast(None, None, None, None, None, None, 0.0, None, None)
FIRST = 232
"""Frame since which it is good enough, in sentences."""


def decided(
    reason: Reason,
    metric: Metric = "spottiness_rings",
    value: float | None = 0.034,
    target: float = 0.02,
    forecast: Forecast | None = None,
    told: Mapping[str, str] = MappingProxyType({}),
    **changes: Any,
) -> Decision:
    """A decision after 412 frames, and what is said about it."""
    known = {} if value is None else {metric: changes.pop("measurement", None) or _measured(metric, value, changes)}
    reached = changes.pop("reached", evaluation(FIRST, {}))
    latest = evaluation(412, known, **changes)
    limits = (
        {"min_frames": 500, "min_time_s": 30.0} if reason == "too_early" else {"max_frames": 400, "max_time_s": 20.0}
    )
    settings = config(metric=metric, target=target, **limits, **told)
    decision = Decision(
        ORIGIN, TIME_NS, 412, metric, value, value, value, target, "continue", False, reason, "", forecast, None
    )  # fmt: skip
    return replace(decision, sentence=sentence(decision, latest, settings, reached))


def _measured(metric: Metric, value: float, changes: dict[str, Any]) -> Measurement:
    return measured(metric, abs(value), **changes.pop("parts", {}))
