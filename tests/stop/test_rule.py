"""The rule on evaluations made by hand: what it takes to stop, what forbids it, and what it says in the end."""

from typing import Any

import pytest
from evaluations import Series, changed, config, estimate, evaluation, measured, rings

from ringwatch.messages import Estimate, Metric, Reason
from ringwatch.stop.evaluation import Conditions
from ringwatch.stop.rule import StopRule

BELOW, ABOVE = 0.018, 0.03
"""A value that meets the target of 2 %, and one that does not."""

SAME = Estimate(0.9, 0.8, 1.0)
"""What the halves of the frames have in common if most grains stay."""


# ------------------------------------------------------------------------------------------------- the state machine


def test_two_evaluations_in_a_row_stop_and_one_arms() -> None:
    series = Series()
    first, second = series.at(BELOW), series.at(BELOW)
    assert (first.action, first.reason_code, first.armed) == ("continue", "confirming", True)
    assert (second.action, second.reason_code, second.armed) == ("stop", "reached", False)


def test_two_that_are_not_in_a_row_do_not_stop() -> None:
    series = Series()
    assert series.reasons(BELOW, ABOVE, BELOW, ABOVE) == ["confirming", "above_target"] * 2
    assert series.reasons(BELOW, None, BELOW) == ["confirming", "not_measurable", "confirming"]


def test_an_evaluation_says_what_was_measured() -> None:
    decision = Series().at(BELOW, 0.05)
    found = estimate(BELOW, 0.05)
    assert (decision.metric, decision.target, decision.n_frames) == ("spottiness_rings", 0.02, 32)
    assert (decision.value, decision.low, decision.high) == (found.value, found.low, found.high)


@pytest.mark.parametrize(("confidence", "met"), [(0.6, True), (0.9, True), (0.95, False), (0.99, False)])
def test_the_confidence_limit_must_meet_the_target_and_not_only_the_value(confidence: float, met: bool) -> None:
    error = 0.07  # the value is 10.5 % = 1.5 errors below the target
    assert Series(confidence=confidence).at(BELOW, error).armed == met


def test_a_target_of_many_that_are_measured_is_met_on_the_target_itself() -> None:
    assert Series().at(0.0199).armed
    assert not Series().at(0.0201).armed


def test_the_target_does_not_decide_before_enough_frames() -> None:
    series = Series(min_frames=36)
    assert series.reasons(BELOW, BELOW, BELOW) == ["too_early", "too_early", "reached"]


def test_the_target_does_not_decide_before_enough_time() -> None:
    series = Series(min_time_s=2.0)
    at = [series.at(BELOW, elapsed_s=seconds).reason_code for seconds in (0.5, 1.9, 2.0)]
    assert at == ["too_early", "too_early", "reached"]


def test_limits_in_seconds_do_not_apply_to_recorded_frames() -> None:
    series = Series(min_time_s=100.0, max_time_s=200.0)
    assert series.reasons(BELOW, BELOW, elapsed_s=None) == ["confirming", "reached"]


def test_good_enough_holds_until_the_metric_is_clearly_worse() -> None:
    series = Series(rearm=1.15)
    assert series.reasons(BELOW, BELOW, 0.0205, 0.0229) == ["confirming", "reached", "reached", "reached"]
    assert series.reasons(0.0231, BELOW, BELOW) == ["above_target", "confirming", "reached"]


def test_good_enough_since_the_first_frame_it_was_so_again() -> None:
    series = Series()
    series.reasons(BELOW, BELOW)
    assert "since frame 34 " in series.at(BELOW).sentence
    series.reasons(ABOVE, BELOW, BELOW)
    assert "since frame 42 " in series.at(BELOW).sentence


def test_good_enough_since_the_evidence_was_enough_not_since_the_target_was_met() -> None:
    series = Series()
    assert series.reasons(BELOW, BELOW, BELOW, crystallites=estimate(20.0))[-1] == "few_spots"
    assert "since frame 38 " in series.at(BELOW).sentence


# --------------------------------------------------------------------------------------------- metrics of other kinds


