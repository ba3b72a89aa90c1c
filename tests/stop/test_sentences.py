"""What a decision says to the person at the beamline: word for word, and never a figure that is not there."""

import re
from typing import Any, get_args

import numpy as np
import pytest
from evaluations import NO_FORECAST, changed, config, decided, estimate, evaluation, measured, rings

from ringwatch.messages import Estimate, Forecast, Metric, Reason, Score
from ringwatch.stop.evaluation import Conditions
from ringwatch.stop.phrases import amount, goal, percent, time_left
from ringwatch.stop.sentences import final_sentence

UNSEEN = "Nothing was stopped: no stop action is configured."
BROKEN = Conditions(
    pixel_bits=8,
    mismatch="The header says photon energy 40000 eV, the PONI 35000 eV: the PONI is used.",
    lost_share=0.041,
    saturated_pixels=12.4,
    beam_down_since="03:02:11",
    drift_since=8120,
)


def soon(frames: float | None, low: float | None, high: float | None, **changes: Any) -> Forecast:
    return changed(NO_FORECAST, frames=frames, low=low, high=high, **changes)


def settled(value: float, low: float, high: float, limit: str = "static") -> Forecast:
    return changed(NO_FORECAST, p_never=0.99, settles_at=Estimate(value, low, high), limit=limit)


