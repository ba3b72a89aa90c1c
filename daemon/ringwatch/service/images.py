"""A mask, flat field or absorption file in, an image out: any format that fabio reads, or FILE.h5::/PATH."""

from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - such images are often compressed
from numpy.typing import NDArray

from ringwatch_gpu import image_files
from ringwatch_gpu.errors import GeometryError


def read_image(source: str, shape: tuple[int, int], name: str) -> NDArray[Any]:
    """Read real numbers of the frames' shape (rows, columns); ``name`` is what they are, for messages.

    Raises
    ------
    GeometryError
        It cannot be read, is of another shape, or holds no real numbers.
    """
    path, _, dataset = source.partition("::")
    if not dataset:
        return image_files.read_image(path, shape, name)
    try:
        with h5py.File(path, "r", locking=False) as file:
            stored = file[dataset]
            image_files.check_image(stored.shape, stored.dtype, shape, f"{name} {source}")
            pixels: NDArray[Any] = stored[()]
    except (OSError, KeyError, AttributeError) as error:
        raise GeometryError(f"the {name} {source} cannot be read: {error}") from error
    return pixels
