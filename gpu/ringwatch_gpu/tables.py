"""From a geometry to its tables on a device: shared by all kernel forms."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .memory import page_aligned
from .signals import PixelFormat

BATCH = 8
SUM_PLANES = 7
LOST_PLANES = 4  # the last of them
WIDE_PLANES = 4
_OVERHANG = 7


def constant(context: cl.Context, array: NDArray[np.generic]) -> cl.Buffer:
    """Read-only copy of an array on the device, on a CPU in huge pages.

    An empty one gets one element, since a buffer cannot be empty.
    """
    array, flags = np.ascontiguousarray(array) if array.size else np.zeros(1, array.dtype), cl.mem_flags
    if not context.devices[0].type & cl.device_type.CPU:
        return cl.Buffer(context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=array)
    memory = page_aligned(array.nbytes)
    memory[: array.nbytes] = array.reshape(-1).view(np.uint8)
    return cl.Buffer(context, flags.READ_ONLY | flags.USE_HOST_PTR, hostbuf=memory)


class DeviceTables:
    """Bin and norm of every pixel on the device, its dark where signals are signed, in the order of the detector."""

    def __init__(self, queue: cl.CommandQueue, geometry: Geometry, pixels: PixelFormat) -> None:
        self._queue = queue
        self.bin_table = constant(queue.context, geometry.bin_table)
        self.norm_q = constant(queue.context, geometry.norm_q)
        self.dark = [constant(queue.context, _dark(geometry))] if pixels.is_signed else []

    def change_bins(self, bin_table: NDArray[np.uint16]) -> None:
        """Replace the bins of the pixels, in the same buffer."""
        cl.enqueue_copy(self._queue, self.bin_table, bin_table)


def _dark(geometry: Geometry) -> NDArray[np.int32]:
    """Eight pixels are read at once, and maybe seven beyond the last."""
    dark = np.zeros(geometry.pixels + _OVERHANG, np.int32)
    if geometry.dark_q is not None:
        dark[: geometry.pixels] = geometry.dark_q
    return dark


class SortedPixels:
    """The used pixels in the order of their bins, with their norms; ``bin_start`` (host) has bins + 1 entries."""

    def __init__(self, context: cl.Context, geometry: Geometry) -> None:
        order = np.argsort(geometry.bin_table, kind="stable").astype(np.uint32)
        self.bin_start = np.searchsorted(geometry.bin_table[order], np.arange(geometry.bins + 1)).astype(np.uint32)
        order = order[: self.bin_start[-1]]
        self.order = constant(context, order)
        self.norm = constant(context, geometry.norm_q[order])
