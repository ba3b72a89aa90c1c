"""The daemon on files that appear one by one: the same sums, bit for bit, as of the frames in a stream."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from tests.service.test_daemon import POWDER, Watched, expected_words

from ringwatch.config import Config
from ringwatch.messages import SeriesResult
from ringwatch.publish.result_file import read_result
from ringwatch.service.check import check
from ringwatch.stream import follower
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity

FRAMES_A_FILE = 4


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    (tmp_path / "results").mkdir()
    return Config.from_mapping(
        {
            "stream": {"follow": "raw/**/eiger_*.h5", "settle_s": 0.2, "end_timeout_s": 1.0, "late_s": 0.1},
            "geometry": {"poni": "powder.poni"},
            "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": str(tmp_path / "results")}},
            "web": {"bind": "127.0.0.1:0"},
        },
        tmp_path,
    )


@pytest.fixture
def run(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Watched]]:
    monkeypatch.setattr(follower, "POLL_S", 0.05)
    running: list[Watched] = []

    def start() -> Watched:
        running.append(Watched(config))
        return running[-1]

    yield start
    for watched in running:
        watched.daemon.stop()


def write_as_lima(folder: Path, images: np.ndarray) -> None:
    """One file after another, each with room for all its frames from the beginning."""
    folder.mkdir(parents=True)
    codec = hdf5plugin.Bitshuffle(cname="lz4")
    for number in range(-(-len(images) // FRAMES_A_FILE)):
        part = images[FRAMES_A_FILE * number :][:FRAMES_A_FILE]
        with h5py.File(folder / f"eiger_{number:04d}.h5", "w") as file:
            shape = (len(part), *POWDER.shape)
            data = file.create_dataset("entry_0000/data", shape, POWDER.dtype, chunks=(1, *POWDER.shape), **codec)
            for index, image in enumerate(part):
                data[index] = image
                time.sleep(0.02)


def test_files_give_the_sums_of_their_frames_bit_for_bit(run: Callable[[], Watched], tmp_path: Path) -> None:
    simulator = Simulator(POWDER, 1)
    images = np.stack([simulator.frame() for _ in range(10)])
    watched = run()
    for scan, part in (("scan0001", images[:6]), ("scan0002", images[6:])):
        write_as_lima(tmp_path / "raw" / "lab6" / scan, part)
    watched.wait_for_end(2)
    watched.wait_for(lambda: len(watched.of(SeriesResult)) == 2)
    geometry = Geometry.from_poni(tmp_path / "powder.poni")
    for result, part in zip(watched.of(SeriesResult), (images[:6], images[6:]), strict=True):
        assert np.array_equal(result.sums, expected_words(list(part), geometry, Validity.of(POWDER.dtype)))
        assert result.missing == ()
    watched.daemon.stop()
    stored = read_result(tmp_path / "results" / "scan0001_000001.h5")
    assert (stored.n_frames, stored.fates.reduced, stored.reason) == (6, 6, "end")


def test_check_says_which_files(config: Config, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "eiger_0.h5").touch()
    assert f"stream      files {tmp_path}/raw/**/eiger_*.h5 (1 there now)" in list(check(config))
