from dataclasses import replace

import pytest

from ringwatch.publish.board import Board


@pytest.fixture
def board(clock):
    return Board(clock)


def test_an_empty_board_waits(board):
    facts = board.latest()
    assert facts["word"] == "WAITING"
    assert facts["state"] == "waiting"
    assert facts["series"] is None
    assert facts["frame"] == 0
    assert facts["age_s"] is None
    assert board.changes(0) == ([], 0)


def test_the_facts_are_flat_and_those_of_the_newest_results(board, results):
    for result in (results.event(), results.rows(), results.snapshot(412), results.status()):
        board.update(result)
    facts = board.latest()
    assert not [name for name, value in facts.items() if isinstance(value, dict | list)]
    expected = {
        "word": "MEASURING",
        "measure": "spottiness_rings",
        "series": 17,
        "sample": "LaB6",
        "frame": 412,
        "frames_expected": 500,
        "accumulated_spottiness": 0.034,
        "accumulated_spottiness_rings": 0.021,
        "averaged_spottiness_weighted": 0.061,
        "union_spottiness": 0.163,
        "frame_spottiness": pytest.approx(0.252),
        "spottiness_class": "smooth",
        "received": 430,
        "malformed": 6,
        "malformed_reasons": "truncated 5, shape 1",
        "missing": 9,
        "detector_dropped": None,
        "state": "measuring",
        "fps": 200.0,
        "age_s": 0.0,
    }
    assert {name: facts[name] for name in expected} == expected
    assert "uneven by 2.1 %" in facts["sentence"]


def test_of_single_frames_only_these_are_told(board, results):
    for result in (results.event(), results.rows(), results.snapshot(union=None, accumulated=None, window="none")):
        board.update(result)
    facts = board.latest()
    assert (facts["frame"], facts["frame_spottiness"]) == (412, pytest.approx(0.252))
    assert not [name for name in facts if name.startswith(("union_", "accumulated_spottiness"))]
    assert facts["spottiness_class"] is None
    assert board.curves("spottiness")["union"] == ([], [])


def test_without_well_measured_bins_pyfais_measure_is_said(board, results):
    board.update(results.event())
    board.update(results.rows())
    assert board.latest()["measure"] == "spottiness"


def test_the_age_is_that_of_the_data_not_of_the_status(board, results, clock):
    board.update(results.event())
    board.update(results.rows())
    clock.advance(3)
    board.update(results.status())
    assert board.latest()["age_s"] == 3
    assert board.latest()["status_age_s"] == 0


def test_a_decision_and_the_statistics_are_flat_facts(board, results):
    for result in (results.event(), results.measured(412), results.decision(412)):
        board.update(result)
    facts = board.latest()
    assert not [name for name, value in facts.items() if isinstance(value, dict | list)]
    expected = {
        "word": "MEASURING",
        "sentence": results.decision().sentence,
        "measure": "ring_uncertainty",
        "action": "continue",
        "reason_code": "above_target",
        "metric": "ring_uncertainty",
        "value": 0.034,
        "low": 0.030,
        "high": 0.039,
        "target": 0.02,
        "armed": False,
        "forecast_frames": 1190.0,
        "forecast_low": 870.0,
        "forecast_high": None,
        "forecast_seconds": 18.0,
        "forecast_seconds_low": 11.0,
        "forecast_p_never": 0.04,
        "forecast_settles_at": 0.011,
        "forecast_settles_at_high": 0.015,
        "forecast_limit": "grains",
        "score_n_frames": None,
        "statistics_n_frames": 412,
        "ring_uncertainty": 0.034,
        "ring_uncertainty_low": 0.030,
        "spots": 50.0,
        "spots_bound": "lower",
        "relative_error": None,
        "independent_frames": 58.0,
        "independent_frames_high": 80.0,
        "repeating_fraction": None,
        "azimuthal_trend": 0.11,
        "photon_share": 0.75,
        "crystallites": 430.0,
    }
    assert {name: facts[name] for name in expected} == expected


def test_without_a_decision_its_facts_are_there_and_empty(board, results):
    board.update(results.event())
    board.update(results.snapshot(accumulated=None))
    facts = board.latest()
    assert {facts[name] for name in ("action", "metric", "value", "target", "forecast_seconds", "spots")} == {None}
    assert facts["statistics_n_frames"] == 0


