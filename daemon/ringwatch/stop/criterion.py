"""One metric and its target: evaluations in, whether the target is met, and when it will be, out."""

import math
from typing import Literal

from ringwatch.config import GROWING_METRICS
from ringwatch.messages import Estimate, Forecast, Metric
from ringwatch.stop.evaluation import NORMAL_95, Evaluation, Measurement, variance_at
from ringwatch.stop.forecast import Checkpoint, History, Outlook

NEVER_FRAMES = 32
NEVER_CONFIDENCE = 0.95
_HOPELESS = 2

Limit = Literal["grains", "photons", "static", "trend", "slope"]


class Criterion:
    """What was seen of one metric in one accumulation.

    Parameters
    ----------
    deviations
        How many standard errors the confidence limit is away from the value.
    rearm
        Above this times the target the metric is clearly worse.

    Attributes
    ----------
    measurement
        The latest; None where the metric cannot be measured yet.
    goal
        Relative variance at the target.
    limit_ratio
        Relative variance at the confidence limit over that at the target: at most 1 where the target is met.
    in_a_row
        At how many evaluations in a row that was so.
    """

    def __init__(self, metric: Metric, target: float, deviations: float, rearm: float) -> None:
        self.metric, self.target = metric, target
        self._deviations, self._rearm = deviations, rearm
        self.goal = variance_at(metric, target)
        self._history = History()
        self._outlook: Outlook | None = None
        self._hopeless = 0
        self.measurement: Measurement | None = None
        self.in_a_row = 0
        self.limit_ratio = math.inf

    def see(self, evaluation: Evaluation) -> None:
        """Take the next evaluation."""
        self.measurement = evaluation.measurements.get(self.metric)
        if self.measurement is None:
            self.in_a_row, self._hopeless, self.limit_ratio = 0, 0, math.inf
            return
        self.limit_ratio = self._variance_limit(self.measurement) / self.goal
        self.in_a_row = self.in_a_row + 1 if self.limit_ratio <= 1 else 0
        self._look_ahead(evaluation.n_frames, self.measurement)
        self._hopeless = self._hopeless + 1 if self._is_hopeless(evaluation, self.measurement) else 0

    @property
    def estimate(self) -> Estimate | None:
        """The metric as it was measured last."""
        return None if self.measurement is None else self.measurement.estimate

    @property
    def distance(self) -> float:
        """Relative variance over that at the target: below 1 where the target is met."""
        return math.inf if self.measurement is None else self.measurement.variance / self.goal

    @property
    def is_clearly_worse(self) -> bool:
        """Whether it is beyond the re-arming limit."""
        growing = self.metric in GROWING_METRICS
        return self.distance > (self._rearm if growing else self._rearm**2)

    @property
    def never(self) -> bool:
        """Whether there is evidence, at two evaluations in a row, that the target will not be reached."""
        return self._hopeless >= _HOPELESS

    @property
    def frames(self) -> float | None:
        """Forecast of the number of frames at the target; None = never, not within sight, or not known yet."""
        if self._outlook is not None:
            return self._outlook.frames
        return None

    def forecast(self, evaluation: Evaluation) -> Forecast | None:
        """The forecast as it is published."""
        outlook, measurement, rate = self._outlook, self.measurement, evaluation.frames_per_s
        if outlook is None or measurement is None:
            return None

        def seconds(frames: float | None) -> float | None:
            return None if frames is None or rate is None else max(frames - evaluation.n_frames, 0.0) / rate

        return Forecast(
            frames=outlook.frames,
            low=outlook.low,
            high=outlook.high,
            seconds=seconds(outlook.frames),
            seconds_low=seconds(outlook.low),
            seconds_high=seconds(outlook.high),
            p_never=outlook.p_never,
            settles_at=self._settles_at(outlook),
            limit=_limit(evaluation, measurement, outlook),
        )

    def _variance_limit(self, measurement: Measurement) -> float:
        """Relative variance that is not exceeded, with the confidence that was asked for."""
        estimate = measurement.estimate
        if estimate.bound is not None:  # the value itself is the limit; an upper bound of a growing metric says nothing
            is_safe = (estimate.bound == "lower") == (self.metric in GROWING_METRICS)
            return measurement.variance if is_safe else math.inf
        growing = self.metric in GROWING_METRICS
        if math.isinf(measurement.log_error):  # the interval contains zero: then it is even in the variance
            upward = math.copysign(estimate.high**2, estimate.high) - measurement.variance
            return math.inf if growing else measurement.variance + upward * self._deviations / NORMAL_95
        powers = 1 if growing else 2
        return measurement.variance * math.exp(min(powers * self._deviations * measurement.log_error, 700.0))

    def _look_ahead(self, n_frames: int, measurement: Measurement) -> None:
        if measurement.replicates is None:
            self._outlook = _counting(n_frames, measurement.variance, self.goal)
            return
        if measurement.variance > 0:
            self._history.add(Checkpoint(n_frames, measurement.variance, measurement.photons, measurement.replicates))
        self._outlook = self._history.outlook(self.goal)

    def _is_hopeless(self, evaluation: Evaluation, measurement: Measurement) -> bool:
        """The fit says never, and what stays is seen independently of it: in both halves, or as trend or slope."""
        outlook, repeating = self._outlook, evaluation.statistics.repeating_fraction
        if outlook is None or evaluation.n_frames < NEVER_FRAMES or outlook.p_never < NEVER_CONFIDENCE:
            return False
        static = outlook.single * max(repeating.low, 0.0) if repeating is not None else 0.0
        return static + measurement.trend + measurement.slope > self.goal

    def _settles_at(self, outlook: Outlook) -> Estimate | None:
        if outlook.settles <= 0 or self.metric in GROWING_METRICS:
            return None
        value, low, high = (math.sqrt(part) for part in (outlook.settles, outlook.settles_low, outlook.settles_high))
        return Estimate(value, low, high)


def _counting(n_frames: int, variance: float, goal: float) -> Outlook | None:
    """A plain count needs no model: it falls as 1/N."""
    if variance <= 0:
        return None
    frames = n_frames * variance / goal
    return Outlook(frames, frames, frames, 0.0, n_frames * variance, 0.0, 0.0, 0.0)


def _limit(evaluation: Evaluation, measurement: Measurement, outlook: Outlook) -> Limit:
    """What the largest part of the variance is."""
    repeating = evaluation.statistics.repeating_fraction
    static = outlook.single * max(repeating.value, 0.0) if repeating is not None else 0.0
    parts: dict[Limit, float] = {
        "photons": measurement.photons,
        "static": static,
        "trend": measurement.trend,
        "slope": measurement.slope,
    }
    parts["grains"] = measurement.variance - sum(parts.values())
    return max(parts, key=lambda name: parts[name])
