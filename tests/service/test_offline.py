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
from ringwatch.publish.nexus import FRAME_COLUMNS
from ringwatch.publish.result_file import StoredResult, read_result
from ringwatch.stream.powder import TRUTH
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import Geometry, Integrator
from ringwatch_gpu.sums import RingSums

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


def test_text_and_figure_are_written_beside_the_result(folder: Path) -> None:
    done = ringwatch("reduce", "left.h5", "--poni", "powder.poni", "-o", "out.h5", "--xye", "--plot")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-2:] == ["written: out.xye", "written: out.png"]
    assert 0 < len(np.loadtxt(folder / "out.xye")) <= read_result(folder / "out.h5").radial.size
    clipped = ringwatch("xye", "out.h5", "--profile", "sigma_clip")
    assert (clipped.exit_code, clipped.output) == (0, "written: out_sigma_clip.xye\n")


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


def dark_of(frames: np.ndarray) -> np.ndarray:
    """Different from pixel to pixel, a column of no use."""
    dark = np.random.default_rng(4).uniform(0.0, 3.0, frames.shape[1:])
    dark[:, 7] = np.nan
    return dark


def with_section(folder: Path, lines: str) -> tuple[str, str]:
    section = f'[stream]\nendpoint = "tcp://127.0.0.1:9999"\n[geometry]\nponi = "powder.poni"\n{lines}'
    (folder / "files.toml").write_text(section)
    return "--config", "files.toml"


def reduced(folder: Path, *files: str, lines: str, out: str = "out.h5") -> StoredResult:
    result = ringwatch("reduce", *files, *with_section(folder, lines), "-o", out)
    assert result.exit_code == 0, result.output
    return read_result(folder / out)


def test_a_dark_is_taken_off_and_parts_merge_exactly(folder: Path, frames: np.ndarray) -> None:
    np.save("dark.npy", dark_of(frames))
    lines = 'dark = "dark.npy"\n'
    stored = reduced(folder, "all.h5", lines=lines)
    geometry = Geometry.from_poni(folder / "powder.poni").signed(dark=dark_of(frames))
    expected = Integrator(geometry).integrate(frames)
    assert np.array_equal(stored.sums, expected.words)
    assert (stored.digest, stored.signal_quantum) == (geometry.digest, 2**-8)
    assert (expected.row("signal") < 0).any()
    valid = (frames < 65535) & ~geometry.mask
    assert geometry.dark is not None
    assert stored.image_sum is not None
    subtracted = np.where(valid, frames - geometry.dark, 0)
    np.testing.assert_array_equal(stored.image_sum * stored.signal_quantum, subtracted.sum(0))
    np.testing.assert_array_equal(stored.frames["total_signal"], subtracted.sum((1, 2)))
    reduced(folder, "left.h5", lines=lines, out="a.h5")
    reduced(folder, "right.h5", lines=lines, out="b.h5")
    assert ringwatch("merge", "a.h5", "b.h5", "-o", "c.h5").exit_code == 0
    merged = read_result(folder / "c.h5")
    assert np.array_equal(merged.sums, stored.sums)
    assert np.array_equal(merged.image_sum, stored.image_sum)
    with h5py.File("c.h5") as file, h5py.File("out.h5") as whole:
        for name in ("intensity", "sem", "signal", "variance"):
            profile = whole[f"entry/profiles/mean_union/{name}"][()]
            np.testing.assert_array_equal(file[f"entry/profiles/mean_union/{name}"][()], profile)
            np.testing.assert_allclose(profile, getattr(expected.profile, name))


