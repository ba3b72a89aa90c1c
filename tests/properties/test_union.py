"""Union is addition: any order, any partition, any subset taken away give the same bits."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import synthetic

from ringwatch_gpu import reference
from ringwatch_gpu.errors import DigestMismatch
from ringwatch_gpu.spottiness import spottiness
from ringwatch_gpu.sums import ROWS, RingProfile, RingSums, StaticSums, exact_variance, ring_profiles
from ringwatch_gpu.validity import Validity

VARIANCE_RTOL = 1e-8  # float64, unless more than seven digits cancel: then integers
GEOMETRY = synthetic.geometry((23, 29), 6)
STATIC = StaticSums.of(GEOMETRY.bin_table, GEOMETRY.norm_q, GEOMETRY.bins)
FRAMES = synthetic.frames(12, GEOMETRY.shape, np.dtype("u2"), 400).reshape(12, -1)
VALIDITY = Validity.of(np.dtype("u2"))
ZERO = RingSums.zero(GEOMETRY.bins, GEOMETRY.digest, GEOMETRY.norm_quantum)


def sums_of(numbers: list[int]) -> RingSums:
    part = reference.integrate(FRAMES[numbers], GEOMETRY.bin_table, GEOMETRY.norm_q, GEOMETRY.bins, VALIDITY)
    return ZERO.plus_rows(part.rows(STATIC))


EACH = [sums_of([k]) for k in range(len(FRAMES))]
ALL = sums_of(list(range(len(FRAMES))))


@settings(max_examples=50)
@given(st.permutations(range(len(FRAMES))), st.integers(0, len(FRAMES)))
def test_any_order_and_any_two_parts(order: list[int], cut: int) -> None:
    left, right = (sum((EACH[k] for k in part), ZERO) for part in (order[:cut], order[cut:]))
    union = right + left
    assert np.array_equal(union.words, ALL.words)
    assert union.n_frames == ALL.n_frames
    assert np.array_equal((ALL - left).words, right.words)


def pooled() -> list[tuple[list[int], list[int]]]:
    """Signal and norm of every valid pixel of every frame, per bin."""
    bad = VALIDITY.invalid(FRAMES)
    found = []
    for bin_ in range(GEOMETRY.bins):
        used = (GEOMETRY.bin_table == bin_) & ~bad
        norms = np.broadcast_to(GEOMETRY.norm_q, FRAMES.shape)[used]
        found.append(([int(s) for s in FRAMES[used]], [int(g) for g in norms]))
    return found


def test_profile_is_that_of_all_pixels_pooled_in_exact_arithmetic() -> None:
    profile, quantum = ALL.profile, GEOMETRY.norm_quantum
    for bin_, (s, g) in enumerate(pooled()):
        mean = Fraction(sum(s), sum(g))
        variance = sum((si - gi * mean) ** 2 for si, gi in zip(s, g, strict=True))
        assert profile.count[bin_] == len(s)
        assert profile.signal[bin_] == sum(s)
        np.testing.assert_allclose(profile.intensity[bin_], float(mean) / quantum, rtol=1e-15)
        np.testing.assert_allclose(profile.variance[bin_], float(variance), rtol=VARIANCE_RTOL)
        norm_sq = float(sum(gi * gi for gi in g)) * quantum**2
        np.testing.assert_allclose(profile.std[bin_], np.sqrt(float(variance) / norm_sq), rtol=VARIANCE_RTOL)
        np.testing.assert_allclose(
            profile.sem[bin_], np.sqrt(float(variance)) / (float(sum(g)) * quantum), rtol=VARIANCE_RTOL
        )


def test_variance_in_integers_is_correctly_rounded() -> None:
    for bin_, (s, g) in enumerate(pooled()):
        mean = Fraction(sum(s), sum(g))
        variance = sum((si - gi * mean) ** 2 for si, gi in zip(s, g, strict=True))
        assert exact_variance(ALL.words)[bin_] == float(variance)


def test_profiles_of_frames_are_those_of_each_alone() -> None:
    part = reference.integrate(FRAMES, GEOMETRY.bin_table, GEOMETRY.norm_q, GEOMETRY.bins, VALIDITY)
    profiles = ring_profiles(part.rows(STATIC), GEOMETRY.norm_quantum)
    for number, sums in enumerate(EACH):
        for name in ("intensity", "std", "sem", "signal", "variance", "normalization", "norm_sq", "count"):
            assert np.array_equal(getattr(profiles, name)[number], getattr(sums.profile, name)), name


def test_nearly_equal_pixels_do_not_cancel_to_noise() -> None:
    """Two pixels of one count whose norms differ in the last digit: float64 alone would give rounding errors."""
    g = [2**30, 2**30 - 1]
    bin_table, norm_q = np.zeros(2, np.uint16), np.array(g, np.uint32)
    static = StaticSums.of(bin_table, norm_q, 1)
    frame = reference.integrate(np.ones((1, 2), np.uint16), bin_table, norm_q, 1, VALIDITY)
    mean = Fraction(2, sum(g))
    expected = sum((1 - gi * mean) ** 2 for gi in g)
    assert ring_profiles(frame.rows(static), 1.0).variance[0, 0] == float(expected) > 0


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_static_sums_follow_a_changed_bin_table(old_seed: int, new_seed: int) -> None:
    old, new = (
        np.random.default_rng(seed).integers(0, GEOMETRY.bins + 1, GEOMETRY.pixels).astype(np.uint16)
        for seed in (old_seed, new_seed)
    )
    moved = StaticSums.of(old, GEOMETRY.norm_q, GEOMETRY.bins).moved(old, new, GEOMETRY.norm_q, GEOMETRY.bins)
    afresh = StaticSums.of(new, GEOMETRY.norm_q, GEOMETRY.bins)
    for name in ("norm", "norm_sq", "count"):
        assert np.array_equal(getattr(moved, name), getattr(afresh, name)), name


def test_sums_of_another_geometry_are_refused() -> None:
    other = RingSums(ALL.words, 1, "something else", ALL.norm_quantum)
    for combine in (RingSums.__add__, RingSums.__sub__):
        with pytest.raises(DigestMismatch) as caught:
            combine(ALL, other)
        assert caught.value.theirs == "something else"


def test_rows_have_names() -> None:
    assert [int(x) for x in ALL.row("count")] == [len(s) for s, _ in pooled()]
    assert len(ROWS) == len(ALL.words)


def test_spottiness_is_pyfais_formula_and_rings_leaves_out_poor_bins() -> None:
    profile = ALL.profile
    relative = [max(0, v) / max(1, s) ** 2 for v, s in zip(profile.variance, profile.signal, strict=True)]
    weighted = sum(i * p for i, p in zip(profile.intensity, relative, strict=True)) / profile.intensity.sum()
    azimuth = np.where(np.arange(GEOMETRY.bins) < 3, 1.0, 0.49)
    values = spottiness(profile, azimuth)
    assert values.plain == pytest.approx(np.sqrt(np.mean(relative)), rel=1e-14)
    assert values.weighted == pytest.approx(np.sqrt(weighted), rel=1e-14)
    good = [k for k in range(3) if profile.count[k] >= 100 and profile.signal[k] >= 10]
    assert good
    assert values.rings == pytest.approx(np.sqrt(np.mean([relative[k] for k in good])), rel=1e-14)
    assert np.isnan(spottiness(profile, np.zeros(GEOMETRY.bins)).rings)


def test_less_than_one_count_a_bin_is_clamped_as_pyfai_does() -> None:
    """Below one count the clamp max(1, V) makes S small: the reason to evaluate sums, never means."""
    full = ALL.profile
    scale = 1e-3 / full.signal.max()
    sparse = RingProfile.of(full.signal * scale, full.variance * scale**2, full.normalization, full.norm_sq, full.count)
    azimuth = np.ones(GEOMETRY.bins)
    assert spottiness(sparse, azimuth).plain == pytest.approx(np.sqrt(np.mean(sparse.variance)), rel=1e-14)
    assert spottiness(sparse, azimuth).plain < 0.01 * spottiness(full, azimuth).plain
