"""A mask file in, True = ignore out: any format that fabio reads, or FILE.h5::/PATH."""

import h5py
import numpy as np
from numpy.typing import NDArray

from ringwatch_gpu import geometry
from ringwatch_gpu.errors import GeometryError


def read_mask(source: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask of the frames' shape (rows, columns); not 0 = ignore.

    Raises
    ------
    GeometryError
        It cannot be read, or is of another shape.
    """
    path, _, dataset = source.partition("::")
    if not dataset:
        return geometry.read_mask(path, shape)
    try:
        with h5py.File(path, "r", locking=False) as file:
            stored = file[dataset]
            if stored.shape != shape:
                raise GeometryError(f"the mask {source} has shape {stored.shape}, the frames have {shape}")
            return np.asarray(stored[()] != 0)
    except (OSError, KeyError, AttributeError) as error:
        raise GeometryError(f"the mask {source} cannot be read: {error}") from error