@pytest.mark.parametrize("lines", ['dark = "dark.npy"\n', "dummy = [-1000]\n"], ids=["dark", "negative"])
def test_signals_of_either_sign_are_split(folder: Path, frames: np.ndarray, lines: str) -> None:
    """With errors of counts: the sums that the library makes, the last row that of the noise."""
    np.save("dark.npy", dark_of(frames))
    signed = np.where(frames >= 65535, -1000, frames.astype(np.int64) - 1).astype(np.int32)
    with h5py.File("signed.h5", "w") as file:
        file["entry/data/data"] = signed
    geometry, dummies = Geometry.from_poni(folder / "powder.poni", splitting="full"), [-1000]
    if "dark" in lines:
        geometry, dummies = geometry.signed(dark=dark_of(frames)), None
    expected = Integrator(geometry, dummies=dummies, tells_noise=True).integrate(signed)
    stored = reduced(folder, "signed.h5", lines=lines + 'splitting = "full"\n[profiles]\nerror_model = "poisson"\n')
    assert stored.sums is not None
    assert np.array_equal(stored.sums, expected.words)
    assert (expected.profile.signal < 0).any()
    assert stored.signal_quantum == geometry.signal_quantum


def test_results_with_and_without_a_dark_are_not_merged(folder: Path, frames: np.ndarray) -> None:
    np.save("dark.npy", dark_of(frames))
    reduced(folder, "left.h5", lines="", out="a.h5")
    reduced(folder, "right.h5", lines='dark = "dark.npy"\n', out="b.h5")
    assert ringwatch("merge", "a.h5", "b.h5", "-o", "c.h5").exit_code == 1


@pytest.mark.parametrize(("lines", "quantum"), [("", 2**-8), ("quantum = 0.125\n", 0.125)])
def test_float_frames_are_rounded_to_the_quantum(folder: Path, frames: np.ndarray, lines: str, quantum: float) -> None:
    floats = np.where(frames >= 65535, np.nan, frames - np.float32(0.3)).astype(np.float32)
    with h5py.File("floats.h5", "w") as file:
        file["entry/data/data"] = floats
    stored = reduced(folder, "floats.h5", lines=lines)
    expected = Integrator(Geometry.from_poni(folder / "powder.poni").signed(quantum)).integrate(floats)
    assert np.array_equal(stored.sums, expected.words)
    assert stored.signal_quantum == quantum


def test_negative_counts_need_a_list_of_dummies(folder: Path, frames: np.ndarray) -> None:
    signed = np.where(frames >= 65535, -1000, frames.astype(np.int64) - 1).astype(np.int32)
    with h5py.File("signed.h5", "w") as file:
        file["entry/data/data"] = signed
    geometry = Geometry.from_poni(folder / "powder.poni")
    stored = reduced(folder, "signed.h5", lines="dummy = [-1000]\n")
    assert np.array_equal(stored.sums, Integrator(geometry, dummies=[-1000]).integrate(signed).words)
    stored = reduced(folder, "signed.h5", lines="", out="positive.h5")
    assert np.array_equal(stored.sums, Integrator(geometry).integrate(np.where(signed < 0, -1, signed)).words)


def test_the_variance_of_a_pixel_can_be_a_model(folder: Path, frames: np.ndarray) -> None:
    """It is published with the mean profiles, of the union and of the summed image; spottiness stays what it is."""
    plain = reduced(folder, "all.h5", lines="", out="plain.h5")
    stored = reduced(folder, "all.h5", lines="[profiles]\nvariance = {gain = 0.5, readout = 3.0}\n")
    union = Integrator(Geometry.from_poni(folder / "powder.poni")).integrate(frames)
    signal, pixels, norm = union.profile.signal, union.row("count").astype(float), union.profile.normalization
    with h5py.File("out.h5") as file:
        for source in ("union", "accumulated"):
            group = file[f"entry/profiles/mean_{source}"]
            np.testing.assert_allclose(group["variance"], 0.5 * signal + 9.0 * pixels)
            filled = norm > 0
            np.testing.assert_allclose(group["sem"][filled], np.sqrt(0.5 * signal + 9 * pixels)[filled] / norm[filled])
    np.testing.assert_array_equal(stored.frames["spottiness"], plain.frames["spottiness"])


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


