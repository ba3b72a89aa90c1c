"""One accumulation written and read back; what is not a result file is refused, with its path and the reason."""

import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the image's compression
import numpy as np
import pytest
import silx.io
from silx.io.nxdata import get_default
from silx.io.utils import h5py_read_dataset

from ringwatch.messages import RingTable, SeriesResult
from ringwatch.publish import checked_hdf5, nexus, provenance
from ringwatch.publish.result_file import (
    ResultFileError,
    ResultFileExistsError,
    StoredResult,
    read_result,
    write_result,
)

CONFIG = '{"geometry": {"solid_angle": true, "polarization": "none"}}'
PONI = (
    "# Calibration\nponi_version: 2.1\nDetector: Detector\nDistance: 0.1\nWavelength: 1.54e-10\nWavelength: 2.846e-11\n"
)


@pytest.fixture(scope="module")
def result(results) -> SeriesResult:
    rng = np.random.default_rng(5)
    return replace(
        results.result(),
        header={"nimages": 3, "energy": 65000.0, "name": "détecteur", "flat": None, "trigger": True},
        sums=rng.integers(0, 2**64, (6, 4, 2), np.uint64),
        signal_quantum=2.0**-8,
        image_sum=rng.integers(-(2**40), 2**40, (8, 8), np.int64),
        image_lost=rng.integers(0, 3, (8, 8), np.uint32),
        fates=results.snapshot().fates,
        missing=((3, 4), (9, 9)),
        poni=PONI,
        versions={"ringwatch": "0.1.0", "pyFAI": "2026.9.0"},
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory, results, result) -> Path:
    path = tmp_path_factory.mktemp("written") / "result.h5"
    write_result(
        path, result, config=CONFIG, started_ns=result.time_ns - 10**9,
        profiles=[results.profile(source="union"), results.profile(source="accumulated", n_frames=3)],
        frames=[nexus.frame_columns(results.rows(0, 2)), nexus.frame_columns(results.rows(2, 5))],
        snapshots=[nexus.snapshot_columns(snapshot) for snapshot in (results.snapshot(1), results.measured(3))],
        decisions=[nexus.decision_columns(results.decision(n)) for n in (1, 3)], rings=results.rings(),
    )  # fmt: skip
    return path


@pytest.fixture
def path(written, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copy(written, tmp_path))


def test_everything_that_merging_needs_comes_back(path, result, results):
    stored = read_result(path)
    for name in ("origin", "time_ns", "reason", "header", "n_frames", "unit", "exact", "norm_quantum",
                 "signal_quantum", "fates", "missing", "poni", "versions"):  # fmt: skip
        assert getattr(stored, name) == getattr(result, name), name
    for name in ("radial", "edges", "sums", "image_sum", "image_lost"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(result, name))
        assert getattr(stored, name).dtype == getattr(result, name).dtype
    assert (stored.digest, stored.config) == ("d1ce57", CONFIG)
    np.testing.assert_array_equal(stored.frames["frame"], np.arange(7))
    assert stored.frames["total_signal"].tolist() == [2**53 - 1] * 7
    expected = [*results.rows(0, 2).spottiness_rings, *results.rows(2, 5).spottiness_rings]
    np.testing.assert_array_equal(stored.frames["spottiness_rings"], expected)


def test_what_was_read_can_be_written_again(path, tmp_path):
    stored = read_result(path)
    merged = replace(stored, n_frames=6)
    again = tmp_path / "again.h5"
    write_result(again, merged, config=stored.config, profiles=(), frames=(stored.frames, stored.frames))
    assert read_result(again).frames["frame"].tolist() == [*range(7), *range(7)]
    assert read_result(again).n_frames == 6


def test_a_weighed_result_comes_back(tmp_path, result):
    sums, lost = result.sums.repeat(2, axis=2)[..., :3], np.full((8, 8), 2**40, np.uint64)
    origin = replace(result.origin, accumulation="s12", generation=3)
    weighed = replace(
        result, origin=origin, sums=sums, monitor_reference=0.7, exposure=2**63 + 1, image_sum=lost.astype("<i8"),
        image_lost=lost.astype("<u4"), image_lost_exposure=lost, window="every 3 frames", parts=("s12 3", "s13 1"),
    )  # fmt: skip
    write_result(tmp_path / "weighed.h5", weighed, config="{}", profiles=())
    stored = read_result(tmp_path / "weighed.h5")
    for name in ("origin", "monitor_reference", "exposure", "window", "parts"):
        assert getattr(stored, name) == getattr(weighed, name), name
    for name in ("sums", "image_lost_exposure"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(weighed, name))


def test_single_frames_have_no_sums(tmp_path, result):
    path = tmp_path / "frames.h5"
    write_result(path, replace(result, sums=None, image_sum=None, window="none"), config="{}", profiles=())
    stored = read_result(path)
    assert (stored.sums, stored.window, stored.n_frames) == (None, "none", 3)


