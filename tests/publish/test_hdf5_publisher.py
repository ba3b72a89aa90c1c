"""The publisher: one file an accumulation, safe names, nothing overwritten, nothing lost while the disk is full."""

import errno
import os
import re
import resource
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from ringwatch.errors import PublishError
from ringwatch.publish import hdf5, nexus
from ringwatch.publish.disk import SLACK_BYTES
from ringwatch.publish.file_names import file_stem
from ringwatch.publish.hdf5 import FileWriteError, Hdf5Publisher
from ringwatch.publish.live_file import LiveFile
from ringwatch.publish.outlet import Outlet
from ringwatch.publish.result_file import read_result

NAME = "{sample}_{series:06d}"


@pytest.fixture
def publisher(tmp_path, clock):
    publisher = Hdf5Publisher(tmp_path / "out", NAME, 5.0, '{"geometry": {}}', clock)
    publisher.open()
    yield publisher
    publisher.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def publish(publisher, *messages):
    for message in messages:
        publisher.publish(message)


def test_a_series_becomes_one_file(publisher, folder, results):
    publish(
        publisher, results.event(), results.event("ready"), results.rows(0), results.measured(3), results.decision(3),
        results.profile(source="union", n_frames=3), results.rows(3, 2), results.status(), results.snapshot(5),
        results.decision(5, "over"), results.profile(source="accumulated", n_frames=5), results.result(),
        results.event("end"),
    )  # fmt: skip
    assert files(folder) == ["LaB6_000017.h5"]
    assert publisher.last_path == folder / "LaB6_000017.h5"
    assert read_result(publisher.last_path).frames["frame"].tolist() == [0, 1, 2, 3, 4]
    with h5py.File(publisher.last_path) as file:
        assert file["entry/snapshots/n_frames"][:].tolist() == [3, 5]
        assert file["entry/decisions/reason_code"].asstr()[:].tolist() == ["above_target", "over"]
        assert file["entry/decisions/sentence"].asstr()[0] == results.decision().sentence
        assert file["entry/rings/d_spacing_A"][:].tolist() == [1.25, 2.5]
        assert file["entry/profiles/mean_accumulated/n_frames"][()] == 5
        assert file["entry/profiles/mean_union"].attrs["window"] == "all"
        assert file["entry/ringwatch/config"].asstr()[()] == '{"geometry": {}}'


def test_series_of_one_sample_become_one_file(publisher, folder, results):
    """No result comes at the end of the first: its live file goes on."""
    first = results.event()
    origin = replace(first.origin, series=18, unique_id="s18", accumulation="s17")
    publish(publisher, first, results.rows(0), results.event("end"))
    assert files(folder) == ["LaB6_000017.live.h5"]
    later = [replace(message, origin=origin) for message in (first, results.rows(0, 2), results.event("end"))]
    publish(publisher, *later)
    assert files(folder) == ["LaB6_000017.live.h5"]
    publisher.publish(replace(results.result(), origin=origin))
    assert files(folder) == ["LaB6_000017.h5"]
    stored = read_result(publisher.last_path)
    assert stored.frames["series"].tolist() == [17, 17, 17, 18, 18]
    assert stored.origin == origin


def test_a_series_without_a_frame_leaves_no_live_file(publisher, folder, results):
    publish(publisher, results.event(), results.event("end"))
    assert files(folder) == []


def test_each_block_of_a_series_has_its_file(publisher, folder, results):
    publisher.publish(results.event())
    for generation in (1, 2, 3):
        origin = replace(results.origin, generation=generation)
        publish(publisher, *(replace(one, origin=origin) for one in (results.rows(generation), results.result())))
    publisher.publish(results.event("end"))
    assert files(folder) == ["LaB6_000017.h5", "LaB6_000017_2.h5", "LaB6_000017_3.h5"]
    assert read_result(folder / "LaB6_000017_3.h5").origin.generation == 3