@pytest.mark.parametrize("kind", ["mean", "sigma_clip", "quantile", "median_clip"])
def test_a_profile_of_each_frame_is_stored_on_request(folder: Path, frames: np.ndarray, kind: str) -> None:
    command = ("reduce", "left.h5", "right.h5", "--poni", "powder.poni", "--each-frame", kind, "-o", "out.h5")
    assert ringwatch(*command).exit_code == 0
    integrator = Integrator(Geometry.from_poni(folder / "powder.poni", POWDER.shape, polarization=0.99))
    with h5py.File(folder / "out.h5") as file:
        stored = file["entry/frames"]
        assert stored["intensity"].attrs["kind"] == kind
        assert stored["frame"][:].tolist() == list(range(11))
        for number in (0, 5, 10):
            if kind == "mean":
                expected = integrator.integrate(frames[number]).profile
            else:
                expected = integrator.reject(frames[number])[kind]
            for name in ("intensity", "sem"):
                values = np.atleast_2d(getattr(expected, name))[0]
                np.testing.assert_array_equal(stored[name][number], values.astype("f4"))


@pytest.mark.parametrize(("scale", "warned"), [(1, True), (100, False)])
def test_quantiles_of_single_frames_of_few_counts_are_warned_of(
    folder: Path, frames: np.ndarray, scale: int, warned: bool
) -> None:
    with h5py.File(folder / "scaled.h5", "w") as file:
        file["/entry/data/data"] = np.where(frames[:2] < 65535, frames[:2] * scale, 65535).astype("u4")
    command = ("reduce", "scaled.h5", "--poni", "powder.poni", "--each-frame", "quantile", "-o", "out.h5")
    assert ("fewer than 20 counts" in ringwatch(*command).output) is warned
    with h5py.File(folder / "out.h5") as file:
        assert ("warning" in file["entry/frames/intensity"].attrs) is warned


def test_without_request_no_profile_of_a_frame_is_stored(folder: Path) -> None:
    assert ringwatch("reduce", "left.h5", "--poni", "powder.poni", "-o", "out.h5").exit_code == 0
    with h5py.File(folder / "out.h5") as file:
        assert set(file["entry/frames"]) == set(FRAME_COLUMNS)


def test_errors_of_counts_are_asked_for_in_the_configuration_and_kept_by_merge(folder: Path) -> None:
    (folder / "config.toml").write_text(
        '[stream]\nendpoint = "tcp://127.0.0.1:9999"\n[geometry]\nponi = "powder.poni"\n'
        '[profiles]\nerror_model = "poisson"\nmedian_clip = true\n'
    )
    assert ringwatch("reduce", "left.h5", "--config", "config.toml", "-o", "out.h5").exit_code == 0
    assert ringwatch("merge", "out.h5", "-o", "merged.h5").exit_code == 0
    for name, profiles in (
        ("out", ("mean_union", "mean_accumulated", "median_clip_accumulated")),
        ("merged", ("mean_union",)),
    ):
        with h5py.File(folder / f"{name}.h5") as file:
            for profile in profiles:
                group = file["entry/profiles"][profile]
                assert group.attrs["error_model"] == "poisson"
                excess = group["variance"][:] - group["signal"][:]
                assert ((excess >= 0) & (excess <= group["count"][:])).all(), "at most one for each pixel"


CONFIG = """\
[stream]
endpoint = "tcp://127.0.0.1:9999"
[geometry]
poni = "powder.poni"
[accumulate]
monitor_reference = 1e6
"""
I0 = [1e6, 9e5, 0.0, 2e6, 1.1e6, np.nan, 1e6, 3e5, 1e6, 1e6, 7e5]


@pytest.fixture
def weighed(folder: Path) -> Path:
    """A configuration with a monitor's reference, and the monitor of all frames and of both halves."""
    (folder / "config.toml").write_text(CONFIG)
    with h5py.File(folder / "i0.h5", "w") as file:
        file["all"], file["left"], file["right"] = I0, I0[:4], np.array(I0[4:])[:, np.newaxis]
    return folder


