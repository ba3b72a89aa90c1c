"""What a Geometry promises, on a small detector: masks only remove, the digest names what matters, errors say why."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ringwatch_gpu.errors import GeometryError, GeometryMismatch
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.image_files import read_image
from ringwatch_gpu.norms import norm_quantum
from tests.kernels import synthetic

SHAPE, PONI, DETECTOR = synthetic.PONI_SHAPE, synthetic.PONI, synthetic.DETECTOR


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def geometry(cache_dir: Path) -> Geometry:
    return Geometry.from_poni(PONI, cache_dir=cache_dir)


def integrator_of(poni: str, folder: Path) -> Any:
    """The integrator that pyFAI makes of a PONI text."""
    import pyFAI

    path = folder / "small.poni"
    path.write_text(poni)
    return pyFAI.load(str(path))


def random_mask(seed: int, share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(SHAPE) < share


def test_pyfai_is_not_imported_before_it_is_needed() -> None:
    check = "import sys, ringwatch_gpu.geometry; sys.exit('pyFAI' in sys.modules or 'fabio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_shapes_and_types_are_those_that_kernels_expect(geometry: Geometry) -> None:
    assert geometry.shape == SHAPE
    assert geometry.pixels == geometry.bin_table.size == geometry.norm_q.size == geometry.sector.size == 3000
    assert geometry.edges.size == geometry.bins + 1
    assert geometry.radial.size == geometry.azimuth_fraction.size == geometry.bins
    assert (geometry.bin_table.dtype, geometry.norm_q.dtype, geometry.sector.dtype) == ("uint16", "uint32", "uint8")
    with pytest.raises(ValueError, match="read-only"):
        geometry.bin_table[0] = 0


def test_energy_and_pixel_size_come_from_the_poni(geometry: Geometry, cache_dir: Path) -> None:
    assert geometry.energy_eV == pytest.approx(12398.4198 / 0.3)
    assert geometry.pixel_size_m == (1e-4, 1e-4)
    without = Geometry.from_poni(PONI.replace("Wavelength", "# Wavelength"), cache_dir=cache_dir)
    assert without.energy_eV is None


def test_bins_are_about_one_pixel_wide(cache_dir: Path, geometry: Geometry) -> None:
    widths_mm = np.diff(Geometry.from_poni(PONI, unit="r_mm", cache_dir=cache_dir).edges)
    np.testing.assert_allclose(widths_mm, 0.1, rtol=0.05)
    assert geometry.pixel_bins


@pytest.mark.parametrize("choice", [{}, {"bins": 7}, {"radial_range": (0.5, 1.5), "bins": 9}], ids=str)
def test_a_pixel_lies_between_the_edges_of_its_bin(choice: dict[str, Any], cache_dir: Path, tmp_path: Path) -> None:
    geometry = Geometry.from_poni(PONI, cache_dir=cache_dir, **choice)
    two_theta_deg = integrator_of(PONI, tmp_path).center_array(SHAPE, unit="2th_deg").ravel()
    inside = (two_theta_deg >= geometry.edges[0]) & (two_theta_deg <= geometry.edges[-1])
    np.testing.assert_array_equal(~geometry.mask.ravel(), inside)
    number = geometry.bin_table[inside].astype(int)
    assert (geometry.edges[number] <= two_theta_deg[inside] + 1e-14).all()
    assert (two_theta_deg[inside] <= geometry.edges[number + 1] + 1e-14).all()


def test_normalization_is_the_solid_angle_times_the_polarization(cache_dir: Path, tmp_path: Path) -> None:
    """Checked far off axis, where the polarization matters, with pyFAI's own arrays, which go through float32."""
    tilted = PONI.replace("Rot1: 0.002", "Rot1: 0.4")
    geometry, pyfai = Geometry.from_poni(tilted, cache_dir=cache_dir), integrator_of(tilted, tmp_path)
    polarization = pyfai.polarization(SHAPE, 0.99)
    assert polarization.max() < 0.95
    expected = pyfai.solidAngleArray(SHAPE) * polarization
    np.testing.assert_allclose(geometry.norm_q * geometry.norm_quantum, expected.ravel(), rtol=1e-6)


