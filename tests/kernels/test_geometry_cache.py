"""The cache of geometries: a hit is the same as a miss, and no file in it is ever trusted."""

import json
import logging
import os
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwatch_gpu import geometry as geometry_module
from ringwatch_gpu import geometry_cache, geometry_pyfai
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.geometry_pyfai import PixelTables

DETECTOR = {"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [20, 16], "orientation": 3}
PONI = f"""poni_version: 2.1
Detector: Detector
Detector_config: {json.dumps(DETECTOR)}
Distance: 0.1
Poni1: 0.001
Poni2: 0.0008
Wavelength: 3e-11
"""


def build(cache_dir: Path, **choice: Any) -> Geometry:
    return Geometry.from_poni(PONI, cache_dir=cache_dir, **choice)


def stored_file(cache_dir: Path) -> Path:
    (path,) = cache_dir.iterdir()
    return path


def same(one: Geometry, two: Geometry) -> bool:
    pairs = ((getattr(one, field.name), getattr(two, field.name)) for field in fields(Geometry))
    return all(np.array_equal(a, b) and type(a) is type(b) for a, b in pairs)


@pytest.fixture
def built(tmp_path: Path) -> Geometry:
    return build(tmp_path)


def test_a_hit_equals_a_miss_bit_for_bit(tmp_path: Path, built: Geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry_module, "load_integrator", lambda *_: pytest.fail("built although kept"))
    assert same(build(tmp_path), built)


def test_masks_are_not_part_of_what_is_kept(tmp_path: Path, built: Geometry) -> None:
    mask = np.zeros(built.shape, np.bool_)
    mask[:5] = True
    assert build(tmp_path, mask=mask).digest == built.masked(mask).digest
    assert build(tmp_path).digest == built.digest
    assert len(list(tmp_path.iterdir())) == 1


def test_another_choice_or_another_pyfai_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path)
    build(tmp_path, bins=7)
    build(tmp_path, shape=(20, 16))
    monkeypatch.setattr(geometry_pyfai, "version", lambda _: "2099.1")
    build(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_wavelength_that_is_not_known_stays_unknown(tmp_path: Path) -> None:
    poni = PONI.replace("Wavelength", "# Wavelength")
    assert Geometry.from_poni(poni, cache_dir=tmp_path).wavelength_m is None
    assert Geometry.from_poni(poni, cache_dir=tmp_path).wavelength_m is None


def test_no_damage_of_any_byte_is_believed(tmp_path: Path, built: Geometry) -> None:
    path = stored_file(tmp_path)
    content = path.read_bytes()
    key = path.stem.removeprefix("geometry-")
    whole = geometry_cache.load(tmp_path, key)
    assert whole is not None
    for position in range(0, len(content), 37):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        tables = geometry_cache.load(tmp_path, key)
        assert tables is None or same(Geometry.from_tables(tables, PONI, "<text>"), built)
        path.write_bytes(content[:position])
        assert geometry_cache.load(tmp_path, key) is None


def foreign_text(path: Path) -> None:
    path.write_bytes(b"not a zip file at all")


def other_arrays(path: Path) -> None:
    np.savez(path, data=np.zeros(3))


def pickled_objects(path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"edges": np.array([print, None], dtype=object)})


def compressed(path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez_compressed(path, **arrays)


def half_the_pixels(path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"sector": arrays["sector"][::2]})


def another_type(path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"bin_table": arrays["bin_table"].astype(np.int64)})


def moved_pixel(path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["bin_table"][0] += 1
    np.savez(path, **arrays)


def newer_format(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"NUMPY\x01\x00", b"NUMPY\x03\x00"))


FORGERIES = [
    foreign_text, other_arrays, pickled_objects, compressed, half_the_pixels, another_type, moved_pixel, newer_format
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_foreign_file_is_replaced(
    forge: Callable[[Path], None], tmp_path: Path, built: Geometry, caplog: pytest.LogCaptureFixture
) -> None:
    path = stored_file(tmp_path)
    forge(path)
    assert same(build(tmp_path), built)
    assert "damaged" in caplog.text
    caplog.clear()
    assert same(build(tmp_path), built)
    assert not caplog.records


def bin_out_of_range(tables: PixelTables) -> PixelTables:
    return replace(tables, bin_table=np.full_like(tables.bin_table, tables.radial.size + 1))


def sector_out_of_range(tables: PixelTables) -> PixelTables:
    return replace(tables, sector=np.full_like(tables.sector, 72))


def used_pixel_without_norm(tables: PixelTables) -> PixelTables:
    return replace(tables, norm_q=np.zeros_like(tables.norm_q))


DANGERS = [bin_out_of_range, sector_out_of_range, used_pixel_without_norm]


@pytest.mark.parametrize("danger", DANGERS, ids=lambda danger: danger.__name__)
@pytest.mark.usefixtures("built")
def test_numbers_that_kernels_would_stumble_over_are_refused(
    danger: Callable[[PixelTables], PixelTables], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = stored_file(tmp_path).stem.removeprefix("geometry-")
    tables = geometry_cache.load(tmp_path, key)
    assert tables is not None
    geometry_cache.store(tmp_path, key, danger(tables))
    assert geometry_cache.load(tmp_path, key) is None
    assert "out of range" in caplog.text


def test_the_oldest_files_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, bins in enumerate((5, 6, 7)):
        build(tmp_path, bins=bins)
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, ns=(age, age))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr(geometry_cache, "MAX_BYTES", 2.5 * newest.stat().st_size)
    build(tmp_path, bins=8)
    left = set(tmp_path.iterdir())
    assert len(left) == 2
    assert {before[path] for path in left if path in before} == {2}


def test_the_bound_never_removes_what_was_just_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry_cache, "MAX_BYTES", 1)
    build(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_where_nothing_can_be_kept_the_geometry_is_built_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    assert build(blocked).shape == (20, 16)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(geometry_cache.np, "savez", full)
    build(tmp_path)
    assert not list(tmp_path.iterdir())
    assert "No space left" in caplog.text


def test_a_detector_described_by_a_second_file_is_not_kept(tmp_path: Path) -> None:
    import pyFAI.detectors

    description = tmp_path / "detector.h5"
    pyFAI.detectors.Detector(1e-4, 1e-4, max_shape=(20, 16), orientation=3).save(str(description))
    config = json.dumps({"filename": str(description), "orientation": 3})
    poni = PONI.replace("Detector: Detector", "Detector: NexusDetector").replace(json.dumps(DETECTOR), config)
    kept = tmp_path / "kept"
    assert Geometry.from_poni(poni, cache_dir=kept).shape == (20, 16)
    assert not kept.exists()


def test_the_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Geometry.from_poni(PONI)
    assert [path.suffix for path in (tmp_path / "ringwatch").iterdir()] == [".npz"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert geometry_cache.default_folder() == Path.home() / ".cache" / "ringwatch"
