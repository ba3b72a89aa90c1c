"""kernels/groups.cl: sorted pixels, work-groups and integer atomics. The form for GPU devices."""

from collections.abc import Mapping
from itertools import pairwise

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
    SUM_PLANES,
    WIDE_PLANES,
    DeviceTables,
    SortedPixels,
    constant,
)
from .validity import Validity

GROUP = 64
_SEGMENT_PIXELS = 4096


def groups_program(context: cl.Context, geometry: Geometry, pixels: PixelFormat, group: int = GROUP) -> cl.Program:
    """The compiled kernels for a geometry, a pixel type and a work-group size."""
    return build(context, "groups", groups_constants(geometry, pixels, group), pixels.before)


def groups_constants(geometry: Geometry, pixels: PixelFormat, group: int) -> Mapping[str, int | str]:
    """What the kernels are built with."""
    return {**pixels.constants, "PIXELS": geometry.pixels, "BINS": geometry.bins, "GROUP": group}


class GroupKernels:
    """kernels/groups.cl: sorted pixels, work-groups, integer atomics."""

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        pixels: PixelFormat,
        image: ImageBuffers,
        tables: DeviceTables,
        group: int = GROUP,
    ) -> None:
        self._queue, self._group, self._pixels, context = queue, group, pixels, queue.context
        self._items = -(-geometry.pixels // group) * group
        bins = geometry.bins
        program = groups_program(context, geometry, pixels, group)
        self._seen = cl.Buffer(context, cl.mem_flags.READ_WRITE, 4)
        self._sums = cl.Buffer(context, cl.mem_flags.READ_WRITE, BATCH * bins * SUM_PLANES * 8)
        self._host = np.empty((BATCH, SUM_PLANES, bins), np.uint64)
        self._integrate = cl.Kernel(program, "integrate")
        self._wide = cl.Kernel(program, "integrate_wide")
        self._accumulate = cl.Kernel(program, "accumulate_image")
        none = (np.uint32(0), NO_DUMMIES)
        self._dark = tables.dark  # kept: kernels do not keep their arguments alive
        self._integrate.set_args(None, *[None] * 4, *none, self._sums, self._seen, *self._dark)
        self._wide.set_args(None, *[None] * 4, *none, self._sums, *self._dark)
        self.change_mask(geometry)
        summed = (image.low, image.high, image.lost)
        self._accumulate.set_args(None, tables.bin_table, np.uint32(0), *none, *summed, *self._dark)

    def change_mask(self, geometry: Geometry) -> None:
        """Sort the used pixels anew."""
        context = self._queue.context
        sorted_pixels = SortedPixels(context, geometry)
        start, of_bin = segments_of(sorted_pixels.bin_start)
        self._segments = len(of_bin)
        self._rings = (sorted_pixels.order, sorted_pixels.norm, constant(context, start), constant(context, of_bin))
        for position, ring in enumerate(self._rings, start=1):
            self._integrate.set_arg(position, ring)
            self._wide.set_arg(position, ring)

    def integrate(self, frames: cl.Buffer, n_frames: int, validity: Validity) -> tuple[NDArray[np.uint64], int]:
        """Planes of a buffer's first frames, (8, 7, bins), valid until the next call, and the OR of all values."""
        limit, dummies = self._pixels.arguments(validity)
        self._integrate.set_arg(0, frames)
        self._accumulate.set_arg(0, frames)
        for position, argument in enumerate((np.uint32(n_frames), limit, dummies), start=2):
            self._accumulate.set_arg(position, argument)
        cl.enqueue_fill_buffer(self._queue, self._seen, np.zeros(1, np.uint32), 0, 4)
        self._launch(self._integrate, n_frames, limit, dummies)
        cl.enqueue_nd_range_kernel(self._queue, self._accumulate, (self._items,), (self._group,))
        seen = np.empty(1, np.uint32)
        read(self._queue, (seen, self._seen), (self._host, self._sums))
        return self._host, int(seen[0])

    def integrate_wide(self, frames: cl.Buffer, n_frames: int, validity: Validity) -> NDArray[np.uint64]:
        """Halves of squares and products, (8, 4, bins)."""
        self._wide.set_arg(0, frames)
        self._launch(self._wide, n_frames, *self._pixels.arguments(validity))
        host = np.empty((BATCH, WIDE_PLANES, self._host.shape[2]), np.uint64)
        read(self._queue, (host, self._sums))
        return host

    def _launch(self, kernel: cl.Kernel, n_frames: int, limit: np.uint32, dummies: np.void) -> None:
        kernel.set_arg(5, limit)
        kernel.set_arg(6, dummies)
        cl.enqueue_fill_buffer(self._queue, self._sums, np.zeros(1, np.uint64), 0, self._host.nbytes)
        if self._segments:
            cl.enqueue_nd_range_kernel(self._queue, kernel, (self._segments * self._group, n_frames), (self._group, 1))


def segments_of(bin_start: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Cut every bin into stretches of at most 4096 pixels: their starts (and the end), and the bin of each."""
    starts: list[NDArray[np.uint32]] = []
    of_bin: list[int] = []
    for number, (first, last) in enumerate(pairwise(bin_start)):
        pieces = np.arange(first, last, _SEGMENT_PIXELS, dtype=np.uint32)
        starts.append(pieces)
        of_bin += [number] * len(pieces)
    return np.concatenate([*starts, bin_start[-1:]]), np.array(of_bin, np.uint16)
