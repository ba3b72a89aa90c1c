"""Recorded frames come out as they were written: chunks unchanged where they can be, pixels equal always."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabio.cbfimage
import fabio.edfimage
import fabio.tifimage
import h5py
import hdf5plugin
import numpy as np
import pytest

from ringwatch.errors import ConfigError
from ringwatch.messages import Frame
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile

BSLZ4 = hdf5plugin.Bitshuffle(cname="lz4")
STACK = np.random.default_rng(0).poisson(2, (3, 40, 50)).astype(np.uint16)


def pixels(frame: Frame) -> np.ndarray:
    out = np.empty(frame.shape, frame.dtype)
    decode_into(frame, out)
    return out


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes STACK into an HDF5 file, by default as a detector does."""

    def write(path: str = "entry/data/data", stack: np.ndarray = STACK, **how: Any) -> Path:
        with h5py.File(tmp_path / "stack.h5", "a") as file:
            file.create_dataset(path, data=stack, **({"chunks": (1, *stack.shape[1:]), **BSLZ4} | how))
        return tmp_path / "stack.h5"

    return write


RECORDED = ["id11_dac", "pil1m_ceo2", "pil1m_fe3o4_map", "pil2m_ceo2_chess", "ge41rt_ceo2"]


@pytest.mark.parametrize("name", RECORDED)
def test_real_chunks_pass_through_and_decode_to_the_recorded_pixels(shared_data: Path, name: str) -> None:
    with FramesFile(shared_data / f"{name}.h5") as file, h5py.File(shared_data / f"{name}.h5") as h5:
        recorded = h5["entry/data/data"]
        assert (file.n_frames, *file.shape) == recorded.shape
        assert file.dtype == recorded.dtype
        np.testing.assert_array_equal(file.pixel_mask, h5["entry/data/mask"][...] != 0)
        last = file.n_frames - 1
        (frame,) = file.frames(last)
        chunk = recorded.id.read_direct_chunk((last, 0, 0))[1]
        assert frame.codec == "bslz4"
        assert (frame.data[:8], frame.data[8:12], frame.data[12:]) == (chunk[:8], bytes.fromhex("00002000"), chunk[12:])
        np.testing.assert_array_equal(pixels(frame), recorded[last])


def test_frames_are_numbered_as_in_the_file(written: Callable[..., Path]) -> None:
    with FramesFile(written()) as file:
        assert [frame.frame for frame in file.frames()] == [0, 1, 2]
        assert [frame.frame for frame in file.frames(1, 2)] == [1]
        for frame in file.frames():
            np.testing.assert_array_equal(pixels(frame), STACK[frame.frame])


@pytest.mark.parametrize(
    "how",
    [
        {"chunks": (3, 40, 50)},
        {"chunks": (1, 20, 50)},
        {"chunks": True, "compression": "gzip", "compression_opts": None},
        {"shuffle": True},
        {"dtype": ">u2"},
        hdf5plugin.Bitshuffle(cname="zstd"),
        hdf5plugin.Bitshuffle(cname="none"),
    ],
    ids=["many frames a chunk", "half a frame a chunk", "gzip", "two filters", "big-endian", "zstd", "not compressed"],
)
def test_anything_but_a_frame_of_bslz4_is_decoded(written: Callable[..., Path], how: dict[str, Any]) -> None:
    with FramesFile(written(**how)) as file:
        assert file.dtype == np.uint16
        for frame in file.frames():
            assert frame.codec == "none"
            np.testing.assert_array_equal(pixels(frame), STACK[frame.frame])


def test_plain_datasets_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "plain.h5", "w") as h5:
        h5["entry/data/data"] = STACK
    with FramesFile(tmp_path / "plain.h5") as file:
        np.testing.assert_array_equal(pixels(next(file.frames(2))), STACK[2])
        assert file.pixel_mask is None


def test_chunks_never_written_or_stored_without_their_filter(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "holes.h5", "w") as h5:
        dataset = h5.create_dataset(
            "entry/data/data", STACK.shape, STACK.dtype, chunks=(1, 40, 50), **BSLZ4, fillvalue=7
        )
        dataset.id.write_direct_chunk((1, 0, 0), STACK[1].tobytes(), filter_mask=1)
    with FramesFile(tmp_path / "holes.h5") as file:
        frames = [pixels(frame) for frame in file.frames()]
    np.testing.assert_array_equal(frames, [np.full((40, 50), 7), STACK[1], np.full((40, 50), 7)])