STATIC = {"independent_frames": Estimate(3.0, 2.8, 3.2), "repeating_fraction": Estimate(0.9, 0.8, 1.0)}
SAID: list[tuple[Reason, dict[str, Any], str]] = [
    (
        "above_target",
        {"forecast": soon(772, 632, 1032)},
        "Keep measuring: 3.4 % now, target 2 %; about 18 s more (11-31 s).",
    ),
    (
        "above_target",
        {"forecast": soon(772, 632, None)},
        "Keep measuring: 3.4 % now, target 2 %; about 18 s more (at least 11 s).",
    ),
    (
        "above_target",
        {"forecast": soon(None, 632, None)},
        "Keep measuring: 3.4 % now, target 2 %; the end is not in sight yet.",
    ),
    (
        "above_target",
        {"forecast": soon(412, 400, 420)},
        "Keep measuring: 3.4 % now, target 2 %.",
    ),
    (
        "above_target",
        {},
        "Keep measuring: 3.4 % now, target 2 %.",
    ),
    (
        "above_target",
        {"elapsed_s": None, "forecast": soon(772, 632, 1032)},
        "Keep measuring: 3.4 % now, target 2 %; about 360 frames more (220-620 frames).",
    ),
    (
        "above_target",
        {"value": 0.0195},
        "Keep measuring: 1.9 % now, target 2 %, but not 95 % sure yet.",
    ),
    (
        "above_target",
        {"metric": "spots", "target": 50.0, "value": 31.4},
        "Keep measuring: 31 crystallites a ring now, target 50.",
    ),
    (
        "confirming",
        {"value": 0.019},
        "Target met: 1.9 % now, target 2 %. The next evaluation must confirm it.",
    ),
    (
        "too_early",
        {},
        ("Keep measuring: 3.4 % now, target 2 %; this is frame 412 (20.6 s), no decision before 500 frames and 30 s."),
    ),
    (
        "too_early",
        {"elapsed_s": None},
        "Keep measuring: 3.4 % now, target 2 %; this is frame 412, no decision before 500 frames.",
    ),
    (
        "reached",
        {"value": 0.019},
        (
            "Good enough since frame 232 (11.6 s): the rings are even to 1.9 % (target 2 %, 95 % sure). No frame "
            f"lost. {UNSEEN}"
        ),
    ),
    (
        "reached",
        {"value": 0.009, "metric": "ring_uncertainty"},
        (
            "Good enough since frame 232 (11.6 s): the 3 rings are typically known to 0.9 % (target 2 %, 95 % "
            f"sure; worst ring d = 1.568 Å: 1.4 %). No frame lost. {UNSEEN}"
        ),
    ),
    (
        "reached",
        {"value": 61.0, "metric": "spots", "target": 50.0, "conditions": Conditions(lost_share=0.0042)},
        (
            "Good enough since frame 232 (11.6 s): 61 crystallites or more on 80 % of the 3 rings (target 50, 95 "
            f"% sure). 0.42 % of the frames lost. {UNSEEN}"
        ),
    ),
    (
        "max_frames",
        {},
        f"The limit of 400 frames is reached at frame 412 (20.6 s): 3.4 % now, target 2 %. {UNSEEN}",
    ),
    (
        "max_time",
        {},
        f"The limit of 20 s is reached at frame 412 (20.6 s): 3.4 % now, target 2 %. {UNSEEN}",
    ),
    (
        "max_time",
        {"value": None},
        f"The limit of 20 s is reached at frame 412 (20.6 s): nothing could be measured. {UNSEEN}",
    ),
    (
        "static",
        STATIC,
        (
            "Not stopping: the same grains light up in every frame (412 frames count as 3). Is the sample "
            "turning? More exposure will not help."
        ),
    ),
    (
        "few_spots",
        {"crystallites": estimate(23.9)},
        "Not stopping: only 23 crystallites seen on these rings (50 needed); a lucky dip is likely.",
    ),
    (
        "few_spots",
        {"crystallites": Estimate(49.9, 49.9, 49.9, "lower")},
        ("Not stopping: only 49 crystallites seen for certain on these rings (50 needed); a lucky dip is likely."),
    ),
    (
        "few_independent",
        {"independent_frames": estimate(4.96)},
        "Not stopping yet: the grains stay for several frames, 412 frames count as 4.9 (5 needed).",
    ),
    (
        "rings_above",
        {"metric": "ring_uncertainty", "rings": rings(0.01, 0.03, 0.041)},
        "Not stopping yet: 2 of 3 rings are still clearly above 2 %; worst ring d = 1.568 Å: 4.1 %.",
    ),
    (
        "photons",
        {"value": 0.03, "parts": {"photons": 0.75}, "forecast": soon(1212, 1000, 1400)},
        (
            "Not stopping: the rings are even, counts are missing (photon noise 2.6 of 3.0 %). About 40 s more "
            "(30-50 s) at this flux."
        ),
    ),
    (
        "never",
        {"value": 0.04, "forecast": settled(0.035, 0.031, 0.04)},
        (
            "Will not reach 2 %: settles at 3.5 % (3.1-4.0). Oscillate or translate the sample, use a larger "
            "beam, defocus, or grind it; or accept 3.5 % and go on."
        ),
    ),
    (
        "never",
        {"value": 31.0, "metric": "spots", "target": 50.0, "forecast": soon(None, None, None, limit="grains")},
        (
            "Will not reach 50 crystallites a ring. Oscillate or translate the sample, use a larger beam, "
            "defocus, or grind it; or accept 31 crystallites a ring and go on."
        ),
    ),
    (
        "never",
        {"value": 0.04, "forecast": settled(0.035, 0.031, 0.04, "slope")},
        (
            "Will not reach 2 %: settles at 3.5 % (3.1-4.0). The profile is steep inside the radial bins: use "
            "more bins; or accept 3.5 % and go on."
        ),
    ),
    (
        "not_measurable",
        {"value": None},
        "Keep measuring: there are not enough counts yet to say how even the rings are.",
    ),
    (
        "not_measurable",
        {"value": None, "metric": "spots", "target": 50.0, "rings": None},
        "Keep measuring: no ring stands out of the background yet.",
    ),
    (
        "over",
        {},
        "The series is over after frame 412: 3.4 % at the end, target 2 %.",
    ),
    (
        "over",
        {"value": None},
        "The series is over after frame 412: nothing could be measured.",
    ),
    (
        "above_target",
        {"azimuthal_trend": Estimate(0.11, 0.1, 0.12)},
        (
            "Keep measuring: 3.4 % now, target 2 %. Rings vary smoothly with azimuth by 11 % (texture, shadow, "
            "polarization, beam centre). Not counted as grains."
        ),
    ),
    (
        "eight_bit",
        {"conditions": BROKEN},
        "Not stopping by itself: 8-bit frames wrap at 255.",
    ),
    (
        "masked_zeros",
        {"conditions": BROKEN},
        "Not stopping by itself: masked pixels come as zeros, and no mask says which.",
    ),
    (
        "frames_lost",
        {"conditions": BROKEN},
        "Not stopping by itself: 4.1 % of frames lost.",
    ),
    (
        "beam_loss",
        {"conditions": BROKEN},
        "Not stopping by itself: beam down since 03:02:11.",
    ),
    (
        "drift",
        {"conditions": BROKEN},
        "Not stopping by itself: pattern is changing since frame 8120.",
    ),
    (
        "saturation",
        {"conditions": BROKEN},
        "Not stopping by itself: 12 pixels a frame are saturated.",
    ),
    (
        "energy",
        {"conditions": BROKEN},
        "Not stopping by itself: the header says photon energy 40000 eV, the PONI 35000 eV: the PONI is used.",
    ),
]


@pytest.mark.parametrize(
    ("reason", "changes", "said"), SAID, ids=[f"{reason}{i}" for i, (reason, *_) in enumerate(SAID)]
)
def test_word_for_word(reason: Reason, changes: dict[str, Any], said: str) -> None:
    assert decided(reason, **changes).sentence == said


def test_every_reason_is_said() -> None:
    assert {reason for reason, *_ in SAID} == set(get_args(Reason))


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("reason", get_args(Reason))
def test_of_every_metric_every_reason_says_only_figures_that_exist(reason: Reason, metric: Metric) -> None:
    known: dict[str, Any] = {"metric": metric, "conditions": BROKEN, **STATIC}
    if metric in {"spots", "counts"}:
        known |= {"value": 31.0, "target": 50.0}
    unknown = {"independent_frames": None, "crystallites": None, "repeating_fraction": None, "azimuthal_trend": None}
    for changes in (known, known | unknown, known | {"elapsed_s": None, "forecast": soon(None, 632, None)}):
        said = decided(reason, **changes).sentence
        assert said.endswith(".")
        assert not re.search(r"nan|None|\binf|\.\.|  |e[+-]\d|-0(\.0*)? ", said), said


