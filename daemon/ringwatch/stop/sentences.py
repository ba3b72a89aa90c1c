"""A decision in, the sentence for the person at the beamline out: the same on the page, in the log and in the file."""

import math
from collections.abc import Callable

import numpy as np

from ringwatch.config import StopConfig
from ringwatch.messages import Decision, Estimate, Forecast, Metric, RingTable, Score
from ringwatch.stop.evaluation import Evaluation

_UNSEEN = "Nothing was stopped: no stop action is configured."
_REMEDY = "Oscillate or translate the sample, use a larger beam, defocus, or grind it"
_TREND_WORTH_TELLING = 0.05


def sentence(decision: Decision, evaluation: Evaluation, config: StopConfig, reached: Evaluation | None) -> str:
    """What the decision says, with its figures.

    Parameters
    ----------
    reached
        The evaluation at which the target was first confirmed, where it was.
    """
    told = _TELLERS[decision.reason_code](decision, evaluation, config, reached or evaluation)
    return " ".join(part for part in (told, _trend(evaluation)) if part)


def final_sentence(decision: Decision, score: Score) -> str:
    """How good the rule was, after a series that went on."""
    value = amount(decision.metric, score.value)
    final = amount(decision.metric, score.final_value)
    return (
        f"The series went on to frame {decision.n_frames}. It would have stopped at {score.n_frames}: "
        f"{value} then, {final} at the end (target {amount(decision.metric, decision.target)})."
    )


