"""Recorded frames reduced offline, and results merged: through the command line, as a user does it."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from click.testing import CliRunner, Result

from ringwatch.__main__ import main
from ringwatch.clock import SystemClock
from ringwatch.publish.result_file import read_result
from ringwatch.stream.powder import TRUTH
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import Geometry, Integrator

POWDER = replace(TRUTH, shape=(200, 220), distance_m=0.05, poni1_m=100 * 75e-6, poni2_m=110 * 75e-6)
RULE = """\
[stream]
endpoint = "tcp://127.0.0.1:9999"
[geometry]
poni = "powder.poni"
[rings]
d_spacings_A = [3.1357]
[stop]
metric = "spottiness_rings"
target = 0.001
max_frames = 16
"""
SPLIT = """\
[stream]
endpoint = "tcp://127.0.0.1:9999"
[geometry]
poni = "powder.poni"
bins = 600
splitting = "full"
[profiles]
quantile = [0.4, 0.6]
"""


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    simulator = Simulator(POWDER, 3)
    return np.stack([simulator.frame() for _ in range(11)])


@pytest.fixture
def folder(tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    for name, part in (("all", frames), ("left", frames[:4]), ("right", frames[4:])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            chunks = (1, *POWDER.shape)
            file.create_dataset("/entry/data/data", data=part, chunks=chunks, **hdf5plugin.Bitshuffle(cname="lz4"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ringwatch(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_reduce_gives_the_exact_sums_of_all_files(folder: Path, frames: np.ndarray) -> None:
    result = ringwatch("reduce", "left.h5", "right.h5", "--poni", "powder.poni", "-o", "out.h5")
    assert result.exit_code == 0, result.output
    assert "11 frames reduced" in result.output
    stored = read_result(folder / "out.h5")
    expected = Integrator(Geometry.from_poni(folder / "powder.poni")).integrate(frames)
    assert np.array_equal(stored.sums, expected.words)
    assert list(stored.frames["frame"]) == list(range(11))
    assert stored.image_sum is not None
    valid = frames < 65535
    assert np.array_equal(stored.image_sum, np.where(valid, frames, 0).sum(0, dtype=np.uint64))


@pytest.fixture
def watched(folder: Path, frames: np.ndarray) -> Path:
    """Forty frames, and a configuration that would have stopped after sixteen."""
    (folder / "rule.toml").write_text(RULE)
    with h5py.File(folder / "forty.h5", "w") as file:
        file["/entry/data/data"] = np.concatenate([frames] * 4)[:40]
    return folder


def table(path: Path, *columns: str, group: str = "decisions") -> list[tuple[object, ...]]:
    with h5py.File(path) as file:
        return list(zip(*(file[f"/entry/{group}/{name}"][()].tolist() for name in columns), strict=True))


def test_recorded_frames_are_decided_upon_and_the_last_word_is_told(watched: Path) -> None:
    result = ringwatch("reduce", "forty.h5", "--config", "rule.toml", "-o", "out.h5")
    assert result.exit_code == 0, result.output
    decisions = table(watched / "out.h5", "n_frames", "reason_code", "score_n_frames")
    assert next(frame for frame, reason, _ in decisions if reason == b"max_frames") == 16
    assert decisions[-1] == (40, b"over", 16.0)
    (sentence,) = table(watched / "out.h5", "sentence")[-1]
    assert isinstance(sentence, bytes)
    assert sentence.decode() in result.output
    with h5py.File(watched / "out.h5") as file:
        assert file["/entry/rings/d_spacing_A"][()].tolist() == [3.1357]
        assert {frame for frame, *_ in decisions} <= set(file["/entry/snapshots/accumulated_n_frames"][()])


def test_decisions_on_recorded_frames_do_not_depend_on_the_speed_of_the_machine(
    watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ringwatch("reduce", "forty.h5", "--config", "rule.toml", "-o", "fast.h5").exit_code == 0
    seconds = count(0.0, 10.0)
    monkeypatch.setattr(SystemClock, "monotonic_s", lambda _: next(seconds))
    assert ringwatch("reduce", "forty.h5", "--config", "rule.toml", "-o", "slow.h5").exit_code == 0
    for group, columns in (
        ("decisions", ("n_frames", "value", "low", "high", "reason_code", "sentence")),
        ("snapshots", ("n_frames", "statistics_n_frames", "accumulated_spottiness", "crystallites")),
    ):
        fast, slow = (table(watched / f"{name}.h5", *columns, group=group) for name in ("fast", "slow"))
        assert len(fast) > 3
        assert fast == slow


def test_without_a_rule_nothing_is_decided_nor_told(folder: Path) -> None:
    result = ringwatch("reduce", "left.h5", "--poni", "powder.poni", "-o", "out.h5")
    assert table(folder / "out.h5", "n_frames") == []
    assert result.output.splitlines()[-1] == "result: out.h5"
    assert result.output.splitlines()[-2].startswith("  averaged image:")


def test_sums_of_split_pixels_say_that_they_are_rounded_and_merge_all_the_same(
    folder: Path, frames: np.ndarray
) -> None:
    (folder / "split.toml").write_text(SPLIT)
    for name in ("left", "right", "all"):
        result = ringwatch("reduce", f"{name}.h5", "--config", "split.toml", "-o", f"{name}_out.h5")
        assert result.exit_code == 0, result.output
    assert ringwatch("merge", "right_out.h5", "left_out.h5", "-o", "merged.h5").exit_code == 0
    merged, whole = read_result(folder / "merged.h5"), read_result(folder / "all_out.h5")
    assert not whole.exact
    assert not merged.exact
    assert np.array_equal(merged.sums, whole.sums)
    geometry = Geometry.from_poni(folder / "powder.poni", bins=600, splitting="full")
    expected = Integrator(geometry).integrate(frames)
    assert whole.digest == expected.digest
    assert np.array_equal(whole.sums, expected.words)
    with h5py.File(folder / "merged.h5") as file, h5py.File(folder / "all_out.h5") as all_of_it:
        path = "entry/profiles/mean_union/intensity"
        np.testing.assert_array_equal(file[path], expected.profile.intensity)
        assert (
            all_of_it["entry/profiles/quantile_accumulated/intensity"][()][expected.profile.count > 1e-6] >= 0
        ).all()


def test_merged_halves_are_the_whole(folder: Path) -> None:
    for name in ("all", "left", "right"):
        assert ringwatch("reduce", f"{name}.h5", "--poni", "powder.poni", "-o", f"{name}_out.h5").exit_code == 0
    result = ringwatch("merge", "right_out.h5", "left_out.h5", "-o", "merged.h5")
    assert result.exit_code == 0, result.output
    merged, whole = read_result(folder / "merged.h5"), read_result(folder / "all_out.h5")
    assert np.array_equal(merged.sums, whole.sums)
    assert merged.n_frames == whole.n_frames
    assert merged.image_sum is not None
    assert np.array_equal(merged.image_sum, whole.image_sum)
    assert merged.fates == whole.fates


def test_results_that_do_not_belong_together_are_refused(folder: Path) -> None:
    (folder / "config.toml").write_text(
        '[stream]\nendpoint = "tcp://127.0.0.1:9999"\n[geometry]\nponi = "powder.poni"\nbins = 50\n'
    )
    ringwatch("reduce", "left.h5", "--poni", "powder.poni", "-o", "a.h5")
    ringwatch("reduce", "left.h5", "--config", "config.toml", "-o", "b.h5")
    other = ringwatch("merge", "a.h5", "b.h5", "-o", "c.h5")
    assert (other.exit_code, (folder / "c.h5").exists()) == (1, False)
    assert "cannot be merged" in other.output
    twice = ringwatch("merge", "a.h5", "a.h5", "-o", "c.h5")
    assert (twice.exit_code, (folder / "c.h5").exists()) == (1, False)
    assert "count twice" in twice.output


def test_a_result_is_never_overwritten(folder: Path) -> None:
    (folder / "out.h5").write_text("precious")
    result = ringwatch("reduce", "left.h5", "--poni", "powder.poni", "-o", "out.h5")
    assert result.exit_code == 1
    assert (folder / "out.h5").read_text() == "precious"


def test_frames_of_another_detector_name_both_shapes(folder: Path) -> None:
    (folder / "powder.poni").write_text(TRUTH.poni())
    result = ringwatch("reduce", "left.h5", "--poni", "powder.poni", "-o", "out.h5")
    assert result.exit_code == 1
    assert "200 x 220" in result.output
    assert "512 x 512" in result.output


def test_verify_agrees_and_says_so(folder: Path) -> None:
    result = ringwatch("verify", "left.h5", "--poni", "powder.poni", "-n", "2")
    assert result.exit_code == 0, result.output
    assert "agree" in result.output


def test_verify_gives_flat_field_and_absorption_to_both(folder: Path) -> None:
    y, x = np.indices(POWDER.shape) / 200
    np.save("flat.npy", np.where(x > 0.1, 1 + 0.2 * np.sin(5 * y), np.nan))
    np.save("absorption.npy", np.exp(-x))
    section = '[geometry]\nponi = "powder.poni"\nflat = "flat.npy"\nabsorption = "absorption.npy"\n'
    (folder / "config.toml").write_text('stream.endpoint = "tcp://127.0.0.1:1"\n' + section)
    result = ringwatch("verify", "left.h5", "--config", "config.toml", "-n", "1")
    assert result.exit_code == 0, result.output


def test_devices_names_the_one_that_is_used() -> None:
    result = ringwatch("devices")
    assert result.exit_code == 0
    assert "Used unless configured otherwise" in result.output


def test_a_wrong_command_line_exits_with_2(folder: Path) -> None:
    assert ringwatch("reduce", "left.h5", "-o", "out.h5").exit_code == 2
    assert ringwatch("simulate").exit_code == 2