def test_the_live_file_is_there_before_the_first_frame(publisher, folder, results):
    publisher.publish(results.event("joined"))
    assert files(folder) == ["LaB6_000017.live.h5"]
    publisher.close()
    with h5py.File(folder / "LaB6_000017.live.h5") as file:
        assert set(file["entry/profiles"]) == set(nexus.PROFILE_GROUPS)
        assert file["entry/frames/frame"].shape == (0,)


def test_rows_reach_the_file_after_flush_s(publisher, results, clock):
    publish(publisher, results.event(), results.rows(0))
    clock.advance(4.9)
    publish(publisher, results.rows(3))
    assert publisher._live.pending == 6
    clock.advance(0.1)
    publisher.publish(results.status())
    assert publisher._live.pending == 0
    assert publisher._live._opened()["entry/frames/frame"].shape == (6,)


@pytest.fixture(params=["profiles", "sums"])
def storing(request, tmp_path, clock):
    """A publisher that stores more of each frame than its row."""
    publisher = Hdf5Publisher(tmp_path / "out", NAME, 5.0, "{}", clock, stored=request.param)
    publisher.open()
    yield publisher
    publisher.close()


def test_sums_of_split_pixels_have_more_rows_and_words(tmp_path, clock, results):
    publisher = Hdf5Publisher(tmp_path / "out", NAME, 5.0, "{}", clock, stored="sums")
    publisher.open()
    sums = np.arange(3 * 7 * 4 * 3, dtype=np.uint64).reshape(3, 7, 4, 3)
    rows = results.profiled(0, 3)
    publisher.publish(replace(results.event(), sums_shape=(7, 3)))
    clock.advance(6)
    publisher.publish(replace(rows, profiles=replace(rows.profiles, sums=sums)))
    with h5py.File(next((tmp_path / "out").glob("*.live.h5")), "r", swmr=True, locking=False) as file:
        assert np.array_equal(file["entry/frames/sums"], sums)
    publisher.close()


def test_what_is_stored_of_each_frame_is_in_both_files(storing, folder, results, clock):
    """Live as soon as it is flushed, for readers that look on; whatever the size of the parts it came in."""
    expected = {name: [] for name in nexus.FRAME_PROFILE_COLUMNS[storing._stored]}
    storing.publish(results.event())
    for first, n in ((0, 3), (3, 40), (43, 1)):
        rows = results.profiled(first, n)
        clock.advance(6)
        storing.publish(rows)
        for name, parts in expected.items():
            parts.append(getattr(rows.profiles, name))
    with h5py.File(folder / "LaB6_000017.live.h5", "r", swmr=True, locking=False) as file:
        for name, parts in expected.items():
            assert np.array_equal(file["entry/frames"][name], np.concatenate(parts))
    publish(storing, results.result(), results.event("end"))
    with h5py.File(storing.last_path) as file:
        frames = file["entry/frames"]
        assert set(frames) == {*nexus.FRAME_COLUMNS, *expected}
        for name, parts in expected.items():
            assert np.array_equal(frames[name], np.concatenate(parts))
            assert frames[name].chunks is not None
        assert "intensity" not in frames or frames["intensity"].attrs["kind"] == "mean"
    assert read_result(storing.last_path).frames["frame"].size == 44