def test_frames_are_weighed_with_their_monitor(weighed: Path, frames: np.ndarray) -> None:
    source = ("--i0", "i0.h5::/left", "--i0", "i0.h5::/right")
    result = ringwatch("reduce", "all.h5", "--config", "config.toml", *source, "-o", "out.h5")
    assert result.exit_code == 0, result.output
    assert "2 frames were excluded: {'no monitor': 2}" in result.output
    stored, kept = read_result(weighed / "out.h5"), [n for n, i0 in enumerate(I0) if i0 > 0]
    assert (stored.n_frames, stored.fates.excluded["no monitor"]) == (9, 2)
    assert stored.frames["frame"].tolist() == kept
    np.testing.assert_allclose(stored.frames["monitor"], np.array(I0)[kept] / 1e6, rtol=1e-6)
    plain = Integrator(Geometry.from_poni(weighed / "powder.poni"))
    sums = [plain.integrate(frames[n]) for n in kept]
    assert stored.sums is not None
    norm = RingSums(stored.sums, 9, "", stored.norm_quantum).row("norm")
    exposure = [round(I0[n] * 2**20 / 1e6) for n in kept]
    assert list(norm) == list(sum(one.row("norm") * f for one, f in zip(sums, exposure, strict=True)))
    assert stored.digest != sums[0].digest
    with h5py.File(weighed / "out.h5") as file:
        assert file["entry/monitor_applied"][()]


@pytest.mark.parametrize(
    ("source", "said"),
    [("i0.h5::/left", "4 numbers for 11 frames"), ("i0.h5::/none", "--i0 i0.h5::/none"),
     ("i0.h5", "write FILE::/PATH"), ("all.h5::/entry/data/data", "not one number a frame"),
     ("none.h5::/a", "--i0 none.h5::/a")],
)  # fmt: skip
def test_a_monitor_that_does_not_fit_is_refused(weighed: Path, source: str, said: str) -> None:
    result = ringwatch("reduce", "all.h5", "--config", "config.toml", "--i0", source, "-o", "out.h5")
    assert (result.exit_code, (weighed / "out.h5").exists()) == (78, False)
    assert said in result.output


def test_the_monitor_may_be_in_the_file_of_the_frames(weighed: Path) -> None:
    with h5py.File(weighed / "all.h5", "a") as file:
        file["/entry/i0"] = np.full(11, 2000, np.uint32)
    result = ringwatch("reduce", "all.h5", "--config", "config.toml", "--i0", "all.h5::/entry/i0", "-o", "out.h5")
    assert result.exit_code == 0, result.output
    assert read_result(weighed / "out.h5").exposure == 11 * round(2000 * 2**20 / 1e6)


def test_a_monitor_needs_its_reference(weighed: Path) -> None:
    result = ringwatch("reduce", "all.h5", "--poni", "powder.poni", "--i0", "i0.h5::/all", "-o", "out.h5")
    assert result.exit_code == 78
    assert "accumulate.monitor_reference is missing" in result.output


def test_a_monitor_weighs_plain_counts_only(weighed: Path) -> None:
    (weighed / "other.toml").write_text(CONFIG.replace("[accumulate]", "quantum = 0.5\n[accumulate]"))
    result = ringwatch("reduce", "all.h5", "--config", "other.toml", "--i0", "i0.h5::/all", "-o", "out.h5")
    assert result.exit_code == 78
    assert "--i0 cannot be combined with geometry.quantum" in result.output


def test_a_monitor_weighs_split_pixels_and_halves_merge(weighed: Path) -> None:
    """With errors of counts too: all of it is in the file, and comes back from it."""
    text = CONFIG.replace("[accumulate]", 'splitting = "full"\n[profiles]\nerror_model = "poisson"\n[accumulate]')
    (weighed / "split.toml").write_text(text)
    for name in ("all", "left", "right"):
        source = ("--config", "split.toml", "--i0", f"i0.h5::/{name}", "-o", f"{name}_out.h5")
        result = ringwatch("reduce", f"{name}.h5", *source)
        assert result.exit_code == 0, result.output
    assert ringwatch("merge", "right_out.h5", "left_out.h5", "-o", "merged.h5").exit_code == 0
    merged, whole = read_result(weighed / "merged.h5"), read_result(weighed / "all_out.h5")
    assert merged.sums is not None
    assert merged.sums.shape == (7, whole.radial.size, 3)
    assert np.array_equal(merged.sums, whole.sums)
    with h5py.File(weighed / "merged.h5") as file, h5py.File(weighed / "all_out.h5") as all_of_it:
        assert file["entry/ringwatch/sums"].attrs["rows"][-1] == "noise_signal"
        for name in ("intensity", "sem"):
            path = f"entry/profiles/mean_union/{name}"
            np.testing.assert_allclose(file[path][()], all_of_it[path][()], rtol=1e-12)