def test_a_stop_is_a_fact_of_its_own_series_only(board, results, other_results):
    for result in (results.event(), results.stop("asked", "Asked.")):
        board.update(result)
    facts = board.latest()
    assert (facts["stop_via"], facts["stop_state"], facts["stop_sentence"]) == ("simplon", "asked", "Asked.")
    assert facts["sentence"].endswith(" Asked.")
    (message,) = [one for one in board.changes(0)[0] if one["type"] == "stop"]
    assert message["state"] == "asked"
    board.update(other_results.event())
    board.update(results.stop("failed", "Please stop the scan."))
    facts = board.latest()
    assert facts["stop_state"] is None
    assert facts["word"] == "MEASURING"


def test_a_new_series_wipes_the_decision_of_the_one_before(board, results, other_results):
    for result in (results.event(), results.measured(), results.decision(), other_results.event()):
        board.update(result)
    facts = board.latest()
    assert facts["word"] == "MEASURING"
    assert facts["action"] is None
    assert facts["independent_frames"] is None


def test_a_new_series_wipes_the_numbers_of_the_one_before(board, results, other_results):
    for result in (results.event(), results.rows(), results.snapshot(), other_results.event()):
        board.update(result)
    facts = board.latest()
    assert facts["series"] == 18
    assert facts["frame"] == 0
    assert "accumulated_spottiness" not in facts
    assert facts["age_s"] is None


def test_what_the_start_warned_of_stays_until_the_next_series(board, results, other_results):
    for event in (results.event("joined", "header says 40 keV, PONI 35 keV"), results.event("ready")):
        board.update(event)
    assert board.latest()["warning"] == "The start of the series was missed. header says 40 keV, PONI 35 keV"
    board.update(other_results.event())
    assert board.latest()["warning"] == ""


def test_profiles_that_mean_little_say_so_until_they_mean_more(board, results, other_results):
    board.update(results.event())
    assert board.latest()["profile_warning"] == ""
    for kind, why in (("quantile", "few counts"), ("sigma_clip", None)):
        board.update(replace(results.profile(kind, "accumulated"), warning=why))
    assert board.latest()["profile_warning"] == "Profile quantile: few counts."
    board.update(results.profile("quantile", "accumulated"))
    assert board.latest()["profile_warning"] == ""
    board.update(replace(results.profile("quantile", "accumulated"), warning="few counts"))
    board.update(other_results.event())
    assert board.latest()["profile_warning"] == ""


def test_an_ended_series_keeps_its_numbers(board, results):
    for result in (results.event(), results.snapshot(412), results.event("end", "end"), results.status("waiting")):
        board.update(result)
    assert board.latest()["word"] == "DONE"
    assert board.latest()["frame"] == 412


def test_changes_give_the_newest_message_of_each_topic_once(board, results):
    board.update(results.event())
    board.update(results.snapshot(1))
    board.update(results.snapshot(2))
    messages, seen = board.changes(0)
    assert [(m["type"], m["seq"]) for m in messages] == [("series", 1), ("snapshot", 2)]
    assert board.changes(seen) == ([], seen)
    board.update(results.rows())
    messages, _ = board.changes(seen)
    assert [m["type"] for m in messages] == ["frames"]
    board.update(results.decision())
    assert [m["type"] for m in board.changes(seen)[0]] == ["frames", "decision"]


def test_changes_tell_of_the_rings_but_not_of_each_radial_bin(board, results):
    board.update(results.measured())
    (message,), _ = board.changes(0)
    statistics = message["accumulated"]["statistics"]
    assert statistics["rings"]["position"].tolist() == [1.25, 2.5]
    assert "bin_spottiness" not in statistics


def test_profiles_and_final_sums_are_not_shown(board, results):
    board.update(results.profile())
    board.update(results.result())
    assert board.changes(0) == ([], 0)


def test_fates_add_up_over_series(board, results, other_results):
    for result in (results.event(), results.snapshot(412), other_results.event(), other_results.snapshot(3)):
        board.update(result)
    total = board.total_fates()
    assert total["received"] == 860
    assert total["reduced"] == 415
    assert total["malformed"] == 12


def test_what_was_decided_before_a_reset_is_forgotten(board, results):
    for result in (results.event(), results.rows(), results.snapshot(412), results.decision(reason_code="reached")):
        board.update(result)
    board.update(results.event("ready"))
    assert board.latest()["action"] == "stop"
    anew = type(results)(generation=2)
    board.update(anew.event("ready", "reset"))
    facts = board.latest()
    assert (facts["action"], facts["generation"], board.decision) == (None, 2, None)
    assert board.total_fates()["reduced"] == 412, "the frames are those of one series"