def test_bytes_of_single_frames_do_not_wait_in_memory(storing, results, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_PENDING_BYTES", 20_000)
    storing.publish(results.event(bins=100))
    most = results.profiled(0, 8, 100).profiles.sums.nbytes
    for first in range(0, 160, 8):
        storing.publish(results.profiled(first, 8, 100))
        assert storing._live.pending_bytes <= 20_000 + most
    storing.publish(results.result())


def test_wide_rows_are_read_in_small_blocks(tmp_path, results, monkeypatch):
    monkeypatch.setattr(nexus, "BLOCK_BYTES", 5000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        entry = nexus.create_entry(file, results.origin, 0, "{}")
        nexus.append(entry["frames"], nexus.frame_columns(results.profiled(0, 50, 100), "profiles"))
        sizes = [len(part["frame"]) for part in nexus.blocks(entry["frames"])]
    assert sizes == [5] * 10


def test_many_rows_do_not_wait_in_memory(publisher, results):
    publisher.publish(results.event())
    for start in range(0, 4 * hdf5.MAX_PENDING, 4096):
        publisher.publish(results.rows(start, 4096))
        assert publisher._live.pending <= hdf5.MAX_PENDING + 4096
    publisher.publish(results.result())
    np.testing.assert_array_equal(read_result(publisher.last_path).frames["frame"], np.arange(4 * hdf5.MAX_PENDING))


def test_rows_come_back_in_parts(publisher, results, monkeypatch):
    monkeypatch.setattr(nexus, "BLOCK_ROWS", 4)
    publish(publisher, results.event(), results.rows(0, 11), results.result())
    assert read_result(publisher.last_path).frames["frame"].tolist() == list(range(11))


@pytest.mark.parametrize("last", ["result", "end", "abandoned"])
def test_an_accumulation_without_a_frame_leaves_no_file(publisher, folder, results, last):
    empty = replace(results.result(), n_frames=0)
    publish(publisher, results.event(), results.status(), empty if last == "result" else results.event(last))
    assert files(folder) == []
    assert publisher.last_path is None


def test_a_start_that_is_repeated_changes_nothing(publisher, folder, results):
    publish(publisher, results.event(), results.rows(0), results.event(), results.rows(3), results.result())
    assert read_result(publisher.last_path).frames["frame"].size == 6
    assert files(folder) == ["LaB6_000017.h5"]


def test_what_belongs_to_another_series_stays_out(publisher, results, other_results):
    publish(
        publisher, results.event(), results.rows(0), other_results.measured(), other_results.profile(),
        other_results.decision(),
        other_results.event("abandoned"), results.result(),
    )  # fmt: skip
    with h5py.File(publisher.last_path) as file:
        assert file["entry/snapshots/n_frames"].size == 0
        assert file["entry/decisions/n_frames"].size == 0
        assert "rings" not in file["entry"]
        assert list(file["entry/profiles"]) == []


def test_a_new_generation_inside_a_series_gets_its_own_file(publisher, folder, results):
    second = type(results)(generation=2)
    publish(publisher, results.event(), results.rows(0), results.result(), second.rows(3), second.result())
    assert files(folder) == ["LaB6_000017.h5", "LaB6_000017_2.h5"]
    assert read_result(folder / "LaB6_000017_2.h5").frames["frame"].tolist() == [3, 4, 5]
    assert read_result(folder / "LaB6_000017_2.h5").origin.generation == 2


def test_a_series_without_a_result_keeps_its_live_file(publisher, folder, results, other_results):
    publish(publisher, results.event(), results.rows(0), other_results.event())
    assert files(folder) == ["LaB6_000017.live.h5", "LaB6_000018.live.h5"]
    with h5py.File(folder / "LaB6_000017.live.h5") as file:
        assert file["entry/frames/frame"][:].tolist() == [0, 1, 2]


def test_a_result_whose_start_was_lost_is_written_without_rows(publisher, folder, results):
    publisher.publish(results.result())
    assert files(folder) == ["LaB6_000017.h5"]
    assert read_result(publisher.last_path).frames["frame"].size == 0


def test_rows_whose_start_was_lost_are_refused(publisher, results):
    with pytest.raises(PublishError, match="series 17"):
        publisher.publish(results.rows())


# ------------------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("sample", ["../../x", "/etc/passwd", "", "..", ".", "Übung π 試料", "x" * 300, "a\0b\n", "-rf",
                                    "~/x", "{series.__class__}", "\ud800", "CON: *?|<>"])  # fmt: skip
@pytest.mark.parametrize("template", [NAME, "{sample}", "", "../../{sample}", "/{sample}/{series}", "..", ".{series}"])
def test_names_are_plain_files_below_the_folder(tmp_path, sample, template):
    stem = file_stem(template, sample, 7)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", stem)
    assert stem[0] not in ".-"
    assert (tmp_path / f"{stem}_2.live.h5").resolve().parent == tmp_path.resolve()


