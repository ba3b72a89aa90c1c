"""Recorded frames arrive as a detector would have sent them, pixel by pixel, in both protocols."""

import threading
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import zmq

from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.stream.decode import decode
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.encode import StreamVersion
from ringwatch.stream.replay import replay
from ringwatch.stream.sender import Sender

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


def replayed(path: Path, version: StreamVersion, n_frames: int) -> tuple[SeriesStart, list[Frame]]:
    """What a receiver decodes."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    socket.setsockopt(zmq.RCVTIMEO, 5000)
    with Sender("tcp://127.0.0.1:*", version) as sender:
        thread = threading.Thread(target=replay, args=(sender, path, n_frames), kwargs={"series": 12})
        thread.start()
        socket.connect(sender.endpoint)
        start, *frames, end = (decode(socket.recv_multipart(), 0.0) for _ in range(n_frames + 2))
        thread.join()
    socket.close(linger=0)
    assert isinstance(start, SeriesStart)
    assert end == SeriesEnd(12, start.unique_id)
    return start, [frame for frame in frames if isinstance(frame, Frame)]


def pixels(frame: Frame) -> np.ndarray:
    out = np.empty(frame.shape, frame.dtype)
    decode_into(frame, out)
    return out


@VERSIONS
@pytest.mark.parametrize(("name", "n_frames"), [("id11_dac", 4), ("pil1m_fe3o4_map", 2)])
def test_real_frames_arrive_pixel_by_pixel(shared_data: Path, version: StreamVersion, name: str, n_frames: int) -> None:
    start, frames = replayed(shared_data / f"{name}.h5", version, n_frames)
    with h5py.File(shared_data / f"{name}.h5") as file:
        recorded, mask = file["entry/data/data"], file["entry/data/mask"][...] != 0
        assert (start.series, start.shape, start.frames_expected) == (12, recorded.shape[1:], n_frames)
        assert start.dtype in (recorded.dtype, None)  # v1 has no word for signed types in its header
        np.testing.assert_array_equal(start.pixel_mask, mask)
        assert [frame.frame for frame in frames] == list(range(n_frames))
        for frame in frames:
            assert (frame.codec, frame.dtype) == ("bslz4", recorded.dtype)
            np.testing.assert_array_equal(pixels(frame), recorded[frame.frame])


@VERSIONS
def test_uncompressed_frames_and_beyond_the_last_the_file_again(tmp_path: Path, version: StreamVersion) -> None:
    stack = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["entry/data/data"] = stack
    start, frames = replayed(tmp_path / "plain.h5", version, 5)
    assert start.frames_expected == 5
    assert [frame.frame for frame in frames] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal([pixels(frame) for frame in frames], stack[[0, 1, 0, 1, 0]])


def test_compressed_chunks_are_not_compressed_again(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "chunks.h5", "w") as file:
        how = hdf5plugin.Bitshuffle(nelems=1024, cname="lz4")  # blocks of 2048 bytes: nobody here would choose them
        dataset = file.create_dataset(
            "entry/data/data", data=np.ones((1, 64, 64), np.uint16), chunks=(1, 64, 64), **how
        )
        file.flush()
        chunk = dataset.id.read_direct_chunk((0, 0, 0))[1]
    _, (frame,) = replayed(tmp_path / "chunks.h5", "v1", 1)
    assert bytes(frame.data) == chunk
