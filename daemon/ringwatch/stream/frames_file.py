"""A file of recorded frames in, ``Frame`` messages out: HDF5 chunks as they were written, or pixels read by fabio.

Where an HDF5 chunk is exactly one frame, compressed with bitshuffle-LZ4, it is passed on unchanged and never decoded
here. Everything else comes as raw pixels.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import ConfigError
from ringwatch.messages import Frame
from ringwatch.stream.bslz4 import BLOCK_BYTES
from ringwatch.stream.encode import Encoded

WITH_LZ4 = 2
"""The bitshuffle filter's fifth parameter where LZ4 follows."""

MASK_PATHS = (
    "entry/data/mask",
    "entry/instrument/detector/pixel_mask",
    "entry/instrument/detector/detectorSpecific/pixel_mask",
)
"""Where a pixel mask is looked for: beside the frames, NeXus NXdetector, DECTRIS FileWriter."""


class _Source(Protocol):
    """What a kind of file has to offer."""

    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    n_frames: int
    pixel_mask: NDArray[np.bool_] | None

    def encoded(self, index: int) -> Encoded: ...

    def is_there(self, index: int) -> bool: ...

    def close(self) -> None: ...


class FramesFile:
    """Recorded frames, read one by one. Use it as a context manager.

    Parameters
    ----------
    path
        An HDF5 file, ``file.h5::/path/of/the/dataset``, or any image format that fabio reads. Without a path the
        frames are ``/entry/data/data``, or ``/entry/data/data_000001`` and its successors (DECTRIS FileWriter), or
        the only dataset with three dimensions in the file.

    Attributes
    ----------
    name
        The file's name without its folder.
    shape
        (rows, columns) of a frame.
    dtype
        Native numpy type of the decoded pixels.
    n_frames
        How many frames there are.
    pixel_mask
        Mask found in the file, True = ignore this pixel; None if there is none.

    Raises
    ------
    ConfigError
        There is no such file, no such dataset, or nothing in it that can be taken for frames.
    """

    def __init__(self, path: str | Path) -> None:
        name, _, dataset = str(path).partition("::")
        if not Path(name).is_file():
            raise ConfigError(["no such file"], source=name)
        is_hdf5 = bool(dataset) or h5py.is_hdf5(name)
        self._source: _Source = _Hdf5(name, dataset) if is_hdf5 else _Images(name)
        self.name = Path(name).name
        self.shape = self._source.shape
        self.dtype = self._source.dtype
        self.n_frames = self._source.n_frames
        self.pixel_mask = self._source.pixel_mask

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def encoded(self, index: int) -> Encoded:
        """Codec and pixels of one frame; ``index`` counts from 0."""
        return self._source.encoded(index)

    def is_there(self, index: int) -> bool:
        """Whether a frame has been written: HDF5 files may have room for frames that never came."""
        return self._source.is_there(index)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames ``start`` to ``stop`` (excluded; by default all), read when asked for, numbered as in the file."""
        for index in range(*slice(start, stop).indices(self.n_frames)):
            yield Frame(0, index, self.shape, self.dtype, *self.encoded(index))


class _Hdf5:
    """Frames in one or several datasets of shape (frames, rows, columns)."""

    def __init__(self, name: str, path: str) -> None:
        try:
            self._file = h5py.File(name)
        except OSError as error:
            raise ConfigError([f"not a readable HDF5 file: {error}"], source=name) from error
        try:
            self._datasets = _find_datasets(self._file, path)
            self.shape, self.dtype = _common_layout(self._datasets)
            self.pixel_mask = _find_mask(self._file, self.shape)
        except ValueError as error:
            self._file.close()
            raise ConfigError([str(error)], source=name) from error
        self._ends = np.cumsum([len(dataset) for dataset in self._datasets])
        self.n_frames = int(self._ends[-1])
        self._passes = [_is_frame_of_bslz4(dataset) for dataset in self._datasets]

    def is_there(self, index: int) -> bool:
        which, local = self._place(index)
        dataset = self._datasets[which]
        if dataset.chunks is None:
            return True
        first = (local - local % dataset.chunks[0], 0, 0)
        return dataset.id.get_chunk_info_by_coord(first).byte_offset is not None

    def _place(self, index: int) -> tuple[int, int]:
        """Which dataset, and where in it."""
        which = int(np.searchsorted(self._ends, index, side="right"))
        return which, index - (int(self._ends[which - 1]) if which else 0)

    def encoded(self, index: int) -> Encoded:
        which, local = self._place(index)
        dataset = self._datasets[which]
        blob = _chunk(dataset, local) if self._passes[which] else None
        if blob is not None:
            return "bslz4", blob
        return "none", _raw(dataset[local], self.dtype)

    def close(self) -> None:
        self._file.close()


class _Images:
    """Frames in a file that fabio reads: TIFF, CBF, EDF, ..."""

    pixel_mask: NDArray[np.bool_] | None = None

    def __init__(self, name: str) -> None:
        import fabio  # noqa: PLC0415 - slow to import and rarely needed

        try:
            self._image = fabio.open(name)
        except (OSError, TypeError, ValueError, RuntimeError) as error:  # each of fabio's readers has its own
            raise ConfigError([f"neither HDF5 nor an image that fabio reads: {error}"], source=name) from error
        first = self._image.data
        self.shape: tuple[int, int] = first.shape
        self.dtype: np.dtype[np.generic] = first.dtype.newbyteorder("=")
        self.n_frames = int(self._image.nframes)

    def is_there(self, index: int) -> bool:
        return index < self.n_frames

    def encoded(self, index: int) -> Encoded:
        return "none", _raw(self._image.get_frame(index).data, self.dtype)

    def close(self) -> None:
        self._image.close()


def _find_datasets(file: h5py.File, path: str) -> list[h5py.Dataset]:
    if path:
        return [_frames_at(file, path)]
    if "entry/data/data" in file:
        return [_frames_at(file, "entry/data/data")]
    written_in_parts = [f"entry/data/{key}" for key in sorted(file.get("entry/data", ())) if key.startswith("data_")]
    if written_in_parts:
        return [_frames_at(file, part) for part in written_in_parts]
    return [_only_stack(file)]


def _frames_at(file: h5py.File, path: str) -> h5py.Dataset:
    try:
        dataset = file[path]
    except KeyError as error:  # also a link to a file that is not there
        raise ValueError(f"no dataset {path}: {error.args[0]}") from error
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3:
        raise ValueError(f"{path} is not a dataset of shape (frames, rows, columns)")
    return dataset


def _only_stack(file: h5py.File) -> h5py.Dataset:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if getattr(item, "ndim", 0) == 3 else None)
    if len(found) != 1:
        names = ", ".join(dataset.name for dataset in found) or "none"
        raise ValueError(f"name the dataset of the frames as FILE::/PATH; with three dimensions there is: {names}")
    return found[0]


def _common_layout(datasets: list[h5py.Dataset]) -> tuple[tuple[int, int], np.dtype[np.generic]]:
    if not any(dataset.size for dataset in datasets):
        raise ValueError("there is no frame in it")
    layouts = {(dataset.shape[1:], dataset.dtype.newbyteorder("=")) for dataset in datasets}
    if len(layouts) != 1:
        raise ValueError(f"frames of different shape or type: {', '.join(map(str, layouts))}")
    ((shape, dtype),) = layouts
    if dtype.kind not in "uif":
        raise ValueError(f"pixels of type {dtype} are no counts")
    return (int(shape[0]), int(shape[1])), dtype


def _find_mask(file: h5py.File, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    for path in MASK_PATHS:
        mask = file.get(path)
        if isinstance(mask, h5py.Dataset) and mask.shape == shape:
            return np.asarray(mask[...] != 0)
    return None


def _is_frame_of_bslz4(dataset: h5py.Dataset) -> bool:
    """True if each chunk is one frame of native pixels whose only filter is bitshuffle-LZ4."""
    filters = dataset.id.get_create_plist()
    if dataset.chunks != (1, *dataset.shape[1:]) or not dataset.dtype.isnative or filters.get_nfilters() != 1:
        return False
    code, _, values, _ = filters.get_filter(0)
    return code == hdf5plugin.Bitshuffle.filter_id and len(values) > 4 and values[4] == WITH_LZ4


def _chunk(dataset: h5py.Dataset, index: int) -> bytes | None:
    """The compressed chunk of a frame; None if it was never written or written without compression."""
    info = dataset.id.get_chunk_info_by_coord((index, 0, 0))
    if info.byte_offset is None or info.filter_mask:
        return None
    _, blob = dataset.id.read_direct_chunk((index, 0, 0))
    return _with_block_size(blob)


def _with_block_size(blob: bytes) -> bytes:
    """The same chunk with 8192 where its header says 0, as LImA writes it: decoders stumble over the 0."""
    if blob[8:12] != bytes(4):
        return blob
    return b"".join((blob[:8], struct.pack(">I", BLOCK_BYTES), memoryview(blob)[12:]))


def _raw(pixels: NDArray[Any], dtype: np.dtype[np.generic]) -> memoryview:
    return np.ascontiguousarray(pixels, dtype).data.cast("B")