def test_names_keep_what_is_harmless():
    assert file_stem(NAME, "LaB6_cap-0.3mm", 42) == "LaB6_cap-0.3mm_000042"
    assert file_stem(NAME, "x" * 300, 42).endswith("x_000042")


@pytest.mark.parametrize("sample", ["../../x", "/etc/passwd", "x" * 300, "Übung", ""])
def test_hostile_samples_make_one_file_in_the_folder(publisher, folder, results, sample, tmp_path):
    results = type(results)()
    results.origin = replace(results.origin, sample=sample)
    publish(publisher, results.event(), results.rows(), results.result())
    assert publisher.last_path.parent == folder
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == files(folder) == [publisher.last_path.name]
    assert read_result(publisher.last_path).origin.sample == sample


def test_files_of_the_same_name_are_counted(publisher, folder, results):
    for number in (1, 2, 3):
        again = type(results)(unique_id=f"run {number}")
        publish(publisher, again.event(), again.rows(number), again.result())
    assert files(folder) == ["LaB6_000017.h5", "LaB6_000017_2.h5", "LaB6_000017_3.h5"]
    assert read_result(folder / "LaB6_000017_2.h5").frames["frame"][0] == 2


def test_what_is_in_the_folder_is_never_overwritten(publisher, folder, results):
    theirs = {"LaB6_000017.live.h5": b"left by a crash", "LaB6_000017_2.h5": b"another result"}
    for name, data in theirs.items():
        (folder / name).write_bytes(data)
    publish(publisher, results.event(), results.rows())
    (folder / "LaB6_000017_3.h5").write_bytes(b"came while the series ran")
    publisher.publish(results.result())
    assert {name: (folder / name).read_bytes() for name in theirs} == theirs
    assert (folder / "LaB6_000017_3.h5").read_bytes() == b"came while the series ran"
    assert publisher.last_path.name == "LaB6_000017_4.h5"
    assert read_result(publisher.last_path).frames["frame"].size == 3


# ------------------------------------------------------------------------------------------------- disks that fail


