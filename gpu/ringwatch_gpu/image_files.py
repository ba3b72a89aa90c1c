"""A file that fabio reads in, an image of the frames' shape out: a mask, a flat field, an absorption map."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import GeometryError
from .geometry_pyfai import READ_ERRORS


def read_image(path: str | os.PathLike[str], shape: tuple[int, int], name: str) -> NDArray[Any]:
    """Real numbers, shape ``shape``, of a file that fabio reads (EDF, TIFF, NumPy, Fit2D, CBF...).

    Parameters
    ----------
    shape
        (rows, columns) of the frames.
    name
        What the image is, for messages: "mask".

    Raises
    ------
    GeometryError
        The file cannot be read, is of another shape, or holds no real numbers.
    """
    import fabio  # noqa: PLC0415 - only where there is a file

    try:
        with fabio.open(os.fspath(path)) as image:
            pixels = np.asarray(image.data)
    except READ_ERRORS as error:
        raise GeometryError(f"the {name} {path} cannot be read: {error}") from error
    check_image(pixels.shape, pixels.dtype, shape, f"{name} {path}")
    return pixels


def check_image(found: tuple[int, ...], dtype: np.dtype[Any], shape: tuple[int, int], name: str) -> None:
    """Raise GeometryError unless an image of shape ``found`` fits the frames and holds real numbers."""
    if found != shape:
        raise GeometryError(f"the {name} has shape {found}, the frames have {shape} (rows, columns)")
    if dtype.kind not in "biuf":
        raise GeometryError(f"the {name} holds {dtype}: real numbers are needed")
