"""A decision in, the sentence for the person at the beamline out: the same on the page, in the log and in the file."""

import math
from collections.abc import Callable

import numpy as np

from ringwatch.config import GROWING_METRICS, StopConfig
from ringwatch.messages import Decision, Forecast, RingTable, Score
from ringwatch.stop.evaluation import Evaluation
from ringwatch.stop.phrases import amount, clause, goal, moment, number, percent, rounded_down, time_left

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


def final_sentence(decision: Decision, score: Score, config: StopConfig) -> str:
    """How good the rule was, after a series that went on, or that went on until it was stopped."""
    value = amount(decision.metric, score.value)
    final = amount(decision.metric, score.final_value)
    if config.via != "none":
        return (
            f"Good enough at frame {score.n_frames}: {value} then, {final} at the end, frame {decision.n_frames} "
            f"(target {goal(decision.metric, decision.target)})."
        )
    return (
        f"The series went on to frame {decision.n_frames}. The rule would have stopped it at frame {score.n_frames}: "
        f"{value} then, {final} at the end (target {goal(decision.metric, decision.target)})."
    )


def _reached(decision: Decision, evaluation: Evaluation, config: StopConfig, reached: Evaluation) -> str:
    return (
        f"Good enough since {moment(reached)}: "
        f"{_state(decision, evaluation, config)} (target {goal(decision.metric, decision.target)}, {_sure(config)}"
        f"{_worst(evaluation.statistics.rings) if decision.metric == 'ring_uncertainty' else ''}). "
        f"{_lost(evaluation)}{_unseen(config)}"
    )


def _state(decision: Decision, evaluation: Evaluation, config: StopConfig) -> str:
    value = amount(decision.metric, decision.value)
    match decision.metric:
        case "ring_uncertainty":
            return f"{_typical(evaluation)} known to {value}"
        case "spots" | "counts":
            return f"{value.removesuffix(' a ring')} or more on {_share(evaluation, config)}"
        case "relative_error":
            return f"the standard error of the profile is {value}"
        case "excess":
            return f"the rings are even to {value}, photon noise taken off"
        case _:
            return f"the rings are even to {value}"


def _share(evaluation: Evaluation, config: StopConfig) -> str:
    n_rings = _n_rings(evaluation)
    if n_rings == 1:
        return "the ring"
    return f"{f'{100 * config.rings_fraction:.0f} % of ' if config.rings_fraction < 1 else ''}the {n_rings} rings"


def _typical(evaluation: Evaluation) -> str:
    """Of the rings it is the median that decides."""
    n_rings = _n_rings(evaluation)
    return "the ring is" if n_rings == 1 else f"the {n_rings} rings are typically"


def _sure(config: StopConfig) -> str:
    return f"{100 * config.confidence:.4g} % sure"


def _n_rings(evaluation: Evaluation) -> int:
    rings = evaluation.statistics.rings
    return 0 if rings is None else len(rings.position)


def _worst(rings: RingTable | None) -> str:
    if rings is None or not np.isfinite(rings.uncertainty).any():
        return ""
    worst = int(np.nanargmax(rings.uncertainty))
    d = rings.d_spacing_A[worst]
    where = f"d = {d:.4g} Å" if math.isfinite(d) else f"at {rings.position[worst]:.4g}"
    return f"; worst ring {where}: {percent(rings.uncertainty[worst])}"


def _unseen(config: StopConfig) -> str:
    """What somebody is told to do is said by the one who tells, once it is done."""
    return " Nothing was stopped: no stop action is configured." if config.via == "none" else ""


def _lost(evaluation: Evaluation) -> str:
    share = evaluation.conditions.lost_share
    return "No frame lost." if share == 0 else f"{percent(share)} of the frames lost."


