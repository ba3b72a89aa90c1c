"""Geometry of series after series: files read again when they changed, the header's flat field only where it is due."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from ringwatch.config import FilesConfig
from ringwatch.reduction.geometry import GeometrySource
from ringwatch_gpu.errors import GeometryError
from ringwatch_gpu.norms import LARGEST_NORM_ERROR

SHAPE = (40, 50)
PONI = """poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [40, 50], "orientation": 3}
Distance: 0.1
Poni1: 0.002
Poni2: 0.0025
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 1e-10
"""
RNG = np.random.default_rng(2)
FLAT = RNG.uniform(0.9, 1.1, SHAPE).astype(np.float32)
HEADER_FLAT = RNG.uniform(0.4, 1.1, SHAPE).astype(np.float32)
MASK = RNG.random(SHAPE) < 0.1


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("small.poni").write_text(PONI)
    np.save("flat.npy", FLAT)
    np.save("absorption.npy", np.full(SHAPE, 0.5))
    np.save("mask.npy", MASK)
    return tmp_path


class Files:
    """Reads NumPy files, and counts how often."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, source: str, shape: tuple[int, int], name: str) -> NDArray[Any]:
        self.read.append(name)
        image: NDArray[Any] = np.load(source)
        return image


def source_of(*images: str, files: Files | None = None) -> GeometrySource:
    """A source with ``solid_angle`` and polarization off: the norm is the product of the factors."""
    section = {"poni": "small.poni", "solid_angle": False, "polarization": "none"}
    config = FilesConfig.model_validate({"geometry": section | {name: f"{name}.npy" for name in images}})
    return GeometrySource(config.geometry, files or Files())


def test_configured_factors_are_in_every_geometry() -> None:
    source = source_of("mask", "flat", "absorption")
    geometry = source.for_series(SHAPE, None)
    assert geometry is source.base()
    np.testing.assert_array_equal(geometry.mask, MASK)
    norm = (geometry.norm_q * geometry.norm_quantum).reshape(SHAPE)
    np.testing.assert_allclose(norm[~MASK], 0.5 * FLAT[~MASK], rtol=1e-8)


def test_files_are_read_again_when_their_content_changed_and_only_then(folder: Path) -> None:
    files = Files()
    source = source_of("flat", "absorption", files=files)
    first = source.for_series(SHAPE, MASK)
    assert source.for_series(SHAPE, MASK.copy()) is first
    assert files.read == ["flat field", "absorption"]
    np.save("absorption.npy", np.full(SHAPE, 0.25, np.float32))
    second = source.for_series(SHAPE, MASK)
    assert files.read == ["flat field", "absorption"] * 2
    assert second.digest != first.digest


def test_another_mask_in_the_header_keeps_the_very_array_of_norms() -> None:
    """Then the integrator goes on: see `BatchIntegrator.fits`."""
    source = source_of("flat")
    assert source.for_series(SHAPE, MASK).norm_q is source.for_series(SHAPE, ~MASK).norm_q is source.base().norm_q


def test_counts_are_multiplied_by_the_flat_field_of_the_header() -> None:
    geometry = source_of().for_series(SHAPE, MASK, HEADER_FLAT)
    norm = (geometry.norm_q * geometry.norm_quantum).reshape(SHAPE)
    np.testing.assert_allclose(norm[~MASK], 1 / HEADER_FLAT[~MASK].astype(float), rtol=2e-9)
    assert geometry.norm_error < LARGEST_NORM_ERROR


def test_pixels_without_a_flat_field_in_the_header_are_ignored_and_masked_ones_need_none() -> None:
    flat = HEADER_FLAT.copy()
    flat[3, 4], flat[5, 6], flat[7, 8] = 0, np.nan, -1
    flat[MASK] = 1e-6  # such values are found where pixels are masked: they must not spoil the unit of the norms
    geometry = source_of().for_series(SHAPE, MASK, flat)
    bad = np.zeros(SHAPE, bool)
    bad[3, 4] = bad[5, 6] = bad[7, 8] = True
    np.testing.assert_array_equal(geometry.mask, MASK | bad)
    assert geometry.norm_error < LARGEST_NORM_ERROR


def test_the_same_header_gives_the_very_same_geometry() -> None:
    source = source_of()
    flat = HEADER_FLAT.copy()
    flat[0, 0] = np.nan
    first = source.for_series(SHAPE, MASK, flat)
    assert source.for_series(SHAPE, MASK.copy(), flat.copy()) is first
    assert source.for_series(SHAPE, MASK, flat * np.float32(1.5)) is not first
    without = source.for_series(SHAPE, MASK)
    assert without.flat is None
    assert without.digest != first.digest


def test_a_dark_is_in_every_geometry_and_read_again_when_it_changed(folder: Path) -> None:
    np.save("dark.npy", FLAT)
    source = source_of("mask", "flat", "dark")
    geometry = source.for_series(SHAPE, None)
    assert geometry is source.base()
    assert geometry.quantum == 2**-8
    np.testing.assert_allclose(geometry.dark, FLAT, atol=2**-9)
    assert source.for_series(SHAPE, None, HEADER_FLAT).dark_q is geometry.dark_q
    np.save("dark.npy", np.full(SHAPE, 2))
    again = source.for_series(SHAPE, None)
    assert again.dark is not None
    assert (again.dark == 2).all()
    assert again.digest != geometry.digest


def test_only_floats_need_a_quantum_and_the_configured_one_wins() -> None:
    source = source_of("flat")
    plain = source.for_series(SHAPE, None)
    assert plain.quantum is None
    assert source.for_series(SHAPE, None, is_float=True).quantum == 2**-8
    assert source.for_series(SHAPE, None) is plain
    section = {"poni": "small.poni", "quantum": 0.25}
    configured = GeometrySource(FilesConfig.model_validate({"geometry": section}).geometry, Files())
    assert configured.for_series(SHAPE, None, is_float=True) is configured.for_series(SHAPE, None)
    assert configured.base().quantum == 0.25


def test_a_configured_flat_field_wins_over_that_of_the_header_and_the_log_says_so() -> None:
    with capture_logs() as log:
        configured = source_of("flat").for_series(SHAPE, MASK, HEADER_FLAT)
        assert configured.digest == source_of("flat").for_series(SHAPE, MASK).digest
        source_of("absorption").for_series(SHAPE, MASK, HEADER_FLAT)
    assert [(entry["used"], entry["reason"]) for entry in log] == [
        (False, "geometry.flat takes its place"),
        (True, "the detector did not apply it"),
    ]


def test_factors_that_cannot_be_rounded_well_are_told() -> None:
    np.save("flat.npy", np.full(SHAPE, 1e-7))
    with capture_logs() as log:
        source_of("flat").for_series(SHAPE, None)
    assert [entry["log_level"] for entry in log] == ["warning"]
    assert "rounded coarsely" in log[0]["event"]


@pytest.mark.parametrize("flat", [np.ones((50, 40), np.float32), np.zeros(SHAPE, np.float32)], ids=["shape", "zero"])
def test_a_flat_field_in_the_header_that_makes_no_sense_is_refused(flat: NDArray[np.float32]) -> None:
    with pytest.raises(GeometryError, match="flat field"):
        source_of().for_series(SHAPE, None, flat)
