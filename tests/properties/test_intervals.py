"""An interval set is a set: compared with Python's own on whatever numbers in whatever order."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwatch.intervals import MAX_INTERVALS, IntervalSet

NUMBERS = st.lists(st.integers(0, 40) | st.integers(0, 1 << 48), max_size=80)


def filled(numbers: list[int]) -> IntervalSet:
    intervals = IntervalSet()
    for number in numbers:
        intervals.add(number)
    return intervals


def members(intervals: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in intervals for number in range(first, last + 1)}


@given(NUMBERS)
def test_adding_tells_what_is_new(numbers: list[int]) -> None:
    intervals, seen = IntervalSet(), set[int]()
    for number in numbers:
        assert (number in intervals) == (number in seen)
        assert intervals.add(number) == (number not in seen)
        seen.add(number)
    assert intervals.count == len(seen)
    assert intervals.end == max(seen, default=-1) + 1


@given(NUMBERS)
def test_intervals_are_the_members_sorted_and_apart(numbers: list[int]) -> None:
    intervals = filled(numbers).intervals()
    assert members(intervals) == set(numbers)
    assert all(first <= last for first, last in intervals)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(intervals))


@given(NUMBERS)
def test_the_order_does_not_matter(numbers: list[int]) -> None:
    assert filled(numbers).intervals() == filled(numbers[::-1]).intervals() == filled(sorted(numbers)).intervals()


@given(NUMBERS, st.lists(st.integers(0, 40), max_size=10))
def test_from_its_intervals_it_goes_on(numbers: list[int], more: list[int]) -> None:
    whole, again = filled([*numbers, *more]), IntervalSet.of(filled(numbers).intervals())
    for number in more:
        again.add(number)
    assert (again.intervals(), again.count) == (whole.intervals(), whole.count)


@pytest.mark.parametrize("wrong", [[(3, 2)], [(-1, 2)], [(5, 6), (0, 1)], [(0, 3), (3, 5)], [(0, 3), (4, 5)]])
def test_what_are_no_intervals_is_refused(wrong: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="no interval"):
        IntervalSet.of(wrong)


def test_more_intervals_than_are_kept_are_refused() -> None:
    with pytest.raises(OverflowError):
        IntervalSet.of((3 * n, 3 * n) for n in range(MAX_INTERVALS + 1))


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 50))
def test_gaps_are_what_is_not_there(numbers: list[int], end: int) -> None:
    gaps = filled(numbers).gaps(end)
    assert members(gaps) == set(range(end)) - set(numbers)
    assert gaps == sorted(gaps)


@given(NUMBERS, st.integers(1, 5))
def test_memory_is_bounded_and_a_refused_number_is_not_counted(numbers: list[int], limit: int) -> None:
    intervals, kept = IntervalSet(limit), set[int]()
    for number in numbers:
        try:
            intervals.add(number)
        except OverflowError:
            assert number not in intervals
            continue
        kept.add(number)
        assert len(intervals.intervals()) <= limit
    assert (intervals.count, members(intervals.intervals())) == (len(kept), kept)


def test_a_number_between_two_intervals_still_fits_a_full_set() -> None:
    intervals = IntervalSet(max_intervals=2)
    intervals.add(0)
    intervals.add(2)
    with pytest.raises(OverflowError):
        intervals.add(9)
    assert intervals.add(1)
    assert intervals.intervals() == [(0, 2)]
    assert intervals.add(9)
