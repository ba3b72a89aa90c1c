"""Sums weighed with a monitor: exact in any order and partition, and what rational arithmetic says."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.properties.test_union import FRAMES, GEOMETRY, STATIC, VALIDITY, VARIANCE_RTOL

from ringwatch_gpu import monitor, reference
from ringwatch_gpu.errors import DigestMismatch
from ringwatch_gpu.sums import RingSums

REFERENCE = 7e8
PARTS = reference.integrate(FRAMES, GEOMETRY.bin_table, GEOMETRY.norm_q, GEOMETRY.bins, VALIDITY)
ZERO = RingSums.none_of(GEOMETRY, REFERENCE)
Exposures = st.lists(st.integers(1, 2**32 - 1), min_size=len(FRAMES), max_size=len(FRAMES))


@settings(max_examples=40, deadline=None)
@given(Exposures, st.permutations(range(len(FRAMES))), st.integers(0, len(FRAMES)))
def test_any_order_any_two_parts_and_any_part_taken_away(f: list[int], order: list[int], cut: int) -> None:
    rows = PARTS.rows(STATIC, np.array(f, np.uint64))
    everything = ZERO.plus_rows(rows)
    left, right = (ZERO.plus_rows(rows[part]) if part else ZERO for part in (order[:cut], order[cut:]))
    assert np.array_equal((right + left).words, everything.words)
    assert np.array_equal((everything - left).words, right.words)
    assert np.array_equal(
        everything.minus_rows(rows[order[:1]]).words, (everything - ZERO.plus_rows(rows[order[:1]])).words
    )


@settings(max_examples=10, deadline=None)
@given(Exposures)
def test_sums_are_those_of_all_pixels_pooled_in_exact_arithmetic(f: list[int]) -> None:
    union = ZERO.plus_rows(PARTS.rows(STATIC, np.array(f, np.uint64)))
    bad = VALIDITY.invalid(FRAMES)
    profile, quantum = union.profile, GEOMETRY.norm_quantum * monitor.QUANTUM
    for bin_ in range(GEOMETRY.bins):
        frame, pixel = np.nonzero((GEOMETRY.bin_table == bin_) & ~bad)
        s = [int(value) for value in FRAMES[frame, pixel]]
        g = [f[k] * int(GEOMETRY.norm_q[p]) for k, p in zip(frame, pixel, strict=True)]
        expected = (sum(s), sum(x * x for x in s), sum(x * y for x, y in zip(s, g, strict=True)), sum(g),
                    sum(x * x for x in g), len(s))  # fmt: skip
        assert (
            tuple(union.row(name)[bin_] for name in ("signal", "signal_sq", "norm_signal", "norm", "norm_sq", "count"))
            == expected
        )
        mean = Fraction(sum(s), sum(g))
        variance = float(sum((x - y * mean) ** 2 for x, y in zip(s, g, strict=True)))
        np.testing.assert_allclose(profile.variance[bin_], variance, rtol=VARIANCE_RTOL)
        np.testing.assert_allclose(profile.intensity[bin_], float(mean) / quantum, rtol=1e-14)


def test_a_frame_at_the_reference_is_as_without_a_monitor() -> None:
    plain = RingSums.none_of(GEOMETRY).plus_rows(PARTS.rows(STATIC)).profile
    weighed = ZERO.plus_rows(PARTS.rows(STATIC, monitor.exposure([REFERENCE] * len(FRAMES), REFERENCE))).profile
    for name in ("signal", "variance", "normalization", "norm_sq", "count", "intensity", "std", "sem"):
        np.testing.assert_allclose(getattr(weighed, name), getattr(plain, name), rtol=VARIANCE_RTOL, err_msg=name)


@pytest.mark.parametrize(
    ("i0", "f"),
    [(7e8, 1 << 20), (3.5e8, 1 << 19), (7e8 / 2**20, 1), (1.0, 0), (0.0, 0), (-7e8, 0), (float("nan"), 0),
     (float("inf"), 0), (float("-inf"), 0), (1e308, 0), (7e8 * 4096, 0), (7e8 * 4095, 4095 << 20)],
)  # fmt: skip
def test_exposure_is_rounded_and_zero_where_the_monitor_says_nothing(i0: float, f: int) -> None:
    assert monitor.exposure([i0], REFERENCE).tolist() == [f]


def test_sums_of_another_reference_or_of_none_are_refused() -> None:
    for other in (RingSums.none_of(GEOMETRY), RingSums.none_of(GEOMETRY, REFERENCE * 2)):
        with pytest.raises(DigestMismatch):
            ZERO + other