def test_images_are_compressed_with_bitshuffle_lz4(path):
    with h5py.File(path) as file:
        for name in ("sum", "lost"):
            assert "32008" in file["entry/image"][name]._filters
            assert file["entry/image"][name].chunks == (8, 8)


# ------------------------------------------------------------------------------------------------ for NeXus readers


def test_silx_opens_the_accumulated_pattern_by_itself(path, results):
    shown = results.profile(source="accumulated")
    with silx.io.open(path) as file:
        plot = get_default(file)
        assert plot.signal_dataset_name == "I"
        np.testing.assert_array_equal(h5py_read_dataset(plot.signal), shown.intensity[None])
        np.testing.assert_array_equal(h5py_read_dataset(plot.errors), shown.sem[None])
        assert plot.axes_names == [None, "2theta"]
        assert plot.interpretation == "spectrum"


def test_pyfai_opens_the_accumulated_pattern_by_itself(path, results):
    from pyFAI.io.nexus import Nexus

    shown = results.profile(source="accumulated")
    with Nexus(str(path), "r") as file:
        data = file.get_default_NXdata()
        np.testing.assert_array_equal(data["I"][0], shown.intensity)
        np.testing.assert_array_equal(data["I_errors"][0], shown.sem)


PLOTS = [f"plots/{name}" for name in ("frames", "snapshots", "decisions", "rings", "image")]
GROUPS = [*PLOTS, "profiles/mean_union", "profiles/mean_accumulated"]


@pytest.mark.parametrize("group", GROUPS)
def test_silx_can_plot_every_group_with_data(path, group):
    with silx.io.open(path) as file:
        plot = get_default(file[f"entry/{group}"])
        assert plot is not None
        assert plot.is_valid


def test_profiles_without_outliers_stand_beside_the_mean_which_is_shown(tmp_path, results, result):
    kinds = ("mean", "sigma_clip", "quantile", "median_clip")
    profiles = [results.profile(kind, "accumulated") for kind in kinds]
    profiles[1:3] = [replace(profile, intensity=np.full(4, 7.0), warning="few counts") for profile in profiles[1:3]]
    write_result(tmp_path / "all.h5", result, config="{}", profiles=profiles)
    with h5py.File(tmp_path / "all.h5") as file:
        stored = file["entry/profiles"]
        assert set(stored) == {f"{kind}_accumulated" for kind in kinds}
        warned = {name for name, group in stored.items() if group.attrs.get("warning") == "few counts"}
        assert warned == {"sigma_clip_accumulated", "quantile_accumulated"}
        assert stored["quantile_accumulated/intensity"][:].tolist() == [7.0] * 4
        assert file["entry/data/I"][0].tolist() == results.profile().intensity.tolist()


def test_without_a_summed_image_the_union_is_shown(tmp_path, results, result):
    path = tmp_path / "union.h5"
    write_result(path, result, config="{}", profiles=[results.profile(source="union")])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["entry/data/I"][0], results.profile().intensity)
        assert list(file["entry/profiles"]) == ["mean_union"]


def test_nxvalidate_accepts_it_as_nxazint1d(path):
    """nexusformat's own program, with the definition that comes with it: nothing is missing, nothing is wrong."""
    told = validated(path)
    assert "Application Definition: NXazint1d" in told
    assert "Total number of warnings: 0" in told
    assert "Total number of errors: 0" in told


def test_nxvalidate_would_notice(path):
    with h5py.File(path, "r+") as file:
        del file["entry/reduction/program"]
    assert "Total number of errors: 1" in validated(path)


def validated(path):
    program = Path(sys.executable).with_name("nxvalidate")
    return subprocess.run([program, path], capture_output=True, text=True, check=True, timeout=60).stdout


def test_fields_of_nxazint1d(path, result):
    with h5py.File(path) as file:
        entry = file["entry"]
        assert entry["definition"].asstr()[()] == "NXazint1d"
        assert entry["start_time"].asstr()[()] == "2023-11-14T22:13:19.000+00:00"
        assert entry["end_time"].asstr()[()] == "2023-11-14T22:13:20.000+00:00"
        assert entry["instrument/monochromator/wavelength"][()] == pytest.approx(0.2846)
        assert entry["instrument/monochromator/energy"][()] == pytest.approx(43.564, abs=1e-3)
        assert {name: bool(entry[name][()]) for name in entry if name.endswith("_applied")} == {
            "solid_angle_applied": True,
            "monitor_applied": False,
            "polarization_applied": False,
            "normalization_applied": True,
        }
        axis = entry["data/radial_axis"].attrs
        assert (axis["long_name"], axis["units"]) == ("2theta", "degrees")
        np.testing.assert_array_equal(entry["data/radial_axis_edges"], result.edges)
        assert entry["reduction/program"].asstr()[()] == "ringwatch"
        assert entry["reduction/input/config"].asstr()[()] == CONFIG
        assert list(entry["ringwatch/sums"].attrs["rows"]) == [
            "signal", "signal_sq", "norm_signal", "norm", "norm_sq", "count"
        ]  # fmt: skip