def amount(metric: Metric, value: float | None) -> str:
    """A value of a metric as people say it: 3.4 %, 120 crystallites."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if metric == "spots":
        return f"{value:.0f} crystallites a ring"
    if metric == "counts":
        return f"{value:.3g} counts a ring"
    return percent(value)


def percent(value: float) -> str:
    """Two significant digits below 10 %, whole numbers above."""
    percentage = 100 * value
    if abs(percentage) >= 9.95:
        return f"{percentage:.0f} %"
    return f"{percentage:.1f} %" if abs(percentage) >= 0.995 else f"{percentage:.2g} %"


def _reached(decision: Decision, evaluation: Evaluation, config: StopConfig, reached: Evaluation) -> str:
    return (
        f"Good enough since frame {reached.n_frames} ({_seconds(reached.elapsed_s)}): "
        f"{_state(decision, evaluation, config)} (target {amount(decision.metric, decision.target)}, "
        f"{100 * config.confidence:.0f} % sure{_worst(evaluation.statistics.rings)}). {_lost(evaluation)} {_UNSEEN}"
    )


def _state(decision: Decision, evaluation: Evaluation, config: StopConfig) -> str:
    value = amount(decision.metric, decision.value)
    rings = evaluation.statistics.rings
    share = f"{100 * config.rings_fraction:.0f} % of the {0 if rings is None else len(rings.position)} rings"
    match decision.metric:
        case "ring_uncertainty":
            return f"{share} are known to {value} or better"
        case "spots" | "counts":
            return f"{share} have {value} or more"
        case "relative_error":
            return f"the standard error of the profile is {value}"
        case "excess":
            return f"the rings are even to {value}, photon noise taken off"
        case _:
            return f"the rings are even to {value}"


def _worst(rings: RingTable | None) -> str:
    if rings is None or not np.isfinite(rings.uncertainty).any():
        return ""
    worst = int(np.nanargmax(rings.uncertainty))
    d = rings.d_spacing_A[worst]
    where = f"d = {d:.4g} Å" if math.isfinite(d) else f"at {rings.position[worst]:.4g}"
    return f"; worst ring {where}"


def _lost(evaluation: Evaluation) -> str:
    share = evaluation.conditions.lost_share
    return "No frame lost." if share == 0 else f"{percent(share)} of the frames lost."


def _continue(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    now = amount(decision.metric, decision.value)
    return (
        f"Keep measuring: {now} now, target {amount(decision.metric, decision.target)}{_remaining(decision.forecast)}."
    )


def _confirming(decision: Decision, *_: object) -> str:
    now = amount(decision.metric, decision.value)
    return f"Target met: {now} now, target {amount(decision.metric, decision.target)}. The next evaluation confirms it."


def _too_early(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    wanted = f"{config.min_frames} frames and {config.min_time_s:g} s"
    now = f"{evaluation.n_frames} frames, {_seconds(evaluation.elapsed_s)}"
    return (
        f"Keep measuring: a decision needs at least {wanted}; so far {now}, {amount(decision.metric, decision.value)}."
    )


def _not_measurable(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    if evaluation.statistics.rings is None and decision.metric in {"ring_uncertainty", "spots", "counts"}:
        return "Keep measuring: no ring stands out of the background yet."
    return "Keep measuring: there are not enough counts yet to say how even the rings are."


def _static(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    independent = evaluation.statistics.independent_frames
    worth = f"{evaluation.n_frames} frames count as {_count(independent)}"
    return (
        f"Not stopping: the same grains light up in every frame ({worth}). Is the sample turning? "
        "More exposure will not help."
    )


def _few_spots(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    seen = _count(evaluation.statistics.crystallites)
    return (
        f"Not stopping: only {seen} crystallites seen on these rings ({config.min_spots:g} needed); "
        "a lucky dip is likely."
    )


def _few_independent(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    return (
        f"Not stopping yet: the grains stay for several frames, {evaluation.n_frames} frames count as "
        f"{_count(evaluation.statistics.independent_frames)} ({config.min_independent_frames:g} needed)."
    )


def _photons(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    measurement = evaluation.measurements[decision.metric]
    share = f"photon noise {_number(math.sqrt(measurement.photons))} of {percent(math.sqrt(measurement.variance))}"
    return (
        f"Not stopping: the rings are even, counts are missing ({share})."
        f"{_about(decision.forecast, ' About {} more at this flux.')}"
    )


def _never(decision: Decision, *_: object) -> str:
    target, now = amount(decision.metric, decision.target), amount(decision.metric, decision.value)
    settles = decision.forecast.settles_at if decision.forecast else None
    end, accept = "", now
    if settles is not None:
        end = f": settles at {percent(settles.value)} ({_number(settles.low)}-{_number(settles.high)})"
        accept = percent(settles.value)
    return f"Will not reach {target}{end}. {_NEVER_BECAUSE[_limit(decision)]}; or accept {accept} and go on."


_NEVER_BECAUSE = {
    "grains": _REMEDY,
    "static": _REMEDY,
    "photons": "Counts are missing: expose longer or open the attenuator",
    "trend": "The rings vary smoothly with azimuth: check for texture, a shadow, polarization and the beam centre",
    "slope": "The profile is steep inside the radial bins: use more bins",
}


def _limit(decision: Decision) -> str:
    return (decision.forecast.limit if decision.forecast else None) or "grains"


def _max_frames(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    return f"Frame {evaluation.n_frames} reached the limit of {config.max_frames}: {_left(decision)} {_UNSEEN}"


def _max_time(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    return f"{_seconds(evaluation.elapsed_s)} reached the limit of {config.max_time_s:g} s: {_left(decision)} {_UNSEEN}"


def _left(decision: Decision) -> str:
    return f"{amount(decision.metric, decision.value)}, target {amount(decision.metric, decision.target)}."


def _over(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    return f"The series is over after frame {evaluation.n_frames}: {_left(decision)}"


def _guard(what: Callable[[Evaluation], str]) -> Callable[[Decision, Evaluation, StopConfig, Evaluation], str]:
    return lambda decision, evaluation, *_: f"Not stopping by itself: {what(evaluation)}."


def _trend(evaluation: Evaluation) -> str:
    trend = evaluation.statistics.azimuthal_trend
    if trend is None or trend < _TREND_WORTH_TELLING:
        return ""
    cause = "(texture, shadow, polarization, beam centre)"
    return f"Rings vary smoothly with azimuth by {percent(trend)} {cause}. Not counted as grains."


def _remaining(forecast: Forecast | None) -> str:
    if forecast is None:
        return ""
    if forecast.frames is None:
        return "; not within sight"
    return _about(forecast, "; about {} more")


def _about(forecast: Forecast | None, text: str) -> str:
    """The time that is left with its interval, in frames where nothing is known about time."""
    if forecast is None or forecast.seconds is None:
        return ""
    limits = (forecast.seconds_low, forecast.seconds_high)
    span = "-".join("?" if limit is None else f"{limit:.0f}" for limit in limits)
    return text.format(f"{forecast.seconds:.0f} s ({span} s)")


def _count(estimate: Estimate | None) -> str:
    if estimate is None:
        return "unknown"
    return f"{estimate.value:.0f}" if estimate.value >= 9.5 else f"{estimate.value:.2g}"


def _number(value: float) -> str:
    return percent(value).removesuffix(" %")


def _seconds(value: float | None) -> str:
    if value is None:
        return "recorded"
    return f"{value:.1f} s" if value < 99.5 else f"{value:.0f} s"


_TELLERS: dict[str, Callable[[Decision, Evaluation, StopConfig, Evaluation], str]] = {
    "too_early": _too_early,
    "above_target": _continue,
    "confirming": _confirming,
    "reached": _reached,
    "max_frames": _max_frames,
    "max_time": _max_time,
    "static": _static,
    "few_spots": _few_spots,
    "few_independent": _few_independent,
    "photons": _photons,
    "never": _never,
    "not_measurable": _not_measurable,
    "over": _over,
    "eight_bit": _guard(lambda _: "8-bit frames wrap at 255"),
    "beam_loss": _guard(lambda evaluation: f"beam down since {evaluation.conditions.beam_down_since}"),
    "frames_lost": _guard(lambda evaluation: f"{percent(evaluation.conditions.lost_share)} of frames lost"),
    "saturation": _guard(
        lambda evaluation: f"{evaluation.conditions.saturated_pixels:.0f} pixels a frame are saturated"
    ),
    "energy": _guard(lambda evaluation: evaluation.conditions.mismatch),
    "drift": _guard(lambda evaluation: f"pattern is changing since frame {evaluation.conditions.drift_since}"),
}
