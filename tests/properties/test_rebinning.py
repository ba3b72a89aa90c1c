"""Rebinning is addition: any partition of the frames, any grouping of the bins, any order, give the same integers."""

from dataclasses import fields, replace
from functools import reduce

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.kernels import synthetic

from ringwatch_gpu import reference
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.geometry_pyfai import PixelTables
from ringwatch_gpu.reference import float_bincount
from ringwatch_gpu.sums import RingSums, StaticSums
from ringwatch_gpu.validity import Validity

RINGS = synthetic.geometry((23, 29), 12)
N_FRAMES = 6
FRAMES = synthetic.frames(N_FRAMES, RINGS.shape, np.dtype("u2"), 400).reshape(N_FRAMES, -1)
VALIDITY = Validity.of(np.dtype("u2"))
DIVISORS = (1, 2, 3, 4, 6, 8, 9, 12, 18, 24, 36, 72)

PARTS = st.lists(st.integers(0, 3), min_size=N_FRAMES, max_size=N_FRAMES)
"""The part that each frame belongs to."""


def sums_of(geometry: Geometry, frames: NDArray[np.integer]) -> RingSums:
    zero = RingSums.zero(geometry.bins, geometry.digest, geometry.norm_quantum)
    if not len(frames):
        return zero
    static = StaticSums.of(geometry.bin_table, geometry.norm_q, geometry.bins)
    part = reference.integrate(frames, geometry.bin_table, geometry.norm_q, geometry.bins, VALIDITY)
    return zero.plus_rows(part.rows(static))


def same(one: RingSums, other: RingSums) -> bool:
    known = (one.digest, one.n_frames, one.norm_quantum) == (other.digest, other.n_frames, other.norm_quantum)
    return known and np.array_equal(one.words, other.words)


def grouped(fine: Geometry, group: list[int]) -> Geometry:
    """The geometry in which bin k is ``group[k]`` of 5 bins, 5 = not used."""
    tables = PixelTables(**{field.name: getattr(fine, field.name) for field in fields(PixelTables)})
    table = np.array([*group, 5], np.uint16)[fine.bin_table]
    coarse = replace(tables, bin_table=table, edges=fine.edges[:6], radial=fine.radial[:5], azimuthal_bins=1)
    return Geometry.from_tables(coarse, fine.poni, fine.source)


@settings(max_examples=40, deadline=None)
@given(PARTS, st.lists(st.integers(0, 5), min_size=12, max_size=12))
def test_any_partition_of_the_frames_and_any_grouping_of_the_bins(part_of: list[int], group: list[int]) -> None:
    coarse, part = grouped(RINGS, group), np.array(part_of)
    parts = [sums_of(RINGS, FRAMES[part == k]) for k in range(4)]
    first_rebinned = reduce(RingSums.__add__, (sums.rebinned(RINGS, coarse) for sums in parts))
    first_added = reduce(RingSums.__add__, parts).rebinned(RINGS, coarse)
    assert same(first_rebinned, sums_of(coarse, FRAMES))
    assert same(first_added, sums_of(coarse, FRAMES))


@settings(max_examples=40, deadline=None)
@given(PARTS, st.sampled_from(DIVISORS), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_what_is_taken_away_in_cells_and_added_in_rings_comes_back(part_of: list[int], cells: int, factor: int) -> None:
    cake, rings, part = RINGS.cake(cells), RINGS.coarser(factor), np.array(part_of)
    total, taken = sums_of(cake, FRAMES), sums_of(cake, FRAMES[part == 0])
    left = (total - taken).rebinned(cake, rings)
    assert same(left, sums_of(rings, FRAMES[part > 0]))
    assert same(left + taken.rebinned(cake, rings), sums_of(rings, FRAMES))
    assert same(left + sums_of(rings, FRAMES[part == 0]), sums_of(rings, FRAMES))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(DIVISORS), st.sampled_from(DIVISORS), st.sampled_from([1, 2, 3, 4, 6, 12]), st.booleans())
def test_azimuth_and_radius_may_be_joined_in_any_order(fine: int, coarse: int, factor: int, radius_first: bool) -> None:
    if fine % coarse:
        coarse = 1
    cake = RINGS.cake(fine)
    between = cake.coarser(factor) if radius_first else RINGS.cake(coarse)
    last = RINGS.coarser(factor).cake(coarse)
    sums = sums_of(cake, FRAMES).rebinned(cake, between).rebinned(between, last)
    assert same(sums, sums_of(last, FRAMES))
    assert RINGS.cake(coarse).coarser(factor).digest == last.digest


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(DIVISORS), st.data())
def test_an_arc_is_the_sum_of_its_cells(cells: int, data: st.DataObject) -> None:
    width_deg = 360 // cells
    first = data.draw(st.integers(0, cells - 1), "first cell")
    number = data.draw(st.integers(1, cells), "cells")
    first_deg = -180 + first * width_deg
    cake, arc = RINGS.cake(cells), RINGS.arc(first_deg, first_deg + number * width_deg)
    sums = sums_of(cake, FRAMES)
    taken = np.arange(first, first + number) % cells
    by_hand = np.moveaxis(sums.words.reshape(6, *cake.bin_shape, 2), 2, 0)[taken]
    found = sums.rebinned(cake, arc)
    assert same(found, sums_of(arc, FRAMES))
    assert found.row("signal").sum() == sum(int(x) for x in by_hand[:, 0, :, 1].ravel())


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(DIVISORS), st.sampled_from([1, 2, 3, 4, 6, 12]), PARTS)
def test_the_variance_is_that_of_two_passes_over_all_pixels(cells: int, factor: int, part_of: list[int]) -> None:
    """The term between the sectors, which sums of variances leave out, is in it."""
    cake, rings, part = RINGS.cake(cells), RINGS.coarser(factor), np.array(part_of)
    ours = reduce(RingSums.__add__, (sums_of(cake, FRAMES[part == k]) for k in range(4))).rebinned(cake, rings).profile
    ok = (rings.bin_table < rings.bins) & ~VALIDITY.invalid(FRAMES)
    index = np.broadcast_to(rings.bin_table, FRAMES.shape)[ok]
    g = np.broadcast_to(rings.norm_q * rings.norm_quantum, FRAMES.shape)[ok]
    s = FRAMES[ok].astype(np.float64)
    norm = float_bincount(index, g, rings.bins)
    mean = float_bincount(index, s, rings.bins) / np.where(norm > 0, norm, 1)
    variance = float_bincount(index, (s - g * mean[index]) ** 2, rings.bins)
    np.testing.assert_allclose(ours.variance, variance, rtol=1e-11)
    np.testing.assert_allclose(ours.intensity, mean, rtol=1e-13)