def test_a_snapshot_row_holds_what_was_known(path):
    with h5py.File(path) as file:
        row = {name: column[1] for name, column in file["entry/snapshots"].items()}
    assert set(row) == set(nexus.SNAPSHOT_COLUMNS)
    assert (row["n_frames"], row["accumulated_n_frames"]) == (3, 3)
    assert (row["union_spottiness"], row["accumulated_spottiness_rings"]) == (0.163, 0.021)
    assert (row["averaged_spottiness"], row["averaged_spottiness_weighted"]) == (0.025, 0.061)
    assert [row[f"ring_uncertainty{part}"] for part in ("", "_low", "_high")] == [0.034, 0.030, 0.039]
    assert (row["ring_uncertainty_bound"], row["spots_bound"], row["spots_high"]) == (b"", b"lower", np.inf)
    assert (row["independent_frames"], row["photon_share"], row["statistics_n_frames"]) == (58, 0.75, 3)
    assert np.isnan(row["repeating_fraction"])


def test_a_snapshot_before_the_first_evaluation_has_nan(results):
    row = nexus.snapshot_columns(results.snapshot(1, accumulated=None))
    assert np.isnan(row["accumulated_spottiness"]).all()
    assert row["accumulated_n_frames"] == [0]
    assert np.isnan(row["ring_uncertainty"]).all()
    assert row["statistics_n_frames"] == [0]


def test_a_decision_row_holds_what_was_decided(path, results):
    with h5py.File(path) as file:
        table = file["entry/decisions"]
        assert set(table) == set(nexus.DECISION_COLUMNS)
        texts = {name: table[name].asstr()[1] for name in ("metric", "action", "reason_code", "sentence")}
        numbers = {name: table[name][1] for name in ("n_frames", "value", "target", "forecast_frames", "armed")}
        assert np.isnan([table["forecast_high"][1], table["score_value"][1]]).all()
        assert table["forecast_limit"].asstr()[1] == "grains"
    assert texts == {
        "metric": "ring_uncertainty",
        "action": "continue",
        "reason_code": "above_target",
        "sentence": results.decision().sentence,
    }
    assert numbers == {"n_frames": 3, "value": 0.034, "target": 0.02, "forecast_frames": 1190, "armed": False}


def test_a_long_sentence_ends_with_a_whole_character(results):
    (data,) = nexus.decision_columns(results.decision(sentence="a" + 400 * "Å" + "\0\ud800"))["sentence"]
    assert data.decode() == "a" + 255 * "Å"


def test_the_rings_come_with_all_that_is_known_of_them(path, results):
    with h5py.File(path) as file:
        rings = {name: column[:] for name, column in file["entry/rings"].items()}
    assert rings.keys() == {field.name for field in fields(RingTable)}
    for name, column in rings.items():
        np.testing.assert_array_equal(column, getattr(results.rings(), name))


@pytest.mark.parametrize(
    ("poni", "wavelength"),
    [
        (PONI, 0.2846),
        ('{"dist": 0.1, "wavelength": 1e-10, "detector": "Pilatus1M"}', 1.0),
        ("Distance: 0.1\n", None),
        ("Wavelength: None\n", None),
        ("Wavelength: 1e-1e0\n", None),
        ("Wavelength: -1e-10\n", None),
        ("# Wavelength: 1e-10\n", None),
        ("", None),
    ],
)
def test_wavelength_of_a_poni(poni, wavelength):
    assert provenance.wavelength_angstrom(poni) == (None if wavelength is None else pytest.approx(wavelength))


@pytest.mark.parametrize("config", ["{}", '{"geometry": null}', '{"geometry": [1]}'])
def test_corrections_the_configuration_does_not_name_are_not_claimed(config):
    assert provenance.corrections(config) == {"normalization_applied": True}


def test_texts_that_hdf5_cannot_store_lose_only_what_is_in_the_way(tmp_path, result):
    path = tmp_path / "hostile.h5"
    origin = replace(result.origin, sample="a\0b\ud800c")
    write_result(path, replace(result, origin=origin, header={"x\0": "\udfff\0"}), config="{}", profiles=())
    stored = read_result(path)
    assert stored.origin.sample == "ab?c"
    assert stored.header == {"x\0": "\udfff\0"}


# ---------------------------------------------------------------------------------------------------- never damage


def test_an_existing_file_is_never_overwritten(path, result):
    before = path.read_bytes()
    with pytest.raises(ResultFileExistsError, match=r"result\.h5: exists"):
        write_result(path, result, config="{}", profiles=())
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["result.h5"]


