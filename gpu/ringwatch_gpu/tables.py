"""From a geometry to its tables on a device: shared by all kernel forms."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .validity import Validity

BATCH = 8
SUM_PLANES = 7
LOST_PLANES = 4  # the last of them
WIDE_PLANES = 4
_UINT4 = np.dtype([(axis, np.uint32) for axis in "xyzw"])
NO_DUMMIES: np.void = np.zeros(1, _UINT4)[0]


def constant(context: cl.Context, array: NDArray[np.generic]) -> cl.Buffer:
    """Read-only copy of an array on the device; an empty one gets one element, since a buffer cannot be empty."""
    array = np.ascontiguousarray(array) if array.size else np.zeros(1, array.dtype)
    return cl.Buffer(context, cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR, hostbuf=array)


class DeviceTables:
    """Bin and norm of every pixel on the device, in the order of the detector."""

    def __init__(self, queue: cl.CommandQueue, geometry: Geometry) -> None:
        self._queue = queue
        self.bin_table = constant(queue.context, geometry.bin_table)
        self.norm_q = constant(queue.context, geometry.norm_q)

    def change_bins(self, bin_table: NDArray[np.uint16]) -> None:
        """Replace the bins of the pixels, in the same buffer."""
        cl.enqueue_copy(self._queue, self.bin_table, bin_table)


class SortedPixels:
    """The used pixels in the order of their bins, with their norms; ``bin_start`` (host) has bins + 1 entries."""

    def __init__(self, context: cl.Context, geometry: Geometry) -> None:
        order = np.argsort(geometry.bin_table, kind="stable").astype(np.uint32)
        self.bin_start = np.searchsorted(geometry.bin_table[order], np.arange(geometry.bins + 1)).astype(np.uint32)
        order = order[: self.bin_start[-1]]
        self.order = constant(context, order)
        self.norm = constant(context, geometry.norm_q[order])


def pixel_type(dtype: np.dtype[np.generic]) -> str:
    """OpenCL's name of the unsigned type as wide as ``dtype``: signed values are compared as unsigned ones."""
    return {1: "uchar", 2: "ushort", 4: "uint"}[dtype.itemsize]


def validity_arguments(validity: Validity) -> tuple[np.uint32, np.void]:
    """``limit`` and ``dummies`` as the kernels take them: four values, padded by one that is never valid."""
    padded = [*validity.dummies, *[0xFFFFFFFF] * 4][:4]
    dummies: np.void = np.array([tuple(padded)], _UINT4)[0]
    return np.uint32(validity.limit), dummies
