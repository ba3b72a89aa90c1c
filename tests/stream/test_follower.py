"""Files that appear one by one become the stream that a replay of the same frames is."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest
from structlog.testing import capture_logs

from ringwatch.clock import SystemClock
from ringwatch.intervals import IntervalSet
from ringwatch.messages import Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream import follower
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.follower import Follower
from ringwatch.stream.queue import FrameQueue
from ringwatch.stream.series import SeriesTable

FRAMES = np.arange(7 * 64 * 64, dtype="u4").reshape(7, 64, 64)
PATIENCE_S = 20.0


def write(path: Path, frames: np.ndarray) -> None:
    """As LImA does: one chunk a frame, bitshuffle-LZ4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        codec = hdf5plugin.Bitshuffle(cname="lz4")
        file.create_dataset("entry_0000/measurement/data", data=frames, chunks=(1, 64, 64), **codec)


class Line:
    """A follower and what it puts."""

    def __init__(
        self,
        pattern: str,
        silence_s: float = 0.6,
        memory_bytes: int = 1 << 24,
        settle_s: float = 0.1,
        resumed: tuple[SeriesStart, IntervalSet] | None = None,
    ):
        self.clock = SystemClock()
        self.queue = FrameQueue(memory_bytes, "block", self.clock)
        table = SeriesTable(late_s=0.0)
        self.follower = Follower(pattern, table, self.queue, self.clock, settle_s, silence_s)
        self.got: list[StreamMessage] = []
        if resumed is not None:
            start, settled = resumed
            self.got += table.resume(start, settled, self.clock.monotonic_s())
            self.follower.resume(start, settled)
        self.follower.start()

    def until(self, enough: Callable[[list[StreamMessage]], bool]) -> list[StreamMessage]:
        deadline_s = time.monotonic() + PATIENCE_S
        while not enough(self.got):
            assert time.monotonic() < deadline_s, self.got
            self.got += self.queue.get_batch(8, 0.01)
        return self.got

    def ends(self, n: int = 1) -> list[StreamMessage]:
        return self.until(lambda got: sum(isinstance(message, SeriesEnd) for message in got) >= n)

    def close(self) -> None:
        self.follower.stop()
        self.follower.join(PATIENCE_S)
        assert self.follower.error is None


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Line]]:
    monkeypatch.setattr(follower, "POLL_S", 0.02)
    lines: list[Line] = []

    def made(*args: object, **kwargs: object) -> Line:
        lines.append(Line(*args, **kwargs))  # type: ignore[arg-type]
        return lines[-1]

    yield made
    for line in lines:
        line.close()


def pixels(frame: Frame) -> np.ndarray:
    out = np.empty(frame.shape, frame.dtype)
    decode_into(frame, out)
    return out


def test_files_that_appear_one_by_one_are_one_series(follow: Callable[..., Line], tmp_path: Path) -> None:
    line = follow(f"{tmp_path}/scan*/eiger_*.h5")
    for number, part in enumerate((FRAMES[:3], FRAMES[3:6], FRAMES[6:])):
        write(tmp_path / "scan0001" / f"eiger_{number:04d}.h5", part)
        time.sleep(0.05)
    start, *frames, end = line.ends()
    assert isinstance(start, SeriesStart)
    assert (start.sample, start.shape, start.dtype) == ("scan0001", (64, 64), np.dtype("u4"))
    assert [frame.frame for frame in frames] == list(range(7))
    assert {frame.codec for frame in frames} == {"bslz4"}
    np.testing.assert_array_equal([pixels(frame) for frame in frames], FRAMES)
    assert isinstance(end, SeriesEnd)
    assert (end.reason, end.missing) == ("end", ())


def test_after_a_crash_only_what_was_not_reduced_is_read(follow: Callable[..., Line], tmp_path: Path) -> None:
    """However old its files are: they were being read."""
    line = follow(f"{tmp_path}/scan*/eiger_*.h5")
    for number, part in enumerate((FRAMES[:3], FRAMES[3:6])):
        write(tmp_path / "scan0001" / f"eiger_{number:04d}.h5", part)
    start = line.until(lambda got: len(got) > 4)[0]
    assert isinstance(start, SeriesStart)
    line.close()
    for path in (tmp_path / "scan0001").iterdir():
        os.utime(path, (0, 0))
    again = follow(f"{tmp_path}/scan*/eiger_*.h5", resumed=(start, IntervalSet.of([(0, 3)])))
    again.until(lambda got: len(got) > 2)
    write(tmp_path / "scan0001" / "eiger_0002.h5", FRAMES[6:])
    same, *frames, end = again.ends()
    assert same.unique_id == start.unique_id
    assert [frame.frame for frame in frames] == [4, 5, 6]
    np.testing.assert_array_equal([pixels(frame) for frame in frames], FRAMES[4:])
    assert (end.unique_id, end.missing) == (start.unique_id, ())


