"""128-bit words are integers: every operation equals Python's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringwatch_gpu import exact

SIGNED = st.integers(-(2**127), 2**127 - 1)
UNSIGNED_64 = st.integers(0, 2**64 - 1)


def wrapped(value: int) -> int:
    return (value + 2**127) % 2**128 - 2**127


def array(values: list[int]) -> exact.Words:
    return exact.from_integers(np.array(values, object))


def integers(words: exact.Words) -> list[int]:
    return list(exact.to_integers(words))


@given(st.lists(st.tuples(SIGNED, SIGNED), min_size=1, max_size=8))
def test_sums_and_differences(pairs: list[tuple[int, int]]) -> None:
    a, b = (array([pair[k] for pair in pairs]) for k in (0, 1))
    assert integers(exact.add(a, b)) == [wrapped(x + y) for x, y in pairs]
    assert integers(exact.subtract(a, b)) == [wrapped(x - y) for x, y in pairs]
    assert integers(exact.subtract(exact.add(a, b), b)) == [x for x, _ in pairs]


@given(st.lists(SIGNED, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_products_with_a_small_number(values: list[int], factor: int) -> None:
    assert integers(exact.scaled(array(values), factor)) == [wrapped(x * factor) for x in values]


@given(st.lists(st.tuples(UNSIGNED_64, UNSIGNED_64), min_size=1, max_size=8))
def test_halves(pairs: list[tuple[int, int]]) -> None:
    low, high = (np.array([pair[k] for pair in pairs], np.uint64) for k in (0, 1))
    assert integers(exact.from_halves(low, high)) == [wrapped((h << 32) + lo) for lo, h in pairs]


@given(st.lists(st.lists(SIGNED, min_size=3, max_size=3), min_size=1, max_size=9))
def test_total_of_the_first_axis(rows: list[list[int]]) -> None:
    total = exact.total(np.stack([array(row) for row in rows]))
    assert integers(total) == [wrapped(sum(column)) for column in zip(*rows, strict=True)]


@given(st.lists(st.tuples(st.integers(0, 4), UNSIGNED_64), max_size=50))
def test_bincount_is_exact(pairs: list[tuple[int, int]]) -> None:
    index = np.array([i for i, _ in pairs], np.uint16)
    values = np.array([v for _, v in pairs], np.uint64)
    expected = [sum(v for i, v in pairs if i == bin_) for bin_ in range(5)]
    assert integers(exact.bincount(index, values, 5)) == expected


@given(st.lists(st.integers(0, 2**127 - 1), min_size=1, max_size=8))
def test_to_float_is_within_one_unit_in_the_last_place(values: list[int]) -> None:
    np.testing.assert_allclose(exact.to_float(array(values)), [float(v) for v in values], rtol=2.3e-16)


@given(st.lists(st.tuples(st.integers(0, 4), SIGNED, SIGNED), max_size=20))
def test_groups_are_summed_and_what_is_in_none_is_left_out(rows: list[tuple[int, int, int]]) -> None:
    group = np.array([g for g, _, _ in rows], np.uint16)
    words = np.stack([array([row[k] for row in rows]) for k in (1, 2)])
    expected = [[wrapped(sum(row[k] for row in rows if row[0] == g)) for g in range(3)] for k in (1, 2)]
    assert [integers(row) for row in exact.grouped(words, group, 3)] == expected