@pytest.fixture
def disk(monkeypatch):
    """A disk that has no space left while ``full`` is set."""
    disk = SimpleNamespace(full=False)
    take = os.posix_fallocate

    def fallocate(*arguments):
        if disk.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        take(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    return disk


@contextmanager
def file_size_limit(size_bytes):
    """No file grows beyond this: to a program a quota and a full disk look the same."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def try_twice(publisher, message):
    """What the thread in front of a publisher does: an error closes and opens it, then the message comes again."""
    for _ in range(2):
        with pytest.raises(FileWriteError) as caught:
            publisher.publish(message)
        publisher.close()
        publisher.open()
    return caught.value


def test_rows_survive_a_full_disk(publisher, folder, results, clock, disk):
    publish(publisher, results.event(), results.rows(0))
    clock.advance(5)
    disk.full = True
    error = try_twice(publisher, results.rows(3))
    assert error.path == folder
    assert "No space left" in str(error)
    disk.full = False
    publish(publisher, results.rows(6), results.result())
    assert read_result(publisher.last_path).frames["frame"].tolist() == list(range(9))
    assert files(folder) == ["LaB6_000017.h5"]


def test_a_disk_that_is_full_for_long_costs_rows_but_no_memory(publisher, results, clock, disk):
    publisher.publish(results.event())
    disk.full = True
    clock.advance(5)
    for start in range(0, 2 * hdf5.MAX_PENDING, 4096):
        with pytest.raises(FileWriteError):
            publisher.publish(results.rows(start, 4096))
    assert publisher._live.pending <= hdf5.MAX_PENDING + 4096


def test_a_result_survives_a_full_disk(publisher, folder, results, other_results, disk):
    publish(publisher, results.event(), results.rows(0))
    disk.full = True
    try_twice(publisher, results.result())
    try_twice(publisher, other_results.event())
    disk.full = False
    publish(publisher, other_results.status())
    assert read_result(folder / "LaB6_000017.h5").frames["frame"].size == 3
    assert files(folder) == ["LaB6_000017.h5", "LaB6_000018.live.h5"]


def test_hdf5_never_meets_a_full_disk_since_it_would_crash_the_process(publisher, folder, results, clock):
    publish(publisher, results.event(), results.rows(0))
    noise = np.random.default_rng(3).integers(-(2**63), 2**63, (1024, 1024), np.int64)
    result = replace(results.result(), image_sum=noise, image_lost=noise.astype(np.uint32))
    with file_size_limit(1 << 20):
        clock.advance(5)
        try_twice(publisher, results.rows(3))
    with file_size_limit(6 << 20):
        try_twice(publisher, result)
    publisher.publish(results.status())
    stored = read_result(publisher.last_path)
    assert stored.frames["frame"].tolist() == list(range(6))
    np.testing.assert_array_equal(stored.image_sum, noise)
    assert files(folder) == ["LaB6_000017.h5"]


def test_the_space_that_was_taken_and_not_needed_is_given_back(publisher, results):
    publish(publisher, results.event(), results.rows(0), results.result())
    assert publisher.last_path.stat().st_size < SLACK_BYTES // 8


def test_the_live_file_is_opened_again_after_an_interruption(publisher, folder, results, clock):
    publish(publisher, results.event(), results.rows(0))
    clock.advance(5)
    publisher.publish(results.status())
    publisher.close()
    publisher.open()
    publish(publisher, results.rows(3), results.result())
    assert read_result(publisher.last_path).frames["frame"].tolist() == list(range(6))
    assert files(folder) == ["LaB6_000017.h5"]


def test_a_write_that_fails_inside_hdf5_costs_no_new_rows(publisher, folder, results, clock, monkeypatch):
    publish(publisher, results.event(), results.rows(0))
    clock.advance(5)
    publish(publisher, results.status(), results.rows(3))
    clock.advance(5)
    with monkeypatch.context() as broken:
        broken.setattr(LiveFile, "_write", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        try_twice(publisher, results.rows(6))
    publish(publisher, results.status(), results.result())
    assert files(folder) == ["LaB6_000017.live.h5", "LaB6_000017_2.h5"]
    assert read_result(publisher.last_path).frames["frame"].tolist() == [3, 4, 5, 6, 7, 8]
    with h5py.File(folder / "LaB6_000017.live.h5") as file:
        assert file["entry/frames/frame"][:].tolist() == [0, 1, 2]


def test_a_folder_that_vanishes_comes_back_on_opening(publisher, folder, results):
    folder.rmdir()
    with pytest.raises(FileWriteError, match=r"out: .*No such file"):
        publisher.publish(results.event())
    publisher.close()
    publisher.open()
    publish(publisher, results.event(), results.rows(), results.result())
    assert files(folder) == ["LaB6_000017.h5"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileWriteError, match="file/out") as caught:
        Hdf5Publisher(tmp_path / "file" / "out", NAME, 5.0, "{}").open()
    assert caught.value.path == tmp_path / "file" / "out"


def test_images_are_not_kept_after_the_file_is_written(publisher, results):
    publish(publisher, results.event(), results.rows(), results.result())
    assert publisher._taken is None
    assert publisher._ended is None


def test_it_runs_in_a_thread_of_its_own(tmp_path, results, other_results):
    publisher = Hdf5Publisher(tmp_path, NAME, 5.0, "{}")
    outlet = Outlet(publisher)
    outlet.start()
    for maker in (results, other_results):
        for message in (
            maker.event(),
            maker.rows(),
            maker.snapshot(),
            maker.profile(),
            maker.result(),
            maker.event("end"),
        ):
            outlet.put(message)
    outlet.leave(20)
    assert outlet.join()
    assert files(tmp_path) == ["LaB6_000017.h5", "LaB6_000018.h5"]
    assert outlet.facts.failures == 0
