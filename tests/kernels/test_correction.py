"""Flat field and absorption: the product of all factors is what the kernels sum, bad factors cost their pixel only."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyopencl as cl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringwatch_gpu import reference
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.errors import GeometryError
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.image_files import read_image
from ringwatch_gpu.norms import LARGEST_NORM_ERROR
from ringwatch_gpu.sums import StaticSums
from ringwatch_gpu.validity import Validity

from . import synthetic

SHAPE, BINS = synthetic.SHAPE, synthetic.BINS
GEOMETRY = synthetic.geometry(SHAPE, BINS)
RNG = np.random.default_rng(5)
FLAT = RNG.uniform(0.8, 1.2, SHAPE).astype(np.float32)
ABSORPTION = RNG.uniform(0.3, 1.0, SHAPE)
USED = ~GEOMETRY.mask


def norm(geometry: Geometry) -> np.ndarray:
    return (geometry.norm_q * geometry.norm_quantum).reshape(geometry.shape)


BOTH = {"flat": FLAT, "absorption": ABSORPTION}


@pytest.mark.parametrize(
    "factors", [{"flat": FLAT}, {"absorption": ABSORPTION}, BOTH], ids=["flat", "absorption", "both"]
)
def test_factors_multiply_the_normalization_within_the_error_that_is_told(factors: dict[str, Any]) -> None:
    corrected = GEOMETRY.corrected(**factors)
    exact = norm(GEOMETRY) * np.prod([factor.astype(np.float64) for factor in factors.values()], axis=0)
    deviation = np.abs(norm(corrected) / exact - 1)[USED].max()
    assert 0 < deviation <= corrected.norm_error < LARGEST_NORM_ERROR
    assert (corrected.norm_quantum, corrected.bins) == (2**-30, BINS)
    np.testing.assert_array_equal(corrected.mask, GEOMETRY.mask)
    for name in ("flat", "absorption"):
        np.testing.assert_array_equal(getattr(corrected, name), factors.get(name))


def test_what_was_rounded_before_counts_in_the_error() -> None:
    """Two roundings: the second one alone would be too small a number."""
    once = GEOMETRY.corrected(flat=FLAT)
    assert once.corrected(absorption=np.ones(SHAPE)).norm_error == once.norm_error > 0
    assert once.corrected(absorption=ABSORPTION).norm_error > once.norm_error


@pytest.mark.parametrize("form", get_args(Form))
def test_sums_with_factors_are_those_of_numpy(device: cl.Device, form: Form) -> None:
    kind = np.dtype(np.uint16)
    corrected = GEOMETRY.corrected(flat=FLAT, absorption=3 * ABSORPTION)
    g = np.rint(np.rint(norm(GEOMETRY) * FLAT / 2**-30) * 2**-30 * (3 * ABSORPTION) / 2**-29).astype(np.uint32).ravel()
    g[~USED.ravel()] = 0
    frames = synthetic.frames(8, SHAPE, kind, 60000)
    integrator = BatchIntegrator(corrected, kind, device, form)
    integrator.slots[:] = frames
    validity = Validity.of(kind)
    expected = reference.integrate(frames.reshape(8, -1), GEOMETRY.bin_table, g, BINS, validity)
    rows = expected.rows(StaticSums.of(GEOMETRY.bin_table, g, BINS))
    assert corrected.norm_quantum == 2**-29
    np.testing.assert_array_equal(integrator.integrate(8, validity).rows(integrator.static), rows)


def test_factors_of_one_change_nothing_and_others_change_the_digest() -> None:
    ones = GEOMETRY.corrected(flat=np.ones(SHAPE, np.uint8))
    np.testing.assert_array_equal(ones.norm_q[USED.ravel()], GEOMETRY.norm_q[USED.ravel()])
    assert GEOMETRY.corrected() is GEOMETRY
    digests = {GEOMETRY.corrected(**{name: FLAT * scale}).digest for name in ("flat", "absorption") for scale in (1, 2)}
    assert len(digests | {GEOMETRY.digest}) == 3, "a flat field and an absorption of the same values do the same"


def test_a_mask_keeps_the_factors_and_the_very_array_of_norms() -> None:
    corrected = GEOMETRY.corrected(flat=FLAT)
    masked = corrected.masked(np.eye(*SHAPE) > 0)
    assert masked.norm_q is corrected.norm_q
    assert masked.flat is corrected.flat
    assert masked.norm_error == corrected.norm_error


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, -2.0, 1e-12, 1e300])
)
def test_pixels_whose_factor_is_not_positive_and_finite_are_ignored(seed: int, bad: float) -> None:
    where = np.random.default_rng(seed).random(SHAPE) < 0.1
    flat = np.where(where, bad, FLAT.astype(np.float64))
    corrected = GEOMETRY.corrected(flat=flat, absorption=flat)  # two negative ones do not make a positive one
    np.testing.assert_array_equal(corrected.mask, GEOMETRY.mask | where)
    assert (corrected.norm_q.reshape(SHAPE)[~corrected.mask] > 0).all()
    assert corrected.norm_error < LARGEST_NORM_ERROR


@pytest.mark.parametrize(("largest", "quantum"), [(1.0, 2**-30), (9.0, 2**-27), (1e6, 2**-11)])
def test_the_unit_grows_with_the_largest_factor(largest: float, quantum: float) -> None:
    plain = synthetic.geometry(SHAPE, BINS)
    corrected = plain.corrected(flat=np.full(SHAPE, largest))
    assert corrected.norm_quantum == quantum
    assert corrected.norm_error < LARGEST_NORM_ERROR
    np.testing.assert_allclose(norm(corrected)[USED], largest * norm(plain)[USED], rtol=1.001 * corrected.norm_error)


def test_wild_values_of_pixels_that_are_not_used_cost_no_precision() -> None:
    wild = np.where(GEOMETRY.mask, 1e9, FLAT)
    assert GEOMETRY.corrected(flat=wild).digest == GEOMETRY.corrected(flat=FLAT).digest
    in_use = FLAT.copy()
    in_use[np.nonzero(USED)[0][0], np.nonzero(USED)[1][0]] = 1e9
    assert GEOMETRY.corrected(flat=in_use).norm_error > LARGEST_NORM_ERROR, "and those of used ones do"


def test_factors_are_copied_and_cannot_be_changed() -> None:
    flat = FLAT.copy()
    corrected = GEOMETRY.corrected(flat=flat)
    flat[:] = 0
    assert corrected.flat is not None
    np.testing.assert_array_equal(corrected.flat, FLAT)
    assert not corrected.flat.flags.writeable


WRONG: list[tuple[np.ndarray, str]] = [
    (np.ones((53, 37)), r"the flat field has shape \(53, 37\), the frames have \(37, 53\)"),
    (np.ones(SHAPE, np.complex64), "the flat field holds complex64: real numbers are needed"),
    (np.zeros(SHAPE), "the flat field leaves no pixel"),
    (np.full(SHAPE, np.nan), "the flat field leaves no pixel"),
    (np.where(USED, -1.0, 1.0), "the flat field leaves no pixel"),
    (np.where(np.eye(*SHAPE) > 0, 1e20, 1.0), r"the flat field has a value of 1e\+20: most others round to nothing"),
]


@pytest.mark.parametrize(("flat", "message"), WRONG, ids=["shape", "complex", "zero", "nan", "only unused", "wild"])
def test_a_factor_that_makes_no_sense_is_refused(flat: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        GEOMETRY.corrected(flat=flat)


@pytest.mark.parametrize("extension", ["npy", "edf", "tif"])
def test_a_file_of_floats_is_read_as_it_is(extension: str, tmp_path: Path) -> None:
    import fabio

    path = tmp_path / f"flat.{extension}"
    if extension == "npy":
        np.save(path, FLAT)
    else:
        getattr(getattr(fabio, f"{extension}image"), f"{extension.capitalize()}Image")(data=FLAT).write(str(path))
    np.testing.assert_array_equal(read_image(path, SHAPE, "flat field"), FLAT)


def test_a_file_without_real_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", FLAT.astype(np.complex64))
    with pytest.raises(GeometryError, match=r"the flat field .*flat\.npy (cannot be read|holds complex64)"):
        read_image(tmp_path / "flat.npy", SHAPE, "flat field")
