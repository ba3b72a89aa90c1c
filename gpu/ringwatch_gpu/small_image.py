"""kernels/small_image.cl: the summed image on the device in, one of at most 512 x 512 blocks of its pixels out."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .image import ImageBuffers
from .memory import read
from .programs import build
from .tables import DeviceTables

LARGEST_SIDE = 512


def step_of(shape: tuple[int, int]) -> int:
    """How many pixels make the side of a block."""
    return max(1, -(-max(shape) // LARGEST_SIDE))


def mean_counts(total: NDArray[np.int64], valid: NDArray[np.uint64], n_frames: int) -> NDArray[np.float32]:
    """Signal of a pixel in all frames, mean of each block; NaN where no pixel of it ever was valid."""
    with np.errstate(invalid="ignore"):
        mean = np.where(valid > 0, total / valid, np.nan)
    return (mean * n_frames).astype(np.float32)


def middle_bins(geometry: Geometry) -> NDArray[np.uint16]:
    """Radial bin of the pixel in the middle of each block."""
    step, table = step_of(geometry.shape), geometry.bin_table.reshape(geometry.shape)
    rows, columns = (np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in geometry.shape)
    middle: NDArray[np.uint16] = table[np.ix_(rows, columns)]
    return middle


class SmallImageKernel:
    """Sums over the blocks of the summed image."""

    def __init__(self, queue: cl.CommandQueue, geometry: Geometry, image: ImageBuffers, tables: DeviceTables) -> None:
        self._queue, self._step, (rows, columns) = queue, step_of(geometry.shape), geometry.shape
        self._shape = -(-rows // self._step), -(-columns // self._step)
        flags, size_bytes = cl.mem_flags.WRITE_ONLY, 8 * self._shape[0] * self._shape[1]
        self._total, self._valid = (cl.Buffer(queue.context, flags, size_bytes) for _ in range(2))
        self._kernel = cl.Kernel(build(queue.context, "small_image", {"BINS": geometry.bins}), "small_image")
        sizes = (np.uint32(size) for size in (rows, columns, self._step, 0))
        self._kernel.set_args(
            tables.bin_table, image.low, image.high, image.lost, *sizes, self._total, self._valid
        )  # fmt: skip

    def mean(self, n_frames: int) -> NDArray[np.float32]:
        """Signal of a pixel in ``n_frames`` > 0 frames, mean of each block, in quanta; NaN where there is none."""
        total, valid = np.empty(self._shape, np.int64), np.empty(self._shape, np.uint64)
        self._kernel.set_arg(7, np.uint32(n_frames))
        cl.enqueue_nd_range_kernel(self._queue, self._kernel, (total.size,), None)
        read(self._queue, (total, self._total), (valid, self._valid))
        return mean_counts(total, valid, n_frames)
