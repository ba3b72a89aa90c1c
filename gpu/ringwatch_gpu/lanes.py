"""kernels/lanes.cl: eight frames at once, one frame a vector lane. The form for CPU devices."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .image import ImageBuffers
from .memory import Slots
from .programs import build
from .tables import BATCH, NO_DUMMIES, SUM_PLANES, WIDE_PLANES, DeviceTables, constant, pixel_type, validity_arguments
from .validity import Validity

_ITEMS_PER_UNIT = 4


def lanes_program(context: cl.Context, geometry: Geometry, dtype: np.dtype[np.generic]) -> cl.Program:
    """The compiled kernels for a geometry and a pixel type."""
    constants: dict[str, int | str] = {"PIXEL": pixel_type(dtype), "PIXELS": geometry.pixels}
    return build(context, "lanes", {**constants, "BINS": geometry.bins, "ITEMS": _items(context)})


def _items(context: cl.Context) -> int:
    return _ITEMS_PER_UNIT * context.devices[0].max_compute_units


class LaneKernels:
    """kernels/lanes.cl: one frame a vector lane."""

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        dtype: np.dtype[np.generic],
        slots: Slots,
        image: ImageBuffers,
        tables: DeviceTables,
    ) -> None:
        self._queue, context = queue, queue.context
        bins, self._items = geometry.bins, _items(context)
        program = lanes_program(context, geometry, dtype)
        zeros = constant(context, np.zeros(geometry.pixels, dtype))
        partial = cl.Buffer(context, cl.mem_flags.READ_WRITE, self._items * bins * SUM_PLANES * 64)
        self._kept = (zeros, partial)  # kernels do not keep their arguments alive
        self._seen = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, self._items * 4)
        self._seen_host = np.empty(self._items, np.uint32)
        self._sums = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, BATCH * bins * SUM_PLANES * 8)
        self._host = np.empty((BATCH, SUM_PLANES, bins), np.uint64)
        self._integrate = cl.Kernel(program, "integrate")
        self._wide = cl.Kernel(program, "integrate_wide")
        self._reduce = cl.Kernel(program, "reduce_items")
        self._reduce_wide = cl.Kernel(program, "reduce_items")
        none = (np.uint32(0), np.uint32(0), np.uint32(0), NO_DUMMIES)
        self._integrate.set_args(
            slots.buffer,
            zeros,
            tables.bin_table,
            tables.norm_q,
            *none,
            partial,
            self._seen,
            image.low,
            image.high,
            image.lost,
        )
        self._wide.set_args(slots.buffer, zeros, tables.bin_table, tables.norm_q, none[0], *none[2:], partial)
        self._reduce.set_args(partial, np.uint32(SUM_PLANES), self._sums)
        self._reduce_wide.set_args(partial, np.uint32(WIDE_PLANES), self._sums)

    def integrate(self, n_frames: int, validity: Validity) -> tuple[NDArray[np.uint64], int]:
        """Planes of the batch, (8, 7, bins), valid until the next call, and the OR of all valid values."""
        arguments = (np.uint32(n_frames), np.uint32(validity.rare), *validity_arguments(validity))
        for position, argument in enumerate(arguments, start=4):
            self._integrate.set_arg(position, argument)
        cl.enqueue_nd_range_kernel(self._queue, self._integrate, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._reduce, (self._host[0].size,), None)
        cl.enqueue_copy(self._queue, self._seen_host, self._seen, is_blocking=False)
        cl.enqueue_copy(self._queue, self._host, self._sums)
        return self._host, int(np.bitwise_or.reduce(self._seen_host))

    def integrate_wide(self, n_frames: int, validity: Validity) -> NDArray[np.uint64]:
        """Halves of squares and products, (8, 4, bins)."""
        for position, argument in enumerate((np.uint32(n_frames), *validity_arguments(validity)), start=4):
            self._wide.set_arg(position, argument)
        host = np.empty((BATCH, WIDE_PLANES, self._host.shape[2]), np.uint64)
        cl.enqueue_nd_range_kernel(self._queue, self._wide, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._reduce_wide, (host[0].size,), None)
        cl.enqueue_copy(self._queue, host, self._sums)
        return host
