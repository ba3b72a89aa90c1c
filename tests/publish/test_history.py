import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwatch.publish.flat import METRICS
from ringwatch.publish.history import CURVES, MEASURES, Envelope, History


def test_while_there_are_few_every_value_is_kept():
    envelope = Envelope()
    for n in range(1, 51):
        envelope.add(n, 1 / n)
    assert envelope.points() == (list(range(1, 51)), [1 / n for n in range(1, 51)])


def test_a_bucket_keeps_its_lowest_and_highest_value_and_where_they_were():
    envelope = Envelope()
    for n, value in [(1000, 0.3), (1001, 0.1), (1002, 0.5), (1003, 0.2)]:
        envelope.add(n, value)
    assert envelope.points() == ([1001, 1002], [0.1, 0.5])


def test_missing_and_infinite_values_are_left_out():
    envelope = Envelope()
    for value in (None, float("nan"), float("inf")):
        envelope.add(3, value)
    assert envelope.points() == ([], [])


@given(st.lists(st.tuples(st.integers(1, 2**48), st.floats(0, 1)), max_size=200))
def test_no_extreme_is_lost_and_the_points_are_in_order(values):
    envelope = Envelope()
    for n, value in values:
        envelope.add(n, value)
    numbers, kept = envelope.points()
    assert numbers == sorted(numbers)
    assert {min((v for _, v in values), default=None), max((v for _, v in values), default=None)} <= {*kept, None}
    assert set(zip(numbers, kept, strict=True)) <= set(values)


def test_a_day_at_full_rate_stays_within_two_thousand_points():
    envelope = Envelope()
    numbers = np.unique(np.geomspace(1, 10**9, 40_000).astype(int))
    for n, value in zip(numbers.tolist(), np.random.default_rng(1).random(len(numbers)), strict=True):
        envelope.add(n, value)
    assert 1500 < len(envelope.points()[0]) <= 2000


def test_frames_are_counted_in_the_order_in_which_they_were_reduced(results):
    history = History()
    history.add_rows(results.rows(first=100, n=3, spottiness=0.2))
    history.add_rows(results.rows(first=90, n=2, spottiness=0.4))
    assert history.curves("spottiness")["frame"] == ([1, 2, 3, 4, 5], [0.2, 0.201, 0.202, 0.4, 0.401])
    assert history.curves("spottiness_rings")["frame"][0] == [1, 2, 4]  # the last of each batch has none


def test_a_snapshot_adds_a_point_to_each_of_its_curves(results):
    history = History()
    history.add_snapshot(results.snapshot(7))
    curves = {measure: history.curves(measure) for measure in MEASURES}
    assert curves["spottiness"] == {
        "frame": ([], []),
        "accumulated": ([7], [0.034]),
        "low": ([], []),
        "high": ([], []),
        "averaged": ([7], [0.025]),
        "union": ([7], [0.163]),
    }
    assert curves["spottiness_weighted"]["accumulated"] == ([7], [0.081])
    assert curves["spottiness_rings"]["averaged"] == ([], [])


def test_before_the_first_frame_and_without_a_summed_image_there_is_no_point(results):
    history = History()
    history.add_snapshot(results.snapshot(0))
    history.add_snapshot(results.snapshot(3, accumulated=None))
    assert history.curves("spottiness")["union"] == ([3], [0.163])
    assert history.curves("spottiness")["accumulated"] == ([], [])


def test_a_new_accumulation_begins_anew(results, other_results):
    history = History()
    history.add_rows(results.rows())
    history.add_snapshot(other_results.snapshot(1))
    history.add_rows(other_results.rows(n=2))
    curves = history.curves("spottiness")
    assert curves.keys() == set(CURVES)
    assert curves["frame"][0] == [1, 2]
    assert curves["union"][0] == [1]


def test_metrics_come_with_their_intervals(results):
    history = History()
    history.add_snapshot(results.measured(7))
    points = {name: of for name, of in history.curves("ring_uncertainty").items() if of[0]}
    assert points == {"accumulated": ([7], [0.034]), "low": ([7], [0.030]), "high": ([7], [0.039])}
    assert history.curves("spottiness_rings")["accumulated"] == ([7], [0.021])
    assert history.curves("spottiness_rings")["high"] == ([7], [0.024])
    assert history.curves("spots")["high"] == ([], [])  # only a lower bound is known
    assert history.curves("counts")["accumulated"] == ([], [])


@pytest.mark.parametrize("measure", METRICS)
def test_an_empty_history_has_empty_curves(measure):
    assert History().curves(measure) == dict.fromkeys(CURVES, ([], []))
