"""Datasets of a beam monitor in, one number for each frame out."""

from collections.abc import Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import ConfigError


def read_i0(sources: Sequence[str], n_frames: int) -> NDArray[np.float64]:
    """The monitor of ``n_frames`` frames, NaN where the file has no number.

    Parameters
    ----------
    sources
        FILE::/PATH of datasets with one number a frame, one after the other.

    Raises
    ------
    ConfigError
        One cannot be read, holds no real numbers, or together they are not one for each frame.
    """
    parts = [_read(source, n_frames) for source in sources]
    total = sum(part.size for part in parts)
    if total != n_frames:
        raise ConfigError([f"{total} numbers for {n_frames} frames: it has to be one for each"], "--i0")
    return np.concatenate(parts)


def _read(source: str, most: int) -> NDArray[np.float64]:
    path, _, dataset = source.partition("::")
    if not dataset:
        raise ConfigError(["write FILE::/PATH, with the path of the dataset in the HDF5 file"], f"--i0 {source}")
    try:
        with h5py.File(path) as file:  # as the frames' file, which it may be
            stored = file[dataset]
            _check(stored, most)
            return np.asarray(stored[()], np.float64).ravel()
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError([str(error)], f"--i0 {source}") from error


def _check(stored: object, most: int) -> None:
    """Before anything is read."""
    if not isinstance(stored, h5py.Dataset) or stored.dtype.kind not in "uif":
        raise ValueError("no dataset of real numbers")
    if stored.size != max(stored.shape, default=0):
        raise ValueError(f"shape {stored.shape}: not one number a frame")
    if stored.size > most:
        raise ValueError(f"{stored.size} numbers, more than the {most} frames")