def test_split_pixels_with_and_without_noise_are_not_merged(folder: Path) -> None:
    for name, model in (("left", "azimuthal"), ("right", "poisson")):
        (folder / "split.toml").write_text(SPLIT + f'error_model = "{model}"\n')
        result = ringwatch("reduce", f"{name}.h5", "--config", "split.toml", "-o", f"{name}_out.h5")
        assert result.exit_code == 0, result.output
    result = ringwatch("merge", "right_out.h5", "left_out.h5", "-o", "merged.h5")
    assert result.exit_code != 0
    assert "whether sums tell the noise of split pixels (True and False)" in result.output


def test_frames_that_all_lack_a_monitor_are_told(weighed: Path) -> None:
    with h5py.File(weighed / "i0.h5", "a") as file:
        file["dark"] = np.zeros(11)
    result = ringwatch("reduce", "all.h5", "--config", "config.toml", "--i0", "i0.h5::/dark", "-o", "out.h5")
    assert result.exit_code == 1
    assert "no frame could be reduced" in result.output


def test_blocks_have_a_file_each_and_merge_to_the_whole(weighed: Path) -> None:
    (weighed / "blocks.toml").write_text(CONFIG + 'window = {kind = "every", frames = 4}\n')
    i0 = ("--i0", "i0.h5::/all")
    whole = ringwatch("reduce", "all.h5", "--config", "config.toml", *i0, "-o", "whole.h5")
    blocks = ringwatch("reduce", "all.h5", "--config", "blocks.toml", *i0, "-o", "block.h5")
    assert (whole.exit_code, blocks.exit_code) == (0, 0), blocks.output
    names = ["block.h5", "block_2.h5", "block_3.h5"]
    parts = [read_result(weighed / name) for name in names]
    assert [(part.n_frames, part.window) for part in parts] == [(n, "every 4 frames") for n in (4, 4, 1)]
    assert [part.frames["frame"].tolist() for part in parts] == [[0, 1, 3, 4], [6, 7, 8, 9], [10]]
    assert ringwatch("merge", *names[:2], "-o", "two.h5").exit_code == 0
    assert ringwatch("merge", names[2], "two.h5", "-o", "merged.h5").exit_code == 0
    merged, expected = read_result(weighed / "merged.h5"), read_result(weighed / "whole.h5")
    assert np.array_equal(merged.sums, expected.sums)
    assert (merged.n_frames, merged.exposure, merged.window) == (9, expected.exposure, "all")
    assert merged.fates.reduced == 9
    again = ringwatch("merge", "merged.h5", "block_2.h5", "-o", "again.h5")
    assert (again.exit_code, (weighed / "again.h5").exists()) == (1, False)
    assert "count twice" in again.output


def test_merged_images_are_the_sum_with_a_monitor_and_different_numbers_of_frames(weighed: Path) -> None:
    for name in ("all", "left", "right"):
        arguments = (f"{name}.h5", "--config", "config.toml", "--i0", f"i0.h5::/{name}", "-o", f"{name}_out.h5")
        assert ringwatch("reduce", *arguments).exit_code == 0
    assert ringwatch("merge", "right_out.h5", "left_out.h5", "-o", "merged.h5").exit_code == 0
    merged, whole = read_result(weighed / "merged.h5"), read_result(weighed / "all_out.h5")
    for name in ("sums", "image_sum", "image_lost", "image_lost_exposure"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name)), name
    assert (merged.exposure, merged.fates) == (whole.exposure, whole.fates)


