"""kernels/image.cl: the summed image on the device, and its statistics ring by ring."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from . import exact
from .geometry import Geometry
from .programs import build
from .reference import ImageSums
from .tables import SortedPixels, constant


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
            cl.enqueue_fill_buffer(self._queue, buffer, np.uint32(0), 0, 4 * self._pixels)

    def read(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Pixel-wise sum of valid counts and number of frames lost, both (pixels,)."""
        low, high, lost = (np.empty(self._pixels, np.uint32) for _ in range(3))
        for host, device in ((low, self.low), (high, self.high), (lost, self.lost)):
            cl.enqueue_copy(self._queue, host, device)
        total = high.astype(np.uint64)
        total <<= np.uint64(32)
        total |= low
        return total, lost


class ImageEvaluation:
    """kernels/image.cl: statistics of the summed and of the averaged image."""

    GROUP = 64

    def __init__(
        self, queue: cl.CommandQueue, geometry: Geometry, sorted_pixels: SortedPixels, image: ImageBuffers
    ) -> None:
        self._queue, self._bins, context = queue, geometry.bins, queue.context
        program = build(context, "image", {"BINS": geometry.bins, "GROUP": self.GROUP})
        self._integers = np.empty((4, geometry.bins), np.uint64)
        self._floats = np.empty((5, geometry.bins), np.float64)
        self._out = [cl.Buffer(context, cl.mem_flags.WRITE_ONLY, a.nbytes) for a in (self._integers, self._floats)]
        self._kernel = cl.Kernel(program, "evaluate_image")
        bin_start = constant(context, sorted_pixels.bin_start)
        self._kept = bin_start  # kernels do not keep their arguments alive
        images = (image.low, image.high, image.lost)
        self._kernel.set_args(sorted_pixels.order, sorted_pixels.norm, bin_start, *images, np.uint32(0), *self._out)

    def run(self, n_frames: int) -> ImageSums:
        """Statistics of the summed image, which holds ``n_frames`` frames."""
        self._kernel.set_arg(6, np.uint32(n_frames))
        cl.enqueue_nd_range_kernel(self._queue, self._kernel, (self._bins * self.GROUP,), (self.GROUP,))
        cl.enqueue_copy(self._queue, self._integers, self._out[0], is_blocking=False)
        cl.enqueue_copy(self._queue, self._floats, self._out[1])
        signal, low, high, count = (row.copy() for row in self._integers)
        norm_sq, variance, *averaged = (row.copy() for row in self._floats)
        return ImageSums(signal, exact.from_halves(low, high), count, norm_sq, variance, *averaged)