def test_the_gaps_of_a_known_detector_are_not_used(cache_dir: Path) -> None:
    oriented = PONI.replace(json.dumps(DETECTOR), '{"orientation": 3}')
    geometry = Geometry.from_poni(oriented.replace(": Detector\n", ": Pilatus300k\n"), cache_dir=cache_dir)
    gaps = np.zeros((619, 487), np.bool_)
    gaps[195:212] = gaps[407:424] = True
    np.testing.assert_array_equal(geometry.mask, gaps)


@pytest.mark.parametrize("choice", [{"bins": 10}, {"bins": 200}, {"radial_range": (0.5, 1.5)}])
def test_wide_narrow_or_cut_bins_are_not_pixel_bins(choice: dict[str, Any], cache_dir: Path) -> None:
    assert not Geometry.from_poni(PONI, cache_dir=cache_dir, **choice).pixel_bins


def test_asking_for_the_full_range_is_the_default(geometry: Geometry, cache_dir: Path) -> None:
    span = float(geometry.edges[0]), float(geometry.edges[-1])
    again = Geometry.from_poni(PONI, radial_range=span, cache_dir=cache_dir)
    assert again.pixel_bins
    assert again.digest == geometry.digest


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_a_mask_removes_its_pixels_and_changes_nothing_else(geometry: Geometry, seed: int, share: float) -> None:
    mask = random_mask(seed, share)
    masked = geometry.masked(mask)

    np.testing.assert_array_equal(masked.mask, geometry.mask | mask)
    kept = ~masked.mask.ravel()
    np.testing.assert_array_equal(masked.bin_table[kept], geometry.bin_table[kept])
    for name in ("edges", "radial", "norm_q", "sector"):
        np.testing.assert_array_equal(getattr(masked, name), getattr(geometry, name))
    assert (masked.digest == geometry.digest) == (not mask.any())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_masks_may_come_in_any_order_or_at_once(geometry: Geometry, cache_dir: Path, seed: int) -> None:
    one, two = random_mask(seed, 0.1), random_mask(seed + 1, 0.2)
    digest = geometry.masked(one | two).digest
    assert geometry.masked(one).masked(two).digest == digest
    assert geometry.masked(two).masked(one).digest == digest
    assert Geometry.from_poni(PONI, mask=one | two, cache_dir=cache_dir).digest == digest


def test_azimuth_fraction_counts_the_sectors_a_bin_is_seen_in(geometry: Geometry) -> None:
    masked = geometry.masked(random_mask(3, 0.7))
    sectors = [set(masked.sector[masked.bin_table == number]) for number in range(masked.bins)]
    np.testing.assert_allclose(masked.azimuth_fraction, [len(seen) / 72 for seen in sectors])
    assert geometry.azimuth_fraction.max() == 1
    assert (geometry.masked(np.ones(SHAPE, np.bool_)).azimuth_fraction == 0).all()


def test_sectors_are_five_degrees_of_the_azimuth_of_pyfai(geometry: Geometry, tmp_path: Path) -> None:
    chi_deg = integrator_of(PONI, tmp_path).center_array(SHAPE, unit="chi_deg").ravel()
    inside = np.abs(chi_deg / 5 - np.round(chi_deg / 5)) > 1e-9  # clear of the border between two sectors
    np.testing.assert_array_equal(geometry.sector[inside], np.floor(chi_deg[inside] / 5 + 36))


