"""Words of 128 and 192 bits are integers: every operation equals Python's."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from ringwatch_gpu import exact

SIZES = st.sampled_from([2, 3])
SIGNED = st.integers(-(2**127), 2**127 - 1)
SIGNED_192 = st.integers(-(2**191), 2**191 - 1)
UNSIGNED_64 = st.integers(0, 2**64 - 1)
UNSIGNED_32 = st.integers(0, 2**32 - 1)


def wrapped(value: int, size: int = 2) -> int:
    half = 1 << (64 * size - 1)
    return (value + half) % (2 * half) - half


def array(values: list[int], size: int = 2) -> exact.Words:
    return exact.from_integers(np.array(values, object), size)


def integers(words: exact.Words) -> list[int]:
    return list(exact.to_integers(words))


@given(SIZES, st.lists(st.tuples(SIGNED_192, SIGNED_192), min_size=1, max_size=8))
@example(3, [(2**64 - 1, 2**128 - 1), (2**128 - 1, 1), (2**64, 2**64 - 1)])
def test_sums_and_differences(size: int, pairs: list[tuple[int, int]]) -> None:
    a, b = (array([pair[k] for pair in pairs], size) for k in (0, 1))
    assert integers(exact.add(a, b)) == [wrapped(x + y, size) for x, y in pairs]
    assert integers(exact.subtract(a, b)) == [wrapped(x - y, size) for x, y in pairs]
    assert integers(exact.subtract(exact.add(a, b), b)) == [wrapped(x, size) for x, _ in pairs]


@given(SIZES, st.lists(st.tuples(SIGNED_192, UNSIGNED_32), min_size=1, max_size=8), UNSIGNED_32)
def test_products_with_a_small_number(size: int, pairs: list[tuple[int, int]], factor: int) -> None:
    words = array([x for x, _ in pairs], size)
    assert integers(exact.scaled(words, factor)) == [wrapped(x * factor, size) for x, _ in pairs]
    factors = np.array([f for _, f in pairs], np.uint64)
    assert integers(exact.scaled(words, factors)) == [wrapped(x * f, size) for x, f in pairs]


@given(st.lists(SIGNED, min_size=1, max_size=8))
def test_wider_words_are_the_same_numbers(values: list[int]) -> None:
    assert integers(exact.widened(array(values), 3)) == values


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


@given(SIZES, st.lists(st.integers(0, 2**127 - 1), min_size=1, max_size=8))
def test_to_float_is_within_one_unit_in_the_last_place(size: int, values: list[int]) -> None:
    np.testing.assert_allclose(exact.to_float(array(values, size)), [float(v) for v in values], rtol=2.3e-16)


@given(st.lists(st.tuples(st.integers(0, 4), SIGNED, SIGNED), max_size=20))
def test_groups_are_summed_and_what_is_in_none_is_left_out(rows: list[tuple[int, int, int]]) -> None:
    group = np.array([g for g, _, _ in rows], np.uint16)
    words = np.stack([array([row[k] for row in rows]) for k in (1, 2)])
    expected = [[wrapped(sum(row[k] for row in rows if row[0] == g)) for g in range(3)] for k in (1, 2)]
    assert [integers(row) for row in exact.grouped(words, group, 3)] == expected
