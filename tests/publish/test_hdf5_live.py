"""The live file belongs to two processes at once: it can be read while it is written, and outlives a killed writer."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import silx.io

from ringwatch.publish import live_file
from ringwatch.publish.disk import take_name
from ringwatch.publish.hdf5 import Hdf5Publisher
from ringwatch.publish.nexus import FRAME_COLUMNS
from ringwatch.publish.result_file import ResultFileError, read_result

WRITER = Path(__file__).with_name("live_writer.py")


@pytest.fixture(scope="module")
def writers() -> Iterator[subprocess.Popen[str]]:
    """A process that starts a writer for each folder it is told."""
    with subprocess.Popen(
        [sys.executable, WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        yield running


@contextmanager
def writing(writers: subprocess.Popen[str], folder: Path, first_frames: int = 30) -> Iterator[Path]:
    """A process that writes the returned file, which has so many rows already; killed without warning at the end."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    writers.stdin.write(f"{folder}\n")
    writers.stdin.flush()
    pid, path = int(writers.stdout.readline()), folder / "endless.live.h5"
    try:
        deadline_s = time.monotonic() + 20
        while not (path.exists() and frames_in(path) >= first_frames) and time.monotonic() < deadline_s:
            time.sleep(0.001)
        yield path
    finally:
        os.kill(pid, signal.SIGKILL)


def frames_in(path: Path) -> int:
    with h5py.File(path, "r", swmr=True, locking=False) as file:
        return len(file["entry/frames/masked_pixels"])


def checked_rows(file: h5py.File) -> int:
    """Number of rows that all columns have, after looking at each of them."""
    columns = {name: file["entry/frames"][name][:] for name in FRAME_COLUMNS}
    n = min(map(len, columns.values()))
    np.testing.assert_array_equal(columns["frame"][:n], np.arange(n))
    np.testing.assert_array_equal(columns["spottiness"][:n], np.tile(0.25 + 0.001 * np.arange(3), n // 3 + 1)[:n])
    assert (columns["total_signal"][:n] == 2**53 - 1).all()
    assert (columns["masked_pixels"][:n] == 7).all()
    return n


def test_another_process_reads_while_the_file_is_written(tmp_path, writers):
    seen = []
    with writing(writers, tmp_path) as path:
        for _ in range(10):
            with h5py.File(path, "r", swmr=True, locking=False) as file:
                seen.append(checked_rows(file))
                snapshots = file["entry/snapshots/n_frames"][:]
            np.testing.assert_array_equal(snapshots, 3 * np.arange(1, snapshots.size + 1))
            time.sleep(0.1)
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    assert seen[0] > 0


def test_decisions_can_be_read_while_the_series_runs(tmp_path, results, writers):
    with writing(writers, tmp_path) as path, h5py.File(path, "r", swmr=True, locking=False) as file:
        table = file["entry/decisions"]
        n = min(map(len, table.values()))
        assert n >= 9
        np.testing.assert_array_equal(table["n_frames"][:n], 3 * np.arange(1, n + 1))
        assert set(table["sentence"].asstr()[:n]) == {results.decision().sentence}
        assert file["entry/snapshots/independent_frames"][0] == 58.0


def test_one_reader_follows_the_growing_file(tmp_path, writers):
    with writing(writers, tmp_path) as path, h5py.File(path, "r", swmr=True, locking=False) as file:
        first = checked_rows(file)
        deadline_s = time.monotonic() + 20
        while (now := checked_rows(file)) == first and time.monotonic() < deadline_s:
            for name in FRAME_COLUMNS:
                file["entry/frames"][name].refresh()
    assert now > first


def test_silx_shows_a_live_file(tmp_path, writers):
    with writing(writers, tmp_path) as path, silx.io.open(str(path)) as file:
        assert file["entry/data/I"].shape == (1, 4)
        assert np.isfinite(file["entry/data/I"][()]).all()


def test_a_live_file_can_be_read_from_the_moment_it_is_there(tmp_path, results, monkeypatch):
    """Byte 11 of the superblock says that it is being written, and under SWMR: without that nobody may read it."""
    opened = []

    def looked_at(part: Path, path: Path) -> None:
        take_name(part, path)
        opened.append((frames_in(path), path.read_bytes()[11]))

    monkeypatch.setattr(live_file, "take_name", looked_at)
    publisher = Hdf5Publisher(tmp_path, "first", 0.0, "{}")
    publisher.publish(results.event())
    publisher.close()
    assert opened == [(0, 0b101)]
    assert [file.name for file in tmp_path.iterdir()] == ["first.live.h5"]


def test_without_hard_links_a_name_is_taken_all_the_same_and_never_twice(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    part, path = tmp_path / "part", tmp_path / "path"
    part.write_text("new")
    take_name(part, path)
    assert (path.read_text(), part.exists()) == ("new", False)
    part.write_text("newer")
    with pytest.raises(FileExistsError):
        take_name(part, path)
    assert path.read_text() == "new"


def test_a_writer_killed_at_25_random_moments_leaves_a_file_that_opens(tmp_path, writers):
    """A third of them in the first milliseconds of the file."""
    rng = np.random.default_rng(1)
    rows = []
    for run in range(25):
        with writing(writers, tmp_path / str(run), first_frames=0) as path:
            time.sleep(rng.uniform(0, 0.005 if run % 3 == 0 else 0.25))
        with h5py.File(path, "r", swmr=True, locking=False) as file:
            rows.append(checked_rows(file))
            assert file["entry/data/I"].shape == (1, 4)
    assert len(set(rows)) > 2, "killed at moments that differ"


@pytest.fixture(scope="module")
def killed(tmp_path_factory, writers) -> Path:
    """A live file whose writer was killed."""
    with writing(writers, tmp_path_factory.mktemp("killed")) as path:
        pass
    return path


def test_after_a_kill_the_next_run_takes_another_name(killed, results):
    left = killed.read_bytes()
    publisher = Hdf5Publisher(killed.parent, "endless", 5.0, "{}")
    for message in (results.event(), results.rows(), results.result()):
        publisher.publish(message)
    assert publisher.last_path == killed.parent / "endless_2.h5"
    assert killed.read_bytes() == left


def test_a_live_file_is_no_result(killed):
    with pytest.raises(ResultFileError, match=r"endless\.live\.h5: is no result file"):
        read_result(killed)