CHANGES: list[dict[str, Any]] = [
    {"unit": "q_nm^-1"},
    {"bins": 20},
    {"radial_range": (0.1, 1.0)},
    {"solid_angle": False},
    {"polarization": None},
    {"polarization": 0.5},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_digest_changes_with_every_choice(change: dict[str, Any], geometry: Geometry, cache_dir: Path) -> None:
    assert Geometry.from_poni(PONI, cache_dir=cache_dir, **change).digest != geometry.digest


def test_the_digest_changes_with_the_position_of_the_detector(geometry: Geometry, cache_dir: Path) -> None:
    moved = PONI.replace("Distance: 0.1", "Distance: 0.1000001")
    assert Geometry.from_poni(moved, cache_dir=cache_dir).digest != geometry.digest


def test_the_digest_does_not_know_where_the_poni_came_from(
    geometry: Geometry, cache_dir: Path, tmp_path: Path
) -> None:  # fmt: skip
    keys = {"dist": 0.1, "poni1": 0.0031, "poni2": 0.0024, "rot1": 0.002, "rot2": 0.001, "rot3": 0}
    config = keys | {"wavelength": 3e-11, "detector": "Detector", "detector_config": DETECTOR}
    (tmp_path / "geometry.poni").write_text(PONI)
    (tmp_path / "geometry.json").write_text(json.dumps(config))
    (tmp_path / "worker.json").write_text(json.dumps({"version": 5, "nbpt_rad": 7, "poni": config}))
    for name in ("geometry.poni", "geometry.json", "worker.json"):
        path = tmp_path / name
        read = Geometry.from_poni(path, cache_dir=cache_dir)
        assert (read.digest, read.source, read.poni) == (geometry.digest, str(path), path.read_text())
    assert geometry.source == "<text>"


def test_without_corrections_every_pixel_counts_the_same(cache_dir: Path) -> None:
    plain = Geometry.from_poni(PONI, solid_angle=False, polarization=None, cache_dir=cache_dir)
    assert (plain.norm_q == 2**30).all()
    assert plain.norm_error == 0


@pytest.mark.parametrize(("largest", "quantum"), [(1.0, 2**-30), (2.0, 2**-30), (2.1, 2**-29), (9.0, 2**-27)])
def test_the_quantum_keeps_integer_norms_within_32_bits(largest: float, quantum: float) -> None:
    assert norm_quantum(largest) == quantum
    assert largest / quantum <= 2**31


def test_a_pixel_without_normalization_is_not_used(cache_dir: Path) -> None:
    # Fully polarized light does not scatter at 90 degrees along its polarization, where one pixel is made to be.
    turned = PONI.replace("Rot1: 0.002", f"Rot1: {np.pi / 2}").replace("Rot2: 0.001", "Rot2: 0")
    aimed = turned.replace("Poni1: 0.0031", "Poni1: 0.00315").replace("Poni2: 0.0024", "Poni2: 0.00245")
    sideways = Geometry.from_poni(aimed, polarization=1.0, cache_dir=cache_dir)
    np.testing.assert_array_equal(np.argwhere(sideways.mask), [[31, 24]])
    assert sideways.norm_q.reshape(SHAPE)[31, 24] == 0


# ---------------------------------------------------------------------------------------------------------- errors


def test_a_poni_of_another_detector_names_both_shapes(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "eiger1.poni"
    path.write_text(
        PONI.replace("Detector: Detector", "Detector: Eiger4M").replace(json.dumps(DETECTOR), '{"orientation": 3}')
    )
    with pytest.raises(GeometryMismatch) as caught:
        Geometry.from_poni(path, (2162, 2068), cache_dir=cache_dir)
    assert caught.value.expected_shape == (2162, 2068)
    assert caught.value.poni_shape == (2167, 2070)
    for word in ("2162 x 2068", "2167 x 2070", "Eiger 4M", str(path)):
        assert word in str(caught.value)


UNREADABLE = {
    "empty": ("\n", "Distance"),
    "no PONI": ("one: two\n", "Distance"),
    "no distance": (PONI.replace("Distance", "# Distance"), "Distance"),
    "no number": (PONI.replace("Distance: 0.1", "Distance: far"), "far"),
    "not finite": (PONI.replace("Rot1: 0.002", "Rot1: nan"), "finite"),
    "behind the sample": (PONI.replace("Distance: 0.1", "Distance: -0.1"), "positive"),
    "too recent": (PONI.replace("2.1", "99"), "too recent"),
    "broken JSON": ('{"dist": 0.1,', "JSONDecodeError"),
    "deep JSON": ('{"a":' * 100_000, "RecursionError"),
    "too many pixels": (PONI.replace("[60, 50]", "[1000000, 1000000]"), "1000000 x 1000000"),
    "a line": (PONI.replace("[60, 50]", "[1, 3000]"), "1 x 3000"),
    "no such shape": (PONI.replace("[60, 50]", '"huge"'), "ValueError"),
}


@pytest.mark.parametrize(("poni", "word"), UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.logs_errors  # pyFAI logs what it stumbles over
def test_a_poni_that_makes_no_sense_says_what_is_wrong(poni: str, word: str, tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "wrong.poni"
    path.write_text(poni)
    with pytest.raises(GeometryError, match=word) as caught:
        Geometry.from_poni(path, cache_dir=cache_dir)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"a: b\n" * 300_000], ids=["absent", "binary", "huge"])
def test_a_poni_that_is_no_text_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "wrong.poni"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeometryError, match=r"wrong\.poni"):
        Geometry.from_poni(path)


WRONG_CHOICES: list[tuple[dict[str, Any], str]] = [
    ({"unit": "furlong"}, "2th_deg"),
    ({"bins": 0}, "65534"),
    ({"bins": 65535}, "65534"),
    ({"polarization": 1.5}, "between -1 and 1"),
    ({"radial_range": (2.0, 1.0)}, "ascending"),
    ({"radial_range": (0.0, float("nan"))}, "finite"),
    ({"radial_range": (100.0, 110.0)}, "no pixel"),
    ({"mask": np.zeros((50, 60), np.bool_)}, "mask"),
]


@pytest.mark.parametrize(("choice", "word"), WRONG_CHOICES, ids=str)
def test_a_choice_that_makes_no_sense_is_refused(choice: dict[str, Any], word: str, cache_dir: Path) -> None:
    with pytest.raises(GeometryError, match=word):
        Geometry.from_poni(PONI, cache_dir=cache_dir, **choice)


def test_scattering_vectors_need_a_wavelength(cache_dir: Path) -> None:
    with pytest.raises(GeometryError, match="Wavelength"):
        Geometry.from_poni(PONI.replace("Wavelength", "# Wavelength"), unit="q_A^-1", cache_dir=cache_dir)


def test_a_detector_without_shape_takes_that_of_the_frames(cache_dir: Path) -> None:
    old = "PixelSize1: 1e-4\nPixelSize2: 1e-4\nDistance: 0.1\nPoni1: 0.003\nPoni2: 0.002\nSplineFile: None\n"
    assert Geometry.from_poni(old, SHAPE, cache_dir=cache_dir).shape == SHAPE
    with pytest.raises(GeometryError, match="shape of the frames"):
        Geometry.from_poni(old, cache_dir=cache_dir)


# ----------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("extension", ["npy", "edf", "tif", "cbf"])
def test_a_mask_file_is_read_as_it_was_written(extension: str, tmp_path: Path) -> None:
    import fabio

    mask = random_mask(1, 0.3)
    path = tmp_path / f"mask.{extension}"
    if extension == "npy":
        np.save(path, mask.astype(np.uint8))
    else:
        image = getattr(fabio, f"{extension}image")
        getattr(image, f"{extension.capitalize()}Image")(data=mask.astype(np.int32) * 3).write(str(path))
    np.testing.assert_array_equal(read_image(path, SHAPE, "mask"), mask * (1 if extension == "npy" else 3))


def test_a_mask_of_another_detector_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.zeros((50, 60), np.uint8))
    with pytest.raises(GeometryError, match=r"mask\.npy.*\(50, 60\).*\(60, 50\)"):
        read_image(tmp_path / "mask.npy", SHAPE, "mask")


@pytest.mark.logs_errors  # fabio logs what it stumbles over
@pytest.mark.parametrize("content", [None, b"", b"no picture"], ids=["absent", "empty", "text"])
def test_an_unreadable_mask_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeometryError, match=r"mask\.tif cannot be read"):
        read_image(path, SHAPE, "mask")
