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