def test_a_file_that_is_being_written_is_not_touched(follow: Callable[..., Line], tmp_path: Path) -> None:
    line = follow(f"{tmp_path}/*.h5", silence_s=2.0, settle_s=0.5)
    path = tmp_path / "eiger_0.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (0, 64, 64), "u4", maxshape=(None, 64, 64), chunks=(1, 64, 64))
        for number in range(4):
            data.resize(number + 1, 0)
            data[number] = FRAMES[number]
            file.flush()
            time.sleep(0.3)
        assert line.queue.backlog_bytes == 0
    frames = [message for message in line.ends() if isinstance(message, Frame)]
    np.testing.assert_array_equal([pixels(frame) for frame in frames], FRAMES[:4])


def test_frames_that_are_not_written_yet_are_waited_for_and_then_missing(
    follow: Callable[..., Line], tmp_path: Path
) -> None:
    """LImA makes room for all frames of a file at its beginning."""
    line = follow(f"{tmp_path}/e_*.h5", silence_s=1.0)
    with h5py.File(tmp_path / "e_0.h5", "w") as file:
        data = file.create_dataset("data", (4, 64, 64), "u4", chunks=(1, 64, 64))
        data[0], data[2] = FRAMES[0], FRAMES[2]
    time.sleep(0.4)
    assert line.queue.backlog_bytes == 0
    frames = [message for message in line.ends() if isinstance(message, Frame)]
    assert [frame.frame for frame in frames] == [0, 2]
    np.testing.assert_array_equal([pixels(frame) for frame in frames], FRAMES[[0, 2]])
    assert line.got[-1].missing == ((1, 1),)


def test_missing_files_and_unreadable_ones_are_gaps(follow: Callable[..., Line], tmp_path: Path) -> None:
    for number in (0, 1, 2, 4):
        write(tmp_path / f"e_{number}.h5", FRAMES[:2])
    (tmp_path / "e_1.h5").write_bytes(b"\x89HDF\r\n\x1a\n but then nothing else")
    (tmp_path / "e_2.h5").write_bytes(b"no HDF5 and no image")
    with capture_logs() as logs:
        start, *frames, end = follow(f"{tmp_path}/e_*.h5").ends()
    assert [frame.frame for frame in frames] == [0, 1, 8, 9]
    assert end.missing == ((2, 7),)
    assert start.fates.malformed["file"] >= 1
    assert "e_2.h5" in str(logs)


def test_one_series_after_the_other(follow: Callable[..., Line], tmp_path: Path) -> None:
    line = follow(f"{tmp_path}/**/e_*.h5")
    write(tmp_path / "lab6" / "scan1" / "e_0.h5", FRAMES[:2])
    line.until(lambda got: len(got) >= 3)
    write(tmp_path / "lab6" / "scan2" / "e_0.h5", FRAMES[2:5])
    starts = [message for message in line.ends(2) if isinstance(message, SeriesStart)]
    assert [start.series for start in starts] == [1, 2]
    assert len({start.unique_id for start in starts}) == 2
    frames = [message for message in line.got if isinstance(message, Frame)]
    assert [(frame.series, frame.frame) for frame in frames] == [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]


def test_images_are_series_too_and_a_dataset_can_be_named(follow: Callable[..., Line], tmp_path: Path) -> None:
    line = follow(f"{tmp_path}/img_*.cbf")
    for number in range(3):
        fabio.cbfimage.CbfImage(data=FRAMES[number].astype("i4")).write(str(tmp_path / f"img_{number:05d}.cbf"))
    frames = [message for message in line.ends() if isinstance(message, Frame)]
    np.testing.assert_array_equal([pixels(frame) for frame in frames], FRAMES[:3])
    write(tmp_path / "two_0.h5", FRAMES[:2])
    with h5py.File(tmp_path / "two_0.h5", "a") as file:
        file["other"] = FRAMES[2:]
    named = follow(f"{tmp_path}/two_*.h5::other").ends()
    assert len(named) == 5 + 2


def test_old_files_are_left_alone(follow: Callable[..., Line], tmp_path: Path) -> None:
    write(tmp_path / "e_0.h5", FRAMES[:2])
    time.sleep(0.7)
    line = follow(f"{tmp_path}/e_*.h5")
    write(tmp_path / "e_1.h5", FRAMES[2:5])
    frames = [message for message in line.ends() if isinstance(message, Frame)]
    np.testing.assert_array_equal([pixels(frame) for frame in frames], FRAMES[2:5])


def test_files_wait_where_they_are_while_the_queue_is_full(follow: Callable[..., Line], tmp_path: Path) -> None:
    write(tmp_path / "e_0.h5", np.random.default_rng(1).integers(0, 1 << 30, (7, 64, 64), "u4"))
    line = follow(f"{tmp_path}/e_*.h5", memory_bytes=1 << 16)
    deadline_s = time.monotonic() + PATIENCE_S
    while line.queue.backlog_bytes < 1 << 16:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert sum(isinstance(message, Frame) for message in line.ends()) == 7


def test_it_stops_at_once_though_the_queue_is_full(follow: Callable[..., Line], tmp_path: Path) -> None:
    write(tmp_path / "e_0.h5", np.random.default_rng(1).integers(0, 1 << 30, (7, 64, 64), "u4"))
    line = follow(f"{tmp_path}/e_*.h5", memory_bytes=1 << 12)
    waiting = threading.Event()
    while not waiting.wait(0.01) and not line.queue.backlog_bytes:
        pass
    began_s = time.monotonic()
    line.close()
    assert time.monotonic() - began_s < 1.0
