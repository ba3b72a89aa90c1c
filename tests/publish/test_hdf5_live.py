"""The live file belongs to two processes at once: it can be read while it is written, and outlives a killed writer."""

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

from ringwatch.publish.hdf5 import Hdf5Publisher
from ringwatch.publish.nexus import FRAME_COLUMNS
from ringwatch.publish.result_file import ResultFileError, read_result

WRITER = Path(__file__).with_name("live_writer.py")


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A process that writes the returned file, killed without warning at the end."""
    writer = subprocess.Popen([sys.executable, WRITER, folder], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"running\n"
        yield folder / "endless.live.h5"
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def checked_rows(file: h5py.File) -> int:
    """Number of rows that all columns have, after looking at each of them."""
    columns = {name: file["entry/frames"][name][:] for name in FRAME_COLUMNS}
    n = min(map(len, columns.values()))
    np.testing.assert_array_equal(columns["frame"][:n], np.arange(n))
    np.testing.assert_array_equal(columns["spottiness"][:n], np.tile(0.25 + 0.001 * np.arange(3), n // 3 + 1)[:n])
    assert (columns["total_signal"][:n] == 2**53 - 1).all()
    assert (columns["masked_pixels"][:n] == 7).all()
    return n


def test_another_process_reads_while_the_file_is_written(tmp_path):
    seen = []
    with writing(tmp_path) as path:
        for _ in range(10):
            with h5py.File(path, "r", swmr=True, locking=False) as file:
                seen.append(checked_rows(file))
                snapshots = file["entry/snapshots/n_frames"][:]
            np.testing.assert_array_equal(snapshots, 3 * np.arange(1, snapshots.size + 1))
            time.sleep(0.1)
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    assert seen[0] > 0


def test_decisions_can_be_read_while_the_series_runs(tmp_path, results):
    with writing(tmp_path) as path, h5py.File(path, "r", swmr=True, locking=False) as file:
        table = file["entry/decisions"]
        n = min(map(len, table.values()))
        assert n >= 10
        np.testing.assert_array_equal(table["n_frames"][:n], 3 * np.arange(1, n + 1))
        assert set(table["sentence"].asstr()[:n]) == {results.decision().sentence}
        assert file["entry/snapshots/independent_frames"][0] == 58.0


def test_one_reader_follows_the_growing_file(tmp_path):
    with writing(tmp_path) as path, h5py.File(path, "r", swmr=True, locking=False) as file:
        first = checked_rows(file)
        deadline_s = time.monotonic() + 20
        while (now := checked_rows(file)) == first and time.monotonic() < deadline_s:
            for name in FRAME_COLUMNS:
                file["entry/frames"][name].refresh()
    assert now > first


def test_silx_shows_a_live_file(tmp_path):
    with writing(tmp_path) as path, silx.io.open(str(path)) as file:
        assert file["entry/data/I"].shape == (1, 4)
        assert np.isfinite(file["entry/data/I"][()]).all()


def test_a_killed_writer_leaves_a_file_that_opens(tmp_path):
    rng = np.random.default_rng(1)
    for run in range(3):
        with writing(tmp_path / str(run)) as path:
            time.sleep(rng.uniform(0, 0.1))
        with h5py.File(path, "r", swmr=True, locking=False) as file:
            assert checked_rows(file) >= 30
            assert np.isfinite(file["entry/data/I"][()]).all()


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A live file whose writer was killed."""
    with writing(tmp_path_factory.mktemp("killed")) as path:
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