def test_the_last_frames_are_the_profile_of_the_union(folder: Path, frames: np.ndarray) -> None:
    (folder / "last.toml").write_text(CONFIG.replace("monitor_reference = 1e6", 'window = {kind = "last", frames = 3}'))
    assert ringwatch("reduce", "all.h5", "--config", "last.toml", "-o", "out.h5").exit_code == 0
    expected = Integrator(Geometry.from_poni(folder / "powder.poni")).integrate(frames[-3:]).profile
    with h5py.File(folder / "out.h5") as file:
        union = file["entry/profiles/mean_union"]
        assert (union.attrs["window"], union["n_frames"][()]) == ("last 3 frames", 3)
        assert np.array_equal(union["signal"], expected.signal)
        assert np.array_equal(union["variance"], expected.variance)
    assert read_result(folder / "out.h5").n_frames == 11


@pytest.mark.parametrize(
    ("accumulate", "exit_code", "said"),
    [('window = {kind = "every", seconds = 1.0}', 78, "no time of arrival"),
     ('window = {kind = "last", frames = 9000000}', 1, "of memory")],
)  # fmt: skip
def test_a_window_that_cannot_be_is_refused(folder: Path, accumulate: str, exit_code: int, said: str) -> None:
    (folder / "config.toml").write_text(CONFIG.replace("monitor_reference = 1e6", accumulate))
    result = ringwatch("reduce", "all.h5", "--config", "config.toml", "-o", "out.h5")
    assert result.exit_code == exit_code
    assert said in result.output


def test_single_frames_are_written_and_cannot_be_merged(folder: Path) -> None:
    (folder / "map.toml").write_text(CONFIG.replace("monitor_reference = 1e6", 'scope = "frame"'))
    result = ringwatch("reduce", "all.h5", "--config", "map.toml", "-o", "map.h5")
    assert result.exit_code == 0, result.output
    assert read_result(folder / "map.h5").frames["frame"].tolist() == list(range(11))
    assert ringwatch("reduce", "left.h5", "--poni", "powder.poni", "-o", "left_out.h5").exit_code == 0
    merged = ringwatch("merge", "left_out.h5", "map.h5", "-o", "merged.h5")
    assert merged.exit_code == 1
    assert "single frames" in merged.output


def test_series_of_a_sample_are_concluded_offline_too(folder: Path) -> None:
    (folder / "sample.toml").write_text(CONFIG.replace("monitor_reference = 1e6", 'scope = "sample"'))
    assert ringwatch("reduce", "all.h5", "--config", "sample.toml", "-o", "out.h5").exit_code == 0
    assert read_result(folder / "out.h5").n_frames == 11


@pytest.mark.parametrize(
    ("other", "said"),
    [("bins = 50", "radial bins ("), ("polarization = 0.5", "geometry.polarization (0.99 and 0.5)"),
     ('unit = "q_nm^-1"', "radial unit (2th_deg and q_nm^-1)"), ("solid_angle = false", "geometry.solid_angle")],
)  # fmt: skip
def test_results_that_cannot_be_merged_tell_in_what_they_differ(folder: Path, other: str, said: str) -> None:
    (folder / "a.toml").write_text(CONFIG)
    (folder / "b.toml").write_text(CONFIG.replace("[accumulate]", f"{other}\n[accumulate]"))
    for name in "ab":
        assert ringwatch("reduce", "left.h5", "--config", f"{name}.toml", "-o", f"{name}.h5").exit_code == 0
    refused = ringwatch("merge", "a.h5", "b.h5", "-o", "c.h5")
    assert (refused.exit_code, (folder / "c.h5").exists()) == (1, False)
    assert said in refused.output


def test_results_of_different_monitors_are_refused(weighed: Path) -> None:
    (weighed / "b.toml").write_text(CONFIG.replace("1e6", "2e6"))
    for name, config in (("a", "config.toml"), ("b", "b.toml")):
        arguments = ("left.h5", "--config", config, "--i0", "i0.h5::/left", "-o", f"{name}.h5")
        assert ringwatch("reduce", *arguments).exit_code == 0
    refused = ringwatch("merge", "a.h5", "b.h5", "-o", "c.h5")
    assert "monitor reference (1000000.0 and 2000000.0)" in refused.output


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