def test_rings_of_which_nothing_is_known_are_not_the_worst() -> None:
    table = rings(0.01, 0.012, 0.014)
    known = changed(table, uncertainty=np.array([0.01, np.nan, np.nan]))
    said = decided("reached", metric="ring_uncertainty", value=0.01, rings=known).sentence
    assert "worst ring d = 3.136 Å: 1.0 %" in said
    nothing = changed(table, uncertainty=np.full(3, np.nan))
    assert "worst" not in decided("reached", metric="ring_uncertainty", value=0.01, rings=nothing).sentence


def test_a_ring_without_a_d_spacing_is_told_by_its_place() -> None:
    table = changed(rings(0.01, 0.012), d_spacing_A=np.full(2, np.nan))
    assert "worst ring at 6: 1.2 %" in decided("reached", metric="ring_uncertainty", rings=table).sentence


def test_one_ring_is_no_share_of_the_rings() -> None:
    one: dict[str, Any] = {"metric": "spots", "target": 50.0, "value": 61.0, "rings": rings(0.01)}
    assert "61 crystallites or more on the ring (" in decided("reached", **one).sentence
    one = {"metric": "ring_uncertainty", "value": 0.01, "rings": rings(0.01)}
    assert "the ring is known to 1.0 % (" in decided("reached", **one).sentence


def test_an_excess_says_how_long_its_photons_take_and_not_when_it_is_reached() -> None:
    excess = changed(measured("excess", 0.01), left_out=6e-4)
    said = decided("photons", metric="excess", value=0.01, measurement=excess, forecast=soon(100, 90, 110)).sentence
    assert said == (
        "Not stopping: the rings are even, counts are missing (photon noise 2.4 of 2.6 %). "
        "About 11 s more at this flux."
    )  # 412 frames in 20.6 s, of 618


def test_less_scatter_than_photons_make_is_no_negative_excess() -> None:
    assert "0 % now" in decided("confirming", metric="excess", value=-0.0123).sentence


def test_how_good_the_rule_was() -> None:
    decision = decided("over")
    assert final_sentence(decision, Score(232, 0.0194, 0.0142), config()) == (
        "The series went on to frame 412. The rule would have stopped it at frame 232: 1.9 % then, 1.4 % at the end "
        "(target 2 %)."
    )
    told = config(via="simplon", url="http://10.1.2.3")
    assert final_sentence(decision, Score(232, 0.0194, 0.0142), told) == (
        "Good enough at frame 232: 1.9 % then, 1.4 % at the end, frame 412 (target 2 %)."
    )


@pytest.mark.parametrize("reason", ["reached", "max_frames", "max_time"])
def test_where_somebody_is_told_nobody_says_that_nothing_was_stopped(reason: Reason) -> None:
    assert UNSEEN in decided(reason).sentence
    assert "stopped" not in decided(reason, told={"via": "simplon", "url": "http://10.1.2.3"}).sentence


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0 %"),
        (0.00042, "0.042 %"),
        (0.00994, "0.99 %"),
        (0.00996, "1.0 %"),
        (0.0994, "9.9 %"),
        (0.0996, "10 %"),
        (1.5, "150 %"),
    ],
)
def test_percentages_have_two_digits(value: float, said: str) -> None:
    assert percent(value) == said


def test_targets_are_said_as_they_were_configured() -> None:
    assert [goal("excess", target) for target in (0.02, 0.015, 0.07, 0.333)] == ["2 %", "1.5 %", "7 %", "33.3 %"]
    assert [goal("counts", target) for target in (50.0, 1.5, 1e6)] == ["50", "1.5", "1000000"]
    assert amount("counts", 1234567.0) == "1230000 counts a ring"
    assert amount("excess", None) == amount("excess", float("nan")) == "unknown"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((3.2, 0.0, 9.0), "4 s more (0-9 s)"),
        ((99.0, 80.0, 700.0), "99 s more (80-700 s)"),
        ((100.0, 80.0, 700.0), "1.7 min more (1.3-12 min)"),
        ((6000.0, 3000.0, None), "1.7 h more (at least 0.8 h)"),
        ((12.0, 12.0, 12.0), "12 s more"),
    ],
)
def test_time_is_told_in_the_unit_of_its_size(seconds: tuple[float, float, float | None], said: str) -> None:
    frames, low, high = (None if second is None else 20 * second for second in seconds)
    assert frames is not None
    assert time_left(frames, low, high, 20.0) == said


def test_one_frame_is_no_frames() -> None:
    assert time_left(0.3, 0.3, 0.3, None) == "1 frame more"
    assert time_left(0.3, 0.2, 1.3, None) == "1 frame more (1-2 frames)"


def test_an_evaluation_that_reached_nothing_is_the_one_it_is_good_since() -> None:
    assert decided("reached", reached=None).sentence.startswith("Good enough since frame 412 (20.6 s)")
    assert decided("reached", reached=evaluation(100, {}, elapsed_s=140.4)).sentence.startswith(
        "Good enough since frame 100 (140 s)"
    )