def test_a_file_that_appears_while_writing_is_not_overwritten_either(tmp_path, result, results):
    path = tmp_path / "late.h5"

    def rows():
        yield nexus.frame_columns(results.rows())
        path.write_text("somebody else's")

    with pytest.raises(ResultFileExistsError, match=r"late\.h5"):
        write_result(path, result, config="{}", profiles=(), frames=rows())
    assert path.read_text() == "somebody else's"
    assert [p.name for p in tmp_path.iterdir()] == ["late.h5"]


def test_a_failed_write_leaves_nothing_behind(tmp_path, result):
    def rows():
        raise OSError(28, "No space left on device")
        yield {}

    with pytest.raises(ResultFileError, match=r"full\.h5: cannot be written: .*No space left"):
        write_result(tmp_path / "full.h5", result, config="{}", profiles=(), frames=rows())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_named(tmp_path, result):
    with pytest.raises(ResultFileError, match=r"nowhere/r\.h5: cannot be written"):
        write_result(tmp_path / "nowhere" / "r.h5", result, config="{}", profiles=())
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultFileError, match=r"file/r\.h5: cannot be written"):
        write_result(tmp_path / "file" / "r.h5", result, config="{}", profiles=())


# ---------------------------------------------------------------------------------------------------- not trusted


def test_no_file_and_no_hdf5(tmp_path):
    with pytest.raises(ResultFileError, match=r"gone\.h5: no such file"):
        read_result(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(ResultFileError, match=r"text\.h5: is no result file"):
        read_result(tmp_path / "text.h5")


def test_some_other_hdf5_file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = 1
    with pytest.raises(ResultFileError, match=r"other\.h5: .*/entry is missing"):
        read_result(tmp_path / "other.h5")


READ = [
    *(f"ringwatch/{name}" for name in (
        "schema", "sums", "radial", "edges", "n_frames", "time_ns", "norm_quantum", "signal_quantum", "exact", "unit",
        "reason", "poni", "series", "unique_id", "sample", "generation", "digest", "header", "versions", "fates",
        "missing", "config",
    )),
    *(f"frames/{name}" for name in nexus.FRAME_COLUMNS),
    "image/sum",
    "image/lost",
]  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_is_missing_is_named(path, name):
    with h5py.File(path, "r+") as file:
        del file["entry"][name]
    with pytest.raises(ResultFileError, match=f"/entry/{name} is missing"):
        read_result(path)


@pytest.mark.parametrize("name", READ)
def test_what_has_a_wrong_shape_or_type_is_named(path, name):
    with h5py.File(path, "r+") as file:
        del file["entry"][name]
        file["entry"][name] = np.zeros((2, 2, 2), np.int16)
    with pytest.raises(ResultFileError, match=f"/entry/{name} is "):
        read_result(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema", 2),
        ("n_frames", -1),
        ("generation", -1),
        ("sums", np.zeros((6, 5, 2), np.uint64)),
        ("edges", np.zeros(4)),
        ("sums", h5py.Empty("<u8")),
        ("header", "[]"),
        ("header", "{"),
        ("header", "[" * 100_000),
        ("config", "3"),
        ("fates", "{}"),
        ("fates", '{"received": -1}'),
        ("fates", '{"received": true}'),
        ("fates", '{"received": {"x": 1}}'),
        ("unit", np.bytes_(b"fixed length")),
    ],
)
def test_wrong_values_are_refused(path, name, value):
    with h5py.File(path, "r+") as file:
        del file["entry/ringwatch"][name]
        file["entry/ringwatch"][name] = value
    with pytest.raises(ResultFileError, match=r"result\.h5: is no result file"):
        read_result(path)


def test_the_counters_of_excluded_frames_must_be_counts(path):
    with h5py.File(path, "r+") as file:
        fates = file["entry/ringwatch/fates"]
        fates[()] = fates.asstr()[()].replace('"no_monitor": 2', '"no_monitor": "2"')
    with pytest.raises(ResultFileError, match="fates: excluded"):
        read_result(path)


def test_a_dataset_that_claims_terabytes_is_refused_before_it_is_read(path):
    with h5py.File(path, "r+") as file:
        for name in ("sum", "lost"):
            del file["entry/image"][name]
        file["entry/image"].create_dataset("sum", shape=(1 << 21, 1 << 21), dtype="<i8", chunks=(64, 64))
    with pytest.raises(ResultFileError, match=f"more than {checked_hdf5.MAX_ELEMENTS}"):
        read_result(path)


def test_a_damaged_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ResultFileError, match=r"result\.h5: is no result file"):
        read_result(path)


def test_a_stored_result_is_frozen(path):
    stored: StoredResult = read_result(path)
    with pytest.raises(AttributeError):
        stored.n_frames = 1
