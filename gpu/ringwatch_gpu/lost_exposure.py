"""kernels/lost_exposure.cl: invalid pixels of a batch in, what each pixel lost of the frames' exposure out."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .image import ImageBuffers
from .programs import build
from .signals import NO_DUMMIES, PixelFormat
from .tables import BATCH, DeviceTables
from .validity import Validity

_ULONG8 = np.dtype([(f"s{lane}", np.uint64) for lane in range(BATCH)])


class LostExposureKernel:
    """Adds to ``image.lost_exposure``."""

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        pixels: PixelFormat,
        image: ImageBuffers,
        tables: DeviceTables,
    ) -> None:
        self._queue, self._pixels, self._n_pixels = queue, pixels, geometry.pixels
        constants = {**pixels.constants, "PIXELS": geometry.pixels, "BINS": geometry.bins}
        program = build(queue.context, "lost_exposure", constants)
        self._add = cl.Kernel(program, "add_lost_exposure")
        unknown = (np.uint32(0), np.uint32(0), NO_DUMMIES, np.zeros(1, _ULONG8)[0])
        self._add.set_args(None, tables.bin_table, *unknown, image.lost_exposure)

    def add(self, frames: cl.Buffer, validity: Validity, exposure: NDArray[np.uint64]) -> None:
        """Take the first frames of a buffer, as many as there are exposures, and wait for it."""
        lanes = np.zeros(BATCH, np.uint64)
        lanes[: len(exposure)] = exposure
        self._add.set_arg(0, frames)
        arguments = (np.uint32(len(exposure)), *self._pixels.arguments(validity), lanes.view(_ULONG8)[0])
        for position, argument in enumerate(arguments, start=2):
            self._add.set_arg(position, argument)
        cl.enqueue_nd_range_kernel(self._queue, self._add, (self._n_pixels,), None)
        self._queue.finish()  # the caller will fill the slots again