def _continue(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    return f"Keep measuring: {_values(decision)}{_remaining(decision, evaluation, config)}."


def _confirming(decision: Decision, *_: object) -> str:
    return f"Target met: {_values(decision)}. The next evaluation must confirm it."


def _too_early(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    is_timed = evaluation.elapsed_s is not None and config.min_time_s > 0
    wanted = f"{config.min_frames} frames{f' and {config.min_time_s:g} s' if is_timed else ''}"
    return f"Keep measuring: {_values(decision)}; this is {moment(evaluation)}, no decision before {wanted}."


def _not_measurable(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    if evaluation.statistics.rings is None and decision.metric in {"ring_uncertainty", "spots", "counts"}:
        return "Keep measuring: no ring stands out of the background yet."
    return "Keep measuring: there are not enough counts yet to say how even the rings are."


def _static(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    independent = evaluation.statistics.independent_frames
    worth = f"{evaluation.n_frames} frames count as {rounded_down(independent)}"
    return (
        f"Not stopping: the same grains light up in every frame ({worth}). Is the sample turning? "
        "More exposure will not help."
    )


def _rings_above(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    rings, target = evaluation.statistics.rings, dict(config.criteria).get("ring_uncertainty")
    if rings is None or target is None:
        return _confirming(decision)
    above, known = int((rings.uncertainty_low > target).sum()), int(np.isfinite(rings.uncertainty_low).sum())
    return (
        f"Not stopping yet: {above} of {known} rings {'is' if above == 1 else 'are'} still clearly above "
        f"{goal('ring_uncertainty', target)}{_worst(rings)}."
    )


def _few_spots(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    crystallites = evaluation.statistics.crystallites
    seen = "seen for certain" if crystallites is not None and crystallites.bound == "lower" else "seen"
    number_seen = rounded_down(crystallites)
    return (
        f"Not stopping: only {number_seen} crystallite{'' if number_seen == '1' else 's'} {seen} on these rings "
        f"({config.min_spots:g} needed); a lucky dip is likely."
    )


def _few_independent(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    return (
        f"Not stopping yet: the grains stay for several frames, {evaluation.n_frames} frames count as "
        f"{rounded_down(evaluation.statistics.independent_frames)} ({config.min_independent_frames:g} needed)."
    )


def _photons(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    measurement, n_frames = evaluation.measurements[decision.metric], evaluation.n_frames
    photons = measurement.photons + measurement.left_out
    total = max(measurement.variance + measurement.left_out, photons)
    more = _more(decision.forecast, evaluation)
    if measurement.left_out > 0:  # the forecast is that of the metric, which does without it
        left = (measurement.left_out / decision.target**2 - 1) * n_frames
        more = time_left(left, left, left, evaluation.frames_per_s)
    return (
        f"Not stopping: the rings are even, counts are missing "
        f"(photon noise {number(math.sqrt(photons))} of {percent(math.sqrt(total))})."
        f"{f' About {more} at this flux.' if more else ''}"
    )


def _never(decision: Decision, *_: object) -> str:
    target, now = goal(decision.metric, decision.target), amount(decision.metric, decision.value)
    if decision.metric in GROWING_METRICS:
        target = amount(decision.metric, decision.target)
    settles = decision.forecast.settles_at if decision.forecast else None
    end, accept = "", now
    if settles is not None:
        end = f": settles at {percent(settles.value)} ({number(settles.low)}-{number(settles.high)})"
        accept = percent(settles.value)
    return f"Will not reach {target}{end}. {_NEVER_BECAUSE[_limit(decision)]}; or accept {accept} and go on."


_NEVER_BECAUSE = {
    "grains": _REMEDY,
    "static": _REMEDY,
    "photons": "Counts are missing: expose longer or open the attenuator",
    "trend": "A smooth variation along the rings stays: look for texture, a shadow, polarization, a wrong beam centre",
    "slope": "The profile is steep inside the radial bins: use more bins",
}


def _limit(decision: Decision) -> str:
    return (decision.forecast.limit if decision.forecast else None) or "grains"


def _max_frames(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    limit = f"The limit of {config.max_frames} frames is reached at {moment(evaluation)}"
    return f"{limit}: {_left(decision)}{_unseen(config)}"


def _max_time(decision: Decision, evaluation: Evaluation, config: StopConfig, _: Evaluation) -> str:
    return (
        f"The limit of {config.max_time_s:g} s is reached at {moment(evaluation)}: {_left(decision)}{_unseen(config)}"
    )


def _left(decision: Decision, when: str = "now") -> str:
    return "nothing could be measured." if decision.value is None else f"{_values(decision, when)}."


def _values(decision: Decision, when: str = "now") -> str:
    return f"{amount(decision.metric, decision.value)} {when}, target {goal(decision.metric, decision.target)}"


def _over(decision: Decision, evaluation: Evaluation, *_: object) -> str:
    return f"The series is over after frame {evaluation.n_frames}: {_left(decision, 'at the end')}"


def _guard(what: Callable[[Evaluation], str]) -> Callable[[Decision, Evaluation, StopConfig, Evaluation], str]:
    return lambda decision, evaluation, *_: f"Not stopping by itself: {what(evaluation)}."


def _trend(evaluation: Evaluation) -> str:
    trend = evaluation.statistics.azimuthal_trend
    if trend is None or trend.value < _TREND_WORTH_TELLING:
        return ""
    cause = "(texture, shadow, polarization, beam centre)"
    return f"Rings vary smoothly with azimuth by {percent(trend.value)} {cause}. Not counted as grains."


def _remaining(decision: Decision, evaluation: Evaluation, config: StopConfig) -> str:
    if _is_met(decision):
        return f", but not {_sure(config)} yet"
    if decision.forecast is not None and decision.forecast.frames is None:
        return "; the end is not in sight yet"
    more = _more(decision.forecast, evaluation)
    return f"; about {more}" if more else ""


def _is_met(decision: Decision) -> bool:
    if decision.value is None:
        return False
    if decision.metric in GROWING_METRICS:
        return decision.value >= decision.target
    return decision.value <= decision.target


def _more(forecast: Forecast | None, evaluation: Evaluation) -> str:
    """What is left until the target is expected, with its interval; empty where nothing is, or it is not known."""
    if forecast is None or forecast.frames is None or forecast.frames <= evaluation.n_frames:
        return ""
    frames, low, high = (
        None if limit is None else max(limit - evaluation.n_frames, 0.0)
        for limit in (forecast.frames, forecast.low, forecast.high)
    )
    return time_left(frames or 0.0, low, high, evaluation.frames_per_s)


_TELLERS: dict[str, Callable[[Decision, Evaluation, StopConfig, Evaluation], str]] = {
    "too_early": _too_early,
    "above_target": _continue,
    "confirming": _confirming,
    "reached": _reached,
    "max_frames": _max_frames,
    "max_time": _max_time,
    "static": _static,
    "few_spots": _few_spots,
    "rings_above": _rings_above,
    "few_independent": _few_independent,
    "photons": _photons,
    "never": _never,
    "not_measurable": _not_measurable,
    "over": _over,
    "eight_bit": _guard(lambda _: "8-bit frames wrap at 255"),
    "masked_zeros": _guard(lambda _: "masked pixels come as zeros, and no mask says which"),
    "beam_loss": _guard(lambda evaluation: f"beam down since {evaluation.conditions.beam_down_since}"),
    "frames_lost": _guard(lambda evaluation: f"{percent(evaluation.conditions.lost_share)} of frames lost"),
    "saturation": _guard(
        lambda evaluation: f"{evaluation.conditions.saturated_pixels:.0f} pixels a frame are saturated"
    ),
    "energy": _guard(lambda evaluation: clause(evaluation.conditions.mismatch)),
    "drift": _guard(lambda evaluation: f"pattern is changing since frame {evaluation.conditions.drift_since}"),
}