@pytest.mark.parametrize(("metric", "target"), [("spots", 50.0), ("counts", 1e4)])
def test_metrics_that_grow_meet_their_target_from_below(metric: Metric, target: float) -> None:
    series = Series(metric=metric, target=target)
    assert series.reasons(0.9 * target, 1.1 * target, 1.2 * target)[1:] == ["confirming", "reached"]
    assert series.reasons(0.9 * target) == ["reached"]
    assert series.reasons(target / 1.16)[0] != "reached"


def test_the_lower_limit_of_a_growing_metric_must_meet_the_target() -> None:
    assert Series(metric="spots", target=50.0).at(55.0, 0.05).armed
    assert not Series(metric="spots", target=50.0).at(55.0, 0.07).armed


@pytest.mark.parametrize(("spots", "met"), [(49.0, False), (51.0, True)])
def test_at_least_so_many_is_enough_if_that_is_enough(spots: float, met: bool) -> None:
    bound = changed(measured("spots", spots), estimate=Estimate(spots, spots, spots, "lower"))
    assert Series(metric="spots", target=50.0).see({"spots": bound}).armed == met


def test_a_count_that_may_be_nothing_meets_no_target() -> None:
    unsure = changed(measured("counts", 300.0), estimate=Estimate(300.0, 0.0, 1200.0), replicates=None)
    assert not Series(metric="counts", target=100.0).see({"counts": unsure}).armed


@pytest.mark.parametrize(
    ("confidence", "target", "met"),
    [(0.95, 0.0199, False), (0.95, 0.0201, True), (0.99, 0.0201, False), (0.6, 0.0199, True)],
)
def test_where_the_interval_holds_zero_its_upper_end_decides(confidence: float, target: float, met: bool) -> None:
    excess = changed(measured("excess", 0.005), estimate=Estimate(0.005, -0.01, 0.02))
    series = Series(metric="excess", target=target, confidence=confidence)
    assert series.see({"excess": excess}).armed == met


def test_less_scatter_than_photons_make_is_an_excess_below_any_target() -> None:
    excess = changed(measured("excess", 0.01), estimate=Estimate(-0.01, -0.02, -0.005), variance=-1e-4)
    series = Series(metric="excess")
    assert [series.see({"excess": excess}).reason_code for _ in range(2)] == ["confirming", "reached"]


def both(even: float, known: float, error: float = 1e-4) -> dict[Metric, Any]:
    return {
        "spottiness_rings": measured("spottiness_rings", even, error),
        "ring_uncertainty": measured("ring_uncertainty", known),
    }


TWO = {"metric": ("spottiness_rings", "ring_uncertainty"), "target": (0.02, 0.01)}


def test_all_of_several_must_meet_their_targets() -> None:
    series = Series(**TWO, rings_fraction=0.01)
    decisions = [series.see(both(BELOW, known)) for known in (0.02, 0.015, 0.009, 0.008)]
    assert [decision.reason_code for decision in decisions[1:]] == ["above_target", "confirming", "reached"]
    assert (decisions[1].metric, decisions[1].target, decisions[1].value) == ("ring_uncertainty", 0.01, 0.015)
    assert decisions[3].metric == "spottiness_rings"  # nearer to its target, but both are met


def test_any_of_several_is_enough() -> None:
    series = Series(**TWO, combine="any")
    decisions = [series.see(both(BELOW, 0.05)) for _ in range(2)]
    assert [decision.reason_code for decision in decisions] == ["confirming", "reached"]
    assert decisions[1].metric == "spottiness_rings"


@pytest.mark.parametrize(("combine", "action"), [("all", "continue"), ("any", "stop")])
def test_what_is_not_sure_does_not_decide_for_what_is(combine: str, action: str) -> None:
    series = Series(**TWO, combine=combine, rings_fraction=0.01)
    series.see(both(0.012, 0.009, error=0.5))  # the first is nearer to its target, but hardly known
    decision = series.see(both(0.012, 0.009, error=0.5))
    assert decision.action == action
    assert decision.metric == ("spottiness_rings" if combine == "all" else "ring_uncertainty")


