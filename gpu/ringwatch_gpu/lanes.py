"""kernels/lanes.cl: eight frames at once, one frame a vector lane. The form for CPU devices."""

from collections.abc import Mapping

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .image import ImageBuffers
from .memory import read
from .programs import build
from .signals import NO_DUMMIES, PixelFormat
from .tables import (
    BATCH,
    LOST_PLANES,
    SUM_PLANES,
    WIDE_PLANES,
    DeviceTables,
    constant,
)
from .validity import Validity

_ITEMS_PER_UNIT = 4
_PLAIN_PLANES = SUM_PLANES - LOST_PLANES
_LANES_BYTES = BATCH * 8


def lanes_program(context: cl.Context, geometry: Geometry, pixels: PixelFormat) -> cl.Program:
    """The compiled kernels for a geometry and a pixel type."""
    return build(context, "lanes", lanes_constants(context, geometry, pixels), pixels.before)


def lanes_constants(context: cl.Context, geometry: Geometry, pixels: PixelFormat) -> Mapping[str, int | str]:
    """What the kernels are built with."""
    sizes = {"PIXELS": geometry.pixels, "BINS": geometry.bins, "ITEMS": lanes_items(context.devices[0])}
    return {**pixels.constants, **sizes}


def lanes_bytes(device: cl.Device, bins: int, planes: int = _PLAIN_PLANES) -> tuple[int, int]:
    """Sizes of the two large buffers of the work-items: their sums, and those of what is lost."""
    histogram = lanes_items(device) * bins * _LANES_BYTES
    return histogram * planes, histogram * LOST_PLANES


def lanes_items(device: cl.Device) -> int:
    """How many work-items share a frame."""
    return _ITEMS_PER_UNIT * device.max_compute_units


class LaneKernels:
    """kernels/lanes.cl: one frame a vector lane."""

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        pixels: PixelFormat,
        image: ImageBuffers,
        tables: DeviceTables,
    ) -> None:
        self._queue, self._pixels, context = queue, pixels, queue.context
        bins, self._items = geometry.bins, lanes_items(context.devices[0])
        program = lanes_program(context, geometry, pixels)
        flags, planes = cl.mem_flags, BATCH * bins * 8
        zeros = constant(context, np.zeros(geometry.pixels, pixels.dtype))
        partial, losses = (cl.Buffer(context, flags.READ_WRITE, n) for n in lanes_bytes(context.devices[0], bins))
        self._kept = (zeros, partial, losses, *tables.dark)  # kernels do not keep their arguments alive
        self._seen = cl.Buffer(context, flags.WRITE_ONLY, self._items * 4)
        self._seen_host = np.empty(self._items, np.uint32)
        self._sums = cl.Buffer(context, flags.WRITE_ONLY, planes * SUM_PLANES)
        self._host = np.empty((BATCH, SUM_PLANES, bins), np.uint64)
        self._integrate = cl.Kernel(program, "integrate")
        self._wide = cl.Kernel(program, "integrate_wide")
        self._reduce, self._reduce_lost, self._reduce_wide = (cl.Kernel(program, "reduce_items") for _ in range(3))
        inputs = (None, zeros, tables.bin_table, tables.norm_q)
        none = (np.uint32(0), np.uint32(0), NO_DUMMIES)
        image_sum = (image.low, image.high, image.lost)
        self._integrate.set_args(*inputs, np.uint32(0), *none, partial, losses, self._seen, *image_sum, *tables.dark)
        self._wide.set_args(*inputs, *none, losses, *tables.dark)
        plain, lost, wide = np.uint32(_PLAIN_PLANES), np.uint32(LOST_PLANES), np.uint32(WIDE_PLANES)
        self._reduce.set_args(partial, plain, np.uint32(0), np.uint32(SUM_PLANES), self._sums)
        self._reduce_lost.set_args(losses, lost, plain, np.uint32(SUM_PLANES), self._sums)
        self._reduce_wide.set_args(losses, wide, np.uint32(0), wide, self._sums)

    def change_mask(self, geometry: Geometry) -> None:
        """Nothing to do: the kernels read the bins from the tables."""

    def integrate(self, frames: cl.Buffer, n_frames: int, validity: Validity) -> tuple[NDArray[np.uint64], int]:
        """Planes of a buffer's first frames, (8, 7, bins), valid until the next call, and the OR of all values."""
        arguments = (np.uint32(n_frames), np.uint32(validity.rare), *self._pixels.arguments(validity))
        self._integrate.set_arg(0, frames)
        for position, argument in enumerate(arguments, start=4):
            self._integrate.set_arg(position, argument)
        bins = self._host.shape[2]
        cl.enqueue_nd_range_kernel(self._queue, self._integrate, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._reduce, (bins * _PLAIN_PLANES,), None)
        cl.enqueue_nd_range_kernel(self._queue, self._reduce_lost, (bins * LOST_PLANES,), None)
        read(self._queue, (self._seen_host, self._seen), (self._host, self._sums))
        return self._host, int(np.bitwise_or.reduce(self._seen_host))

    def integrate_wide(self, frames: cl.Buffer, n_frames: int, validity: Validity) -> NDArray[np.uint64]:
        """Halves of squares and products, (8, 4, bins)."""
        self._wide.set_arg(0, frames)
        for position, argument in enumerate((np.uint32(n_frames), *self._pixels.arguments(validity)), start=4):
            self._wide.set_arg(position, argument)
        host = np.empty((BATCH, WIDE_PLANES, self._host.shape[2]), np.uint64)
        cl.enqueue_nd_range_kernel(self._queue, self._wide, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._reduce_wide, (host[0].size,), None)
        read(self._queue, (host, self._sums))
        return host
