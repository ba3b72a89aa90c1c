"""The rule: the evaluations of one accumulation in, in order; a decision for each out.

Stop if the confidence limit of the metric is on the good side of its target at two evaluations in a row, if enough
frames, independent frames and crystallites are behind it, and if nothing forbids to trust the numbers.
"""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

from ringwatch.config import StopConfig
from ringwatch.messages import Decision, Metric, Reason, Score
from ringwatch.stop import guards
from ringwatch.stop.criterion import Criterion
from ringwatch.stop.evaluation import Evaluation
from ringwatch.stop.schedule import FIRST_FRAMES, next_evaluation
from ringwatch.stop.sentences import final_sentence, sentence

CONFIRMATIONS = 2
_STOPS: frozenset[Reason] = frozenset({"reached", "max_frames", "max_time"})


class StopRule:
    """Decides whether one accumulation is good enough.

    Attributes
    ----------
    next_frames
        At how many frames to evaluate next.
    """

    def __init__(self, config: StopConfig) -> None:
        self._config = config
        deviations = NormalDist().inv_cdf(config.confidence)
        self._criteria = [Criterion(metric, target, deviations, config.rearm) for metric, target in config.criteria]
        self._is_held = False
        self._reached: Evaluation | None = None
        self._first_stop: Decision | None = None
        self.next_frames = min(FIRST_FRAMES, config.max_frames or FIRST_FRAMES)

    def decide(self, evaluation: Evaluation) -> Decision:
        """Decide; only evaluations at (or after) `next_frames` belong here, so that two in a row are two looks."""
        for criterion in self._criteria:
            criterion.see(evaluation)
        deciding = self._deciding()
        self.next_frames = self._next_frames(evaluation, deciding)
        decision = self._decision(evaluation, deciding, self._reason(evaluation, deciding))
        if decision.action == "stop" and self._first_stop is None:
            self._first_stop = decision
        return decision

    def finish(self, evaluation: Evaluation) -> Decision:
        """The last word on a series, with the score of what was decided earlier if the series went on nevertheless."""
        stop = self._first_stop
        deciding = self._deciding() if stop is None else self._criterion(stop.metric)
        deciding.measurement = evaluation.measurements.get(deciding.metric)
        decision = self._decision(evaluation, deciding, "over")
        final = decision.value
        if stop is None or stop.value is None or final is None or stop.n_frames >= evaluation.n_frames:
            return decision
        score = Score(stop.n_frames, stop.value, final)
        return replace(decision, score=score, sentence=final_sentence(decision, score, self._config))

    def _next_frames(self, evaluation: Evaluation, deciding: Criterion) -> int:
        """Where the schedule says, but not beyond a limit in frames or seconds."""
        config, rate, n = self._config, evaluation.frames_per_s, evaluation.n_frames
        looks = [next_evaluation(n, deciding.frames, deciding.limit_ratio, is_armed=self._is_armed())]
        if config.max_frames is not None:
            looks.append(config.max_frames)
        if config.max_time_s is not None and rate is not None:
            looks.append(math.ceil(config.max_time_s * rate))
        return min(look for look in looks if look > n)

    def _deciding(self) -> Criterion:
        """The criterion that decides: the farthest from its target if all must hold, the nearest if any is enough.

        One that is not met with confidence is farther than any that is.
        """
        pick = max if self._config.combine == "all" else min
        return pick(self._criteria, key=lambda criterion: (-min(criterion.in_a_row, CONFIRMATIONS), criterion.distance))

    def _criterion(self, metric: Metric) -> Criterion:
        return next(criterion for criterion in self._criteria if criterion.metric == metric)

    def _in_a_row(self) -> int:
        pick = min if self._config.combine == "all" else max
        return pick(criterion.in_a_row for criterion in self._criteria)

    def _is_armed(self) -> bool:
        return self._in_a_row() == CONFIRMATIONS - 1

    def _reason(self, evaluation: Evaluation, deciding: Criterion) -> Reason:
        limit = self._limit(evaluation)
        if limit is not None:
            return limit
        broken = guards.broken_condition(evaluation.conditions)
        if broken is not None:
            return broken
        if guards.is_static(evaluation, self._config) and not self._config.allow_static:
            return "static"
        if deciding.measurement is None:
            return "not_measurable"
        if not self._holds(evaluation, deciding):
            self._reached = None
            return self._why_not_yet(evaluation, deciding)
        thin = guards.thin_evidence(evaluation, deciding.metric, self._config)
        if thin is None:
            self._reached = self._reached or evaluation
        return thin or "reached"

    def _limit(self, evaluation: Evaluation) -> Reason | None:
        config = self._config
        if config.max_frames is not None and evaluation.n_frames >= config.max_frames:
            return "max_frames"
        if config.max_time_s is not None and (evaluation.elapsed_s or 0.0) >= config.max_time_s:
            return "max_time"
        return None

    def _holds(self, evaluation: Evaluation, deciding: Criterion) -> bool:
        """Whether the target is met: twice in a row with confidence, and from then on until it is clearly worse."""
        if self._in_a_row() >= CONFIRMATIONS and not self._is_early(evaluation):
            self._is_held = True
        elif deciding.is_clearly_worse:
            self._is_held = False
        return self._is_held

    def _is_early(self, evaluation: Evaluation) -> bool:
        config, elapsed_s = self._config, evaluation.elapsed_s
        return evaluation.n_frames < config.min_frames or (elapsed_s is not None and elapsed_s < config.min_time_s)

    def _why_not_yet(self, evaluation: Evaluation, deciding: Criterion) -> Reason:
        if deciding.never:
            return "never"
        if self._is_early(evaluation):
            return "too_early"
        if self._in_a_row():
            return "confirming"
        if deciding.measurement is not None and guards.is_photon_limited(deciding.measurement):
            return "photons"
        return "above_target"

    def _action(self, reason: Reason) -> Literal["continue", "stop"]:
        if reason in _STOPS or (reason == "never" and self._config.on_never == "stop"):
            return "stop"
        return "continue"

    def _decision(self, evaluation: Evaluation, deciding: Criterion, reason: Reason) -> Decision:
        estimate = deciding.estimate
        decision = Decision(
            origin=evaluation.origin,
            time_ns=evaluation.time_ns,
            n_frames=evaluation.n_frames,
            metric=deciding.metric,
            value=None if estimate is None else estimate.value,
            low=None if estimate is None else estimate.low,
            high=None if estimate is None else estimate.high,
            target=deciding.target,
            action=self._action(reason),
            armed=self._is_armed(),
            reason_code=reason,
            sentence="",
            forecast=deciding.forecast(evaluation),
            score=None,
        )
        return replace(decision, sentence=sentence(decision, evaluation, self._config, self._reached))
