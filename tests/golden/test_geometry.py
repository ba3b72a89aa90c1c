"""Geometry against pyFAI on recorded detectors: the same pixels in the same bins, the same normalization."""

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import hdf5plugin  # noqa: F401 - the recorded masks are compressed
import numpy as np
import pytest
from numpy.typing import NDArray

from ringwatch_gpu.geometry import Geometry

DETECTORS = ("id11_dac", "ge41rt_ceo2", "pil1m_ceo2", "pil1m_fe3o4_map", "pil2m_ceo2_chess")
NO_SPLIT = ("no", "csr", "cython")
THICK_SENSOR = """\
poni_version: 3
Detector: Pilatus1M
Detector_config: {"sensor": {"material": "Si", "thickness": 0.001}, "orientation": 3}
Distance: 0.1
Poni1: 0.09
Poni2: 0.08
Rot1: 0.1
Rot2: 0.0
Rot3: 0.0
Wavelength: 3e-11
Parallax: True
"""


class Case(NamedTuple):
    integrator: Any
    geometry: Geometry
    mask: NDArray[np.bool_]


@pytest.fixture(scope="module", params=[*DETECTORS, "parallax"])
def case(request: pytest.FixtureRequest, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if request.param == "parallax":
        poni = tmp_path_factory.mktemp("parallax") / "thick.poni"
        poni.write_text(THICK_SENSOR)
        return make_case(poni, np.zeros((1043, 981), np.bool_), cache_dir)
    shared_data: Path = request.getfixturevalue("shared_data")
    with h5py.File(shared_data / f"{request.param}.h5") as file:
        mask = file["entry/data/mask"][()] != 0
    return make_case(shared_data / f"{request.param}.poni", mask, cache_dir)


def make_case(poni: Path, mask: NDArray[np.bool_], cache_dir: Path, **choice: Any) -> Case:
    import pyFAI

    return Case(pyFAI.load(str(poni)), Geometry.from_poni(poni, mask.shape, cache_dir=cache_dir, **choice), mask)


def small_case(shared_data: Path, cache_dir: Path, **choice: Any) -> Case:
    return make_case(shared_data / "pil1m_fe3o4_map.poni", np.zeros((1043, 981), np.bool_), cache_dir, **choice)


def pyfai_count(case: Case, geometry: Geometry, mask: NDArray[np.bool_]) -> Any:
    return case.integrator.integrate1d(
        np.ones(geometry.shape, np.float32),
        geometry.bins,
        unit=geometry.unit,
        radial_range=(geometry.edges[0], geometry.edges[-1]),
        mask=mask,
        method=NO_SPLIT,
        correctSolidAngle=False,
    )


def used_pixels(geometry: Geometry) -> NDArray[np.int64]:
    return np.bincount(geometry.bin_table, minlength=geometry.bins + 1)[:-1]


def test_every_bin_holds_the_pixels_that_pyfai_puts_there(case: Case) -> None:
    own = case.integrator.detector.mask
    detector_mask = np.zeros(case.mask.shape, np.bool_) if own is None else own != 0

    plain = pyfai_count(case, case.geometry, detector_mask)
    np.testing.assert_array_equal(used_pixels(case.geometry), plain.count)
    np.testing.assert_allclose(case.geometry.radial, plain.radial, rtol=1e-15)

    masked = case.geometry.masked(case.mask)
    np.testing.assert_array_equal(used_pixels(masked), pyfai_count(case, masked, detector_mask | case.mask).count)


def test_a_pixel_lies_between_the_edges_of_its_bin(case: Case) -> None:
    geometry = case.geometry
    axis = case.integrator.center_array(geometry.shape, unit=geometry.unit).ravel()
    used = geometry.bin_table < geometry.bins
    number = geometry.bin_table[used].astype(int)
    slack = 1e-14 * geometry.edges[-1]  # of float64, one ulp of the conversion to the unit

    assert (geometry.edges[number] <= axis[used] + slack).all()
    assert (axis[used] <= geometry.edges[number + 1] + slack).all()


def test_normalization_is_the_solid_angle_times_the_polarization_of_pyfai(case: Case) -> None:
    shape = case.geometry.shape
    norm = case.geometry.norm_q * case.geometry.norm_quantum
    in_float32 = case.integrator.solidAngleArray(shape) * case.integrator.polarization(shape, 0.99)

    # 1.7e-7 was measured: pyFAI computes the incidence from pixel numbers in float32.
    np.testing.assert_allclose(norm, in_float32.ravel(), rtol=4e-7)


def test_normalization_is_exact_to_half_a_quantum(case: Case) -> None:
    shape = case.geometry.shape
    cos_2th = np.cos(case.integrator.center_array(shape, unit="2th_rad"))
    cos_2chi = np.cos(2 * case.integrator.center_array(shape, unit="chi_rad"))
    solid_angle = np.fromfunction(case.integrator.cos_incidence, shape, dtype=np.float64) ** 3
    exact = solid_angle * 0.5 * (1 + cos_2th**2 - 0.99 * cos_2chi * (1 - cos_2th**2))

    deviation = np.abs(case.geometry.norm_q * case.geometry.norm_quantum - exact.ravel())
    assert case.geometry.norm_quantum == 2**-30
    assert deviation.max() <= 2**-31 + 1e-15
    assert (deviation / exact.ravel())[case.geometry.bin_table < case.geometry.bins].max() == pytest.approx(
        case.geometry.norm_error, rel=1e-5
    )
    assert case.geometry.norm_error < 2e-8


def test_a_given_range_gives_the_bins_of_pyfai_but_for_its_overfull_first_bin(
    shared_data: Path, cache_dir: Path
) -> None:  # fmt: skip
    wanted = (5.0, 12.0)
    case = small_case(shared_data, cache_dir, bins=400, radial_range=wanted)
    part = case.geometry

    assert (part.edges[0], part.edges[-1]) == wanted
    np.testing.assert_array_equal(used_pixels(part), pyfai_count(case, part, part.mask).count)
    with_pixels_below = pyfai_count(case, part, case.integrator.detector.mask).count
    np.testing.assert_array_equal(used_pixels(part)[1:], with_pixels_below[1:])
    assert with_pixels_below[0] > 1.5 * used_pixels(part)[0]


@pytest.mark.parametrize("unit", ["2th_rad", "q_nm^-1", "q_A^-1", "r_mm"])
def test_every_unit_gives_the_bins_of_pyfai(shared_data: Path, cache_dir: Path, unit: str) -> None:
    case = small_case(shared_data, cache_dir, unit=unit, bins=700)
    geometry = case.geometry

    pyfai = pyfai_count(case, geometry, case.integrator.detector.mask)
    np.testing.assert_array_equal(used_pixels(geometry), pyfai.count)
    np.testing.assert_allclose(geometry.radial, pyfai.radial, rtol=1e-15)


def test_where_the_poni_says_parallax_pixels_move(cache_dir: Path) -> None:
    """In a sensor of 1 mm, by up to some pixels, so that many are in another bin than without."""
    thick, thin = (
        Geometry.from_poni(text, cache_dir=cache_dir, bins=800, radial_range=(5.0, 50.0))
        for text in (THICK_SENSOR, THICK_SENSOR.replace("True", "False"))
    )
    assert thick.digest != thin.digest
    assert np.mean(thick.bin_table != thin.bin_table) > 0.3


def test_without_splitting_every_coefficient_of_pyfai_is_one(case: Case) -> None:
    matrix = case.integrator.setup_sparse_integrator(case.geometry.shape, 100, unit="2th_deg", split="no", algo="CSR")
    assert (matrix.lut[0] == 1).all()
    assert matrix.lut[1].size == case.geometry.pixels