def test_what_cannot_be_measured_is_missing_from_all_but_not_from_any() -> None:
    even: dict[Metric, Any] = {"spottiness_rings": measured("spottiness_rings", BELOW)}
    decision = Series(**TWO).see(even)
    assert (decision.reason_code, decision.value, decision.forecast) == ("not_measurable", None, None)
    series = Series(**TWO, combine="any")
    assert [series.see(even).reason_code for _ in range(2)] == ["confirming", "reached"]


# ------------------------------------------------------------------------------------------------------------- guards

GUARDS: dict[Reason, Conditions] = {
    "beam_loss": Conditions(beam_down_since="03:02:00"),
    "energy": Conditions(mismatch="The header says photon energy 40000 eV, the PONI 35000 eV: the PONI is used."),
    "eight_bit": Conditions(pixel_bits=8),
    "masked_zeros": Conditions(masked_zeros=True),
    "frames_lost": Conditions(lost_share=0.011),
    "saturation": Conditions(saturated_pixels=11.0),
    "drift": Conditions(drift_since=8120),
}


@pytest.mark.parametrize("reason", GUARDS)
def test_a_broken_condition_forbids_to_stop_and_says_which(reason: Reason) -> None:
    series = Series()
    decisions = [series.at(BELOW, conditions=GUARDS[reason]) for _ in range(3)]
    assert {decision.reason_code for decision in decisions} == {reason}
    assert {decision.action for decision in decisions} == {"continue"}
    assert series.at(BELOW).reason_code == "reached"


def test_the_worst_of_several_broken_conditions_is_told() -> None:
    names = list(GUARDS)
    merged: dict[str, Any] = {}
    for reason in reversed(names):
        defaults, broken = Conditions(), GUARDS[reason]
        merged |= {
            key: getattr(broken, key)
            for key in Conditions.__slots__
            if getattr(broken, key) != getattr(defaults, key)
        }  # fmt: skip
        assert Series().at(BELOW, conditions=Conditions(**merged)).reason_code == reason


def test_a_little_of_what_forbids_is_let_pass() -> None:
    conditions = Conditions(pixel_bits=16, lost_share=0.01, saturated_pixels=10.0)
    assert Series().at(BELOW, conditions=conditions).reason_code == "confirming"


@pytest.mark.parametrize(
    "conditions", [Conditions(), Conditions(beam_down_since="03:02:00")], ids=["well", "beam down"]
)
def test_the_limits_stop_in_any_case(conditions: Conditions) -> None:
    series = Series(max_frames=34, max_time_s=10.0)
    decisions = [
        series.at(ABOVE, conditions=conditions, n_frames=n, elapsed_s=s) for n, s in ((33, 9.9), (34, 9.9), (33, 10.0))
    ]
    assert [decision.action for decision in decisions] == ["continue", "stop", "stop"]
    assert [decision.reason_code for decision in decisions[1:]] == ["max_frames", "max_time"]
    assert series.at(None, conditions=conditions, n_frames=40).action == "stop"


def test_the_limits_are_looked_at_when_they_are_due() -> None:
    assert Series(max_frames=5).rule.next_frames == 5
    by_frames, by_time = Series(max_frames=34), Series(max_time_s=1.8)
    by_frames.at(ABOVE)
    assert by_frames.rule.next_frames == 34
    by_time.at(ABOVE, elapsed_s=1.6)
    assert by_time.rule.next_frames == 36
    by_time.at(ABOVE, n_frames=36, elapsed_s=1.8)
    assert by_time.rule.next_frames > 37


STATIC: dict[str, Any] = {"independent_frames": estimate(1.1, 0.02), "repeating_fraction": SAME}


def test_a_frozen_sample_does_not_stop_unless_that_is_allowed() -> None:
    decisions = [Series().at(BELOW, **STATIC), Series(allow_static=True).at(BELOW, **STATIC)]
    assert [decision.reason_code for decision in decisions] == ["static", "confirming"]
    series = Series(allow_static=True)
    assert series.reasons(BELOW, BELOW, **STATIC) == ["confirming", "reached"]


@pytest.mark.parametrize(
    "changes",
    [
        {"independent_frames": estimate(6.0, 0.02)},
        {"repeating_fraction": Estimate(0.3, 0.1, 0.5)},
        {"repeating_fraction": None},
        {"independent_frames": None},
        {"n_frames": 31},
    ],
)
def test_grains_that_only_stay_for_some_frames_are_not_called_frozen(changes: dict[str, Any]) -> None:
    assert Series().at(ABOVE, **(STATIC | changes)).reason_code != "static"


