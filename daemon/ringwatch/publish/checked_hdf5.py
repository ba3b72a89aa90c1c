"""An HDF5 group that is not trusted in, checked values out: type, shape and size are looked at before allocating."""

import json
from typing import Any

import h5py
import numpy as np

MAX_ELEMENTS = 1 << 28
"""Most elements of one array (2 GiB of float64; an EIGER2 16M has 18 million pixels)."""


class CheckedGroup:
    """Datasets of one group, by their path below it.

    Parameters
    ----------
    file
        An open file.
    path
        Where in the file the group is.

    Raises
    ------
    ValueError
        From every method: what is missing or wrong, with its full path.
    """

    def __init__(self, file: h5py.File, path: str) -> None:
        self._file, self._path = file, path
        self._group = file.get(path)
        if not isinstance(self._group, h5py.Group):
            raise ValueError(f"{path} is missing")  # noqa: TRY004 - the file is wrong, not the call

    def __contains__(self, name: str) -> bool:
        return name in self._group

    def group(self, name: str) -> "CheckedGroup":
        """A group inside it."""
        return CheckedGroup(self._file, f"{self._path}/{name}")

    def array(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
        """Values of a dataset of this type; None in ``shape`` stands for any length."""
        data = self._dataset(name)
        if data.dtype != dtype or not _fits(data.shape, shape):
            raise ValueError(f"{self._path}/{name} is {data.dtype} {data.shape}, not {np.dtype(dtype)} {shape}")
        if data.size > MAX_ELEMENTS:
            raise ValueError(f"{self._path}/{name} has {data.size} elements, more than {MAX_ELEMENTS}")
        return data[()]

    def number(self, name: str, dtype: str) -> Any:
        """A single number as Python's own int, float or bool."""
        return self.array(name, dtype, ()).item()

    def count(self, name: str) -> int:
        """A single int64, not negative."""
        count: int = self.number(name, "<i8")
        if count < 0:
            raise ValueError(f"{self._path}/{name} is {count}, less than 0")
        return count

    def text(self, name: str) -> str:
        """A text of variable length: its bytes are in the file, so the file's size bounds it."""
        data = self._dataset(name)
        kind = h5py.check_string_dtype(data.dtype)
        if kind is None or kind.length is not None or data.shape != ():
            raise ValueError(f"{self._path}/{name} is no text")
        return str(data.asstr()[()])

    def last_text(self, name: str) -> str:
        """The last of a column of texts of fixed length; empty where there is none."""
        data = self._dataset(name)
        kind = h5py.check_string_dtype(data.dtype)
        if kind is None or kind.length is None or len(data.shape) != 1:
            raise ValueError(f"{self._path}/{name} is no column of texts")
        return data[-1].decode(kind.encoding, "replace") if len(data) else ""

    def tree(self, name: str) -> dict[str, Any]:
        """A JSON object stored as text."""
        tree = json.loads(self.text(name))
        if not isinstance(tree, dict):
            raise ValueError(f"{self._path}/{name} is no JSON object")  # noqa: TRY004 - the file is wrong, not the call
        return tree

    def _dataset(self, name: str) -> h5py.Dataset:
        data = self._group.get(name)
        if not isinstance(data, h5py.Dataset):
            raise ValueError(f"{self._path}/{name} is missing")  # noqa: TRY004 - the file is wrong, not the call
        return data


def _fits(have: tuple[int, ...] | None, want: tuple[int | None, ...]) -> bool:
    """Whether a shape is as wanted; None is the shape of a dataset without a dataspace."""
    return have is not None and len(have) == len(want) and all(w in (None, h) for h, w in zip(have, want, strict=True))