def test_the_only_stack_is_found_and_another_can_be_named(written: Callable[..., Path]) -> None:
    path = written("measurement/eiger")
    with FramesFile(path) as file:
        assert file.n_frames == 3
    written("measurement/other", STACK[:2])
    with pytest.raises(ConfigError, match=r"/measurement/eiger, /measurement/other"):
        FramesFile(path)
    with FramesFile(f"{path}::/measurement/other") as file:
        assert (file.name, file.n_frames) == ("stack.h5", 2)


def test_a_master_file_chains_its_external_links(tmp_path: Path) -> None:
    for part, stack in ((1, STACK[:2]), (2, STACK[2:])):
        with h5py.File(tmp_path / f"data_{part:06d}.h5", "w") as h5:
            h5.create_dataset("entry/data/data", data=stack, chunks=(1, 40, 50), **BSLZ4)
    with h5py.File(tmp_path / "master.h5", "w") as h5:
        for part in (1, 2):
            h5[f"entry/data/data_{part:06d}"] = h5py.ExternalLink(f"data_{part:06d}.h5", "entry/data/data")
        h5["entry/instrument/detector/pixel_mask"] = np.eye(40, 50, dtype=np.uint32)
    with FramesFile(tmp_path / "master.h5") as file:
        frames = list(file.frames())
        np.testing.assert_array_equal(file.pixel_mask, np.eye(40, 50, dtype=bool))
    assert [frame.codec for frame in frames] == ["bslz4"] * 3
    np.testing.assert_array_equal([pixels(frame) for frame in frames], STACK)


def test_a_virtual_dataset_is_read(written: Callable[..., Path], tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((2, *STACK.shape[1:]), STACK.dtype)
    layout[...] = h5py.VirtualSource(written(), "entry/data/data", STACK.shape)[1:]
    with h5py.File(tmp_path / "virtual.h5", "w", libver="latest") as h5:
        h5.create_virtual_dataset("entry/data/data", layout)
    with FramesFile(tmp_path / "virtual.h5") as file:
        np.testing.assert_array_equal([pixels(frame) for frame in file.frames()], STACK[1:])


def test_a_mask_of_another_shape_is_no_mask(written: Callable[..., Path]) -> None:
    path = written()
    with h5py.File(path, "a") as h5:
        h5["entry/data/mask"] = np.zeros((7, 7), np.uint8)
    with FramesFile(path) as file:
        assert file.pixel_mask is None


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        (fabio.edfimage.EdfImage(data=STACK[0]), "edf"),
        (fabio.tifimage.TifImage(data=STACK[0]), "tif"),
        (fabio.cbfimage.CbfImage(data=STACK[0].astype(np.int32)), "cbf"),
    ],
    ids=["edf", "tif", "cbf"],
)
def test_single_images_are_read_by_fabio(tmp_path: Path, image: Any, suffix: str) -> None:
    image.write(str(tmp_path / f"image.{suffix}"))
    with FramesFile(tmp_path / f"image.{suffix}") as file:
        (frame,) = file.frames()
    np.testing.assert_array_equal(pixels(frame), STACK[0])


def test_all_images_of_one_file_are_read(tmp_path: Path) -> None:
    image = fabio.edfimage.EdfImage(data=STACK[0])
    image.append_frame(data=STACK[1])
    image.write(str(tmp_path / "two.edf"))
    with FramesFile(tmp_path / "two.edf") as file:
        np.testing.assert_array_equal([pixels(frame) for frame in file.frames()], STACK[:2])


def test_files_that_are_no_frames_are_refused_with_a_reason(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written()
    written("entry/flat", STACK[0], chunks=None, compression=None, compression_opts=None)
    written("entry/complex", STACK.astype(complex), chunks=None, compression=None, compression_opts=None)
    written("entry/empty", STACK[:0], chunks=None, compression=None, compression_opts=None)
    (tmp_path / "garbage.bin").write_bytes(b"garbage")
    with h5py.File(path, "a") as h5:
        h5["entry/dangling"] = h5py.ExternalLink("absent.h5", "data")
    wrong: dict[str | Path, str] = {
        tmp_path / "absent.h5": "no such file",
        tmp_path / "garbage.bin": "neither HDF5 nor an image",
        f"{tmp_path / 'garbage.bin'}::/data": "not a readable HDF5 file",
        f"{path}::/nothing": "no dataset /nothing",
        f"{path}::/entry/dangling": "no dataset /entry/dangling",
        f"{path}::/entry/flat": "is not a dataset of shape",
        f"{path}::/entry": "is not a dataset of shape",
        f"{path}::/entry/complex": "are no counts",
        f"{path}::/entry/empty": "no frame in it",
    }
    for name, reason in wrong.items():
        with pytest.raises(ConfigError, match=reason):
            FramesFile(name)