def test_too_few_crystallites_are_a_lucky_dip() -> None:
    few, enough = estimate(49.0), estimate(51.0)
    assert Series().reasons(BELOW, BELOW, crystallites=few) == ["confirming", "few_spots"]
    assert Series().reasons(BELOW, BELOW, crystallites=enough) == ["confirming", "reached"]
    assert Series(min_spots=10.0).reasons(BELOW, BELOW, crystallites=few) == ["confirming", "reached"]


def test_too_few_independent_frames_are_not_enough() -> None:
    few: dict[str, Any] = {"independent_frames": estimate(4.9, 0.2), "crystallites": estimate(20.0)}
    assert Series().reasons(BELOW, BELOW, **few) == ["confirming", "few_independent"]
    assert Series(min_independent_frames=4.0).reasons(BELOW, BELOW, **few) == ["confirming", "few_spots"]


def test_too_many_rings_may_be_above_the_target_of_their_median() -> None:
    keys = {"metric": "ring_uncertainty", "rings_fraction": 0.5}
    for table, reason in ((rings(0.01, 0.02, 0.03), "reached"), (rings(0.01, 0.03, 0.03), "rings_above")):
        assert Series(**keys).reasons(BELOW, BELOW, rings=table) == ["confirming", reason]


# ------------------------------------------------------------------------------------------------- photons, and never


def test_rings_that_only_lack_counts_are_told_apart() -> None:
    assert Series().at(ABOVE, parts={"photons": 0.4}).reason_code == "above_target"
    assert Series().at(ABOVE, parts={"photons": 0.6}).reason_code == "photons"


def test_an_excess_is_not_enough_while_photons_alone_are_above_its_target() -> None:
    noisy, clear = (changed(measured("excess", 0.01), left_out=photons) for photons in (5e-4, 3e-4))
    for excess, reason in ((noisy, "photons"), (clear, "reached")):
        series = Series(metric="excess")
        assert [series.see({"excess": excess}).reason_code for _ in range(2)] == ["confirming", reason]


def test_photons_that_an_excess_leaves_out_are_no_part_of_it() -> None:
    series = Series(metric="excess")
    for n in (16, 23, 32, 45):
        excess = changed(measured("excess", 0.2 / n**0.5), left_out=0.02 / n)
        decision = series.see({"excess": excess}, n_frames=n)
    assert decision.reason_code == "above_target"
    assert decision.forecast is not None
    assert decision.forecast.frames == pytest.approx(100, rel=0.02)


def settling(**keys: Any) -> Series:
    return Series(min_independent_frames=1.0, **keys)


def settle(series: Series, *frames: int, static: float = 0.3, **changes: Any) -> list[str]:
    """Rings whose grains stay to a third, or whose photons are missing."""
    statistics: dict[str, Any] = {"repeating_fraction": Estimate(0.3, 0.25, 0.35)} | changes
    values = [(n, 0.1 * (static + (1 - static) / n) ** 0.5) for n in frames]
    return [series.at(value, n_frames=n, **statistics).reason_code for n, value in values]


LOOKS = (8, 11, 16, 22, 31, 32, 45, 64)


def test_never_is_said_at_the_second_evaluation_with_all_the_evidence() -> None:
    assert settle(settling(), *LOOKS) == ["above_target"] * 6 + ["never"] * 2


def test_never_is_not_said_without_what_repeats() -> None:
    for repeating in (None, Estimate(0.3, -0.1, 0.7), Estimate(0.05, 0.03, 0.07)):
        assert "never" not in settle(settling(), *LOOKS, repeating_fraction=repeating)


def test_never_is_not_said_of_grains_that_move() -> None:
    assert "never" not in settle(settling(), *LOOKS, 90, static=0.0)


