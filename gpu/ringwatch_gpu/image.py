"""kernels/image.cl: the summed image on the device, and its statistics ring by ring."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from . import exact
from .geometry import Geometry
from .memory import read
from .programs import build
from .reference import ImageSums
from .sums import StaticSums
from .tables import DeviceTables

_CPU_ITEMS = 64  # a constant: the order of floating additions must not depend on the number of cores
_GPU_ITEMS = 2048
_FIRST_PLANES, _FIRST_FLOATS = 8, 6
_SECOND_PLANES, _SECOND_FLOATS = 2, 0


class ImageBuffers:
    """The summed image on the device: sum in two words and number of frames lost, one uint32 a pixel each."""

    def __init__(self, queue: cl.CommandQueue, pixels: int) -> None:
        self._queue, self._pixels = queue, pixels
        self.low, self.high, self.lost = (
            cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, 4 * pixels) for _ in range(3)
        )
        self.clear()

    def clear(self) -> None:
        """Start again from zero."""
        for buffer in (self.low, self.high, self.lost):
            cl.enqueue_fill_buffer(self._queue, buffer, np.zeros(1, np.uint32), 0, 4 * self._pixels)

    def read(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Pixel-wise sum of valid counts and number of frames lost, both (pixels,)."""
        low, high, lost = (np.empty(self._pixels, np.uint32) for _ in range(3))
        read(self._queue, (low, self.low), (high, self.high), (lost, self.lost))
        total = high.astype(np.uint64)
        total <<= np.uint64(32)
        total |= low
        return total, lost


def image_program(context: cl.Context, geometry: Geometry) -> cl.Program:
    """The compiled kernels for a geometry."""
    return build(context, "image", {"PIXELS": geometry.pixels, "BINS": geometry.bins, "ITEMS": _items(context)})


def _items(context: cl.Context) -> int:
    return _GPU_ITEMS if context.devices[0].type & cl.device_type.GPU else _CPU_ITEMS


class ImageEvaluation:
    """Two-pass statistics of the summed and of the averaged image; the means between the passes are the host's."""

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        static: StaticSums,
        tables: DeviceTables,
        image: ImageBuffers,
    ) -> None:
        self._queue, self._bins, self.static, context = queue, geometry.bins, static, queue.context
        self._items = _items(context)
        program = image_program(context, geometry)
        flags = cl.mem_flags
        largest = geometry.bins * _FIRST_PLANES * 8
        self._partial = cl.Buffer(context, flags.READ_WRITE, self._items * largest)
        self._total = cl.Buffer(context, flags.WRITE_ONLY, largest)
        self._mean = cl.Buffer(context, flags.READ_ONLY, geometry.bins * 16)
        pixels = (tables.bin_table, tables.norm_q, image.low, image.high, image.lost, np.uint32(0))
        self._first, self._second, self._sum = (
            cl.Kernel(program, name) for name in ("first_pass", "second_pass", "sum_items")
        )
        self._first.set_args(*pixels, self._partial)
        self._second.set_args(*pixels, self._mean, self._partial)
        self._sum.set_args(self._partial, np.uint32(0), np.uint32(0), self._total)

    def run(self, n_frames: int) -> ImageSums:
        """Statistics of the summed image, which holds ``n_frames`` > 0 frames."""
        static = self.static
        cells = self._pass(self._first, n_frames, _FIRST_PLANES, _FIRST_FLOATS)
        signal, lost_signal, gone, gone_norm, low, high = (column.copy() for column in cells[:, :_FIRST_FLOATS].T)
        lost_average, lost_square = cells[:, _FIRST_FLOATS:].view(np.float64).T
        norm = exact.subtract(exact.scaled(static.norm, n_frames), exact.from_halves(low, high))
        averaged_signal = (signal - lost_signal) / n_frames + lost_average
        averaged_norm = exact.to_float(exact.subtract(static.norm, exact.words(gone_norm)))
        norm_sq = exact.to_float(static.norm_sq) * float(n_frames) ** 2 - lost_square
        means = [signal / _nonzero(exact.to_float(norm)) * n_frames, averaged_signal / _nonzero(averaged_norm)]
        cl.enqueue_copy(self._queue, self._mean, np.stack(means, axis=1))
        squares = self._pass(self._second, n_frames, _SECOND_PLANES, _SECOND_FLOATS).view(np.float64)
        count, variance, averaged_variance = static.count - gone, squares[:, 0].copy(), squares[:, 1].copy()
        return ImageSums(signal, norm, count, norm_sq, variance, averaged_signal, averaged_norm, averaged_variance)

    def _pass(self, kernel: cl.Kernel, n_frames: int, planes: int, floats: int) -> NDArray[np.uint64]:
        kernel.set_arg(5, np.uint32(n_frames))
        self._sum.set_arg(1, np.uint32(planes))
        self._sum.set_arg(2, np.uint32(floats))
        total = np.empty((self._bins, planes), np.uint64)
        cl.enqueue_nd_range_kernel(self._queue, kernel, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._sum, (total.size,), None)
        read(self._queue, (total, self._total))
        return total


def _nonzero(norm: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(norm > 0, norm, 1.0)
