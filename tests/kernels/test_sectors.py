"""Counts of one frame in groups of bins x sectors: both forms on every device give the specification's integers."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pyopencl as cl
import pytest

from ringwatch_gpu import reference
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.geometry_pyfai import SECTORS
from ringwatch_gpu.runs import run_bounds
from ringwatch_gpu.sectors import GROUPS, equal_groups
from ringwatch_gpu.validity import Validity

from . import synthetic

U2 = np.dtype("u2")
SHAPE, BINS = synthetic.SHAPE, synthetic.BINS


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


def check(integrator: BatchIntegrator, frames: np.ndarray, validity: Validity, which: int = 0) -> np.ndarray:
    """Sums of each frame in turn, compared with the specification; those of the last one."""
    integrator.slot_set(which)[: len(frames)] = frames
    integrator.integrate(len(frames), validity, which)
    groups = equal_groups(integrator.geometry.bins)
    for slot, frame in enumerate(frames):
        expected = reference.sector_sums(frame.ravel(), integrator.geometry, groups, validity)
        assert np.array_equal(integrator.sector_sums(validity, slot, which), expected)
    return expected


@pytest.mark.parametrize(("shape", "bins", "dtype"), synthetic.with_types(synthetic.AWKWARD))
def test_sums_are_those_of_the_specification(
    device: cl.Device, form: Form, shape: tuple[int, int], bins: int, dtype: str
) -> None:
    kind = np.dtype(dtype)
    integrator = BatchIntegrator(synthetic.geometry(shape, bins), kind, device, form)
    for largest in (1, int(np.iinfo(kind).max)):
        check(integrator, synthetic.frames(8, shape, kind, largest), Validity.of(kind))


@pytest.mark.parametrize("which", [0, 1])
def test_each_set_of_slots_has_its_own_sums(device: cl.Device, form: Form, which: int) -> None:
    integrator = BatchIntegrator(synthetic.geometry(SHAPE, BINS), U2, device, form)
    integrator.slot_set(1 - which)[:] = 7
    assert check(integrator, synthetic.frames(3, SHAPE, U2, 300), Validity.of(U2), which).any()


@pytest.mark.parametrize("dummies", [[0], [7], [0, 1, 2, 3], [65535]])
def test_invalid_values_do_not_count(device: cl.Device, form: Form, dummies: list[int]) -> None:
    kind = np.dtype("u4")
    integrator = BatchIntegrator(synthetic.geometry(SHAPE, BINS), kind, device, form)
    frames = synthetic.frames(2, SHAPE, kind, 9)
    frames[:, 3] = 65535
    everything = check(integrator, frames, Validity.of(kind, []))
    assert check(integrator, frames, Validity.of(kind, dummies)).sum() <= everything.sum()
    assert check(integrator, frames, Validity.of(kind, saturation=4)).sum() < everything.sum()


def test_values_are_compared_on_integers(device: cl.Device, form: Form) -> None:
    """2^32 - 3 and 2^32 - 2 are one and the same float32, as are 2^25 and 2^25 + 1."""
    kind, shape, dummy = np.dtype("u4"), (1, 5), 2**25
    integrator = BatchIntegrator(synthetic.geometry(shape, 1, masked=0), kind, device, form)
    frames = np.array([[[2**32 - 1, 2**32 - 2, 2**32 - 3, dummy, dummy + 1]]], kind)
    assert check(integrator, frames, Validity.of(kind)).sum() == 2**32 - 3 + 2 * dummy + 1
    limited = Validity.of(kind, [dummy], saturation=2**32 - 3)
    assert check(integrator, frames, limited).sum() == 2**32 - 3 + dummy + 1


def test_sums_beyond_32_bits(device: cl.Device, form: Form) -> None:
    kind, shape = np.dtype("u4"), (97, 131)
    integrator = BatchIntegrator(synthetic.geometry(shape, 2), kind, device, form)
    assert check(integrator, np.full((1, *shape), 2**32 - 3, kind), Validity.of(kind)).max() > 2**38


def test_groups_are_equal_stretches_of_bins() -> None:
    assert np.array_equal(equal_groups(130), np.arange(130) * 64 // 130)


def test_a_change_of_mask_changes_the_cells(device: cl.Device, form: Form) -> None:
    base, frames = synthetic.geometry(SHAPE, BINS), synthetic.frames(2, SHAPE, U2, 300)
    integrator = BatchIntegrator(base, U2, device, form)
    for mask in (np.random.default_rng(5).random(SHAPE) < 0.3, np.ones(SHAPE, bool), np.zeros(SHAPE, bool)):
        integrator.change_mask(base.masked(mask))
        found = check(integrator, frames, Validity.of(U2))
        assert found.shape == (GROUPS, SECTORS)
        assert found.any() != mask.all()


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 100])
def test_runs_cover_all_pixels_and_hold_one_label(longest: int) -> None:
    labels = np.random.default_rng(1).integers(0, 2, 50).astype(np.uint8)
    bounds = run_bounds(labels, longest)
    assert bounds[0] == 0
    assert bounds[-1] == len(labels)
    assert np.diff(bounds).min() > 0
    assert np.diff(bounds).max() <= longest
    assert all(len(set(labels[first:end])) == 1 for first, end in pairwise(bounds))