@pytest.mark.parametrize("cause", ["trend", "slope"])
def test_never_may_rest_on_what_is_no_grain_at_all(cause: str) -> None:
    series, statistics = settling(), {"repeating_fraction": None}
    reasons = []
    for n in LOOKS:
        value = 0.1 * (0.3 + 0.7 / n) ** 0.5
        decision = series.at(value, n_frames=n, parts={cause: 0.8}, **statistics)
        reasons.append(decision.reason_code)
    assert reasons[-2:] == ["never"] * 2
    assert decision.forecast is not None
    assert decision.forecast.limit == cause


@pytest.mark.parametrize(("on_never", "action"), [("continue", "continue"), ("stop", "stop")])
def test_what_to_do_about_never_is_for_the_configuration(on_never: str, action: str) -> None:
    series = settling(on_never=on_never)
    settle(series, *LOOKS)
    decision = series.at(0.055, n_frames=90, repeating_fraction=Estimate(0.3, 0.25, 0.35))
    assert (decision.reason_code, decision.action) == ("never", action)


def test_where_it_settles_is_forecast() -> None:
    series = settling()
    settle(series, *LOOKS)
    forecast = series.at(0.1 * (0.3 + 0.7 / 90) ** 0.5, n_frames=90).forecast
    assert forecast is not None
    assert forecast.p_never > 0.95
    assert (forecast.frames, forecast.seconds) == (None, None)
    assert forecast.settles_at is not None
    assert forecast.settles_at.value == pytest.approx(0.1 * 0.3**0.5, rel=0.03)


# ----------------------------------------------------------------------------------------------- forecast and the end


def test_the_time_left_is_that_at_the_present_rate() -> None:
    series = Series()
    for n in (16, 23, 32):
        forecast = series.at(0.2 / n**0.5, n_frames=n).forecast
    assert forecast is not None
    assert forecast.frames == pytest.approx(100, rel=0.02)
    assert forecast.seconds == pytest.approx((100 - 32) / 20, rel=0.05)
    assert forecast.seconds_low is not None
    assert forecast.seconds_high is not None
    assert forecast.seconds_low < 68 / 20 < forecast.seconds_high


def test_recorded_frames_have_a_forecast_without_seconds() -> None:
    series = Series()
    for n in (16, 23, 32):
        forecast = series.at(0.2 / n**0.5, n_frames=n, elapsed_s=None).forecast
    assert forecast is not None
    assert forecast.frames == pytest.approx(100, rel=0.02)
    assert (forecast.seconds, forecast.seconds_low, forecast.seconds_high) == (None, None, None)


def test_a_plain_count_is_forecast_without_a_model() -> None:
    forecast = (
        Series(metric="counts", target=1e4)
        .see({"counts": changed(measured("counts", 2500.0), replicates=None)})
        .forecast
    )
    assert forecast is not None
    assert forecast.frames == pytest.approx(4 * 32)


def last(series: Series, value: float, n_frames: int) -> Any:
    metric = series.config.criteria[0][0]
    return series.rule.finish(evaluation(n_frames, {metric: measured(metric, value)}))


def test_the_end_of_a_series_that_went_on_tells_how_good_the_rule_was() -> None:
    series = Series()
    series.reasons(BELOW, BELOW, 0.0185)
    decision = last(series, 0.011, 100)
    assert (decision.reason_code, decision.action, decision.value) == ("over", "continue", 0.011)
    assert decision.score is not None
    assert (decision.score.n_frames, decision.score.value, decision.score.final_value) == (34, BELOW, 0.011)


def test_the_end_of_a_series_that_stopped_there_or_never_tells_no_score() -> None:
    stopped, unmet = Series(), Series()
    stopped.reasons(BELOW, BELOW)
    unmet.reasons(ABOVE, ABOVE)
    assert last(stopped, BELOW, 34).score is None
    assert last(unmet, ABOVE, 100).score is None
    assert StopRule(config()).finish(evaluation(3, {})).reason_code == "over"


def test_the_score_compares_one_metric_with_itself() -> None:
    series = Series(**TWO, combine="any")
    for _ in range(2):
        series.see(both(BELOW, 0.05))
    series.see(both(0.017, 0.0001))
    decision = series.rule.finish(evaluation(100, both(0.012, 0.0001)))
    assert decision.score is not None
    assert (decision.metric, decision.score.value, decision.score.final_value) == ("spottiness_rings", BELOW, 0.012)
