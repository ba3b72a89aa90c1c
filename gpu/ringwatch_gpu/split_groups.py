"""kernels/split_groups.cl: split pixels, entries sorted by bin, work-groups. The form for GPU devices."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .groups import GROUP, groups_constants, segments_of
from .image import ImageBuffers, exposure_type, monitor_constants
from .memory import read
from .programs import build
from .signals import NO_DUMMIES, PixelFormat
from .split_lanes import IMAGE_SUMS, IMAGES
from .split_sums import SPLIT_PLANES, SplitFrameSums
from .splitting import Entries, Splitting, entry_norms
from .tables import BATCH, LOST_PLANES, DeviceTables, constant
from .validity import Validity


def split_groups_program(
    context: cl.Context, geometry: Geometry, pixels: PixelFormat, *, tells_noise: bool = False, monitored: bool = False
) -> cl.Program:
    """The compiled kernels for a geometry and a pixel type."""
    constants = {**groups_constants(geometry, pixels, GROUP), "NOISE": int(tells_noise)} | monitor_constants(monitored)
    return build(context, "split_groups", constants, before=(*pixels.before, "groups"))


class SplitGroupKernels:
    """kernels/split_groups.cl: entries sorted by bin, work-groups."""

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        splitting: Splitting,
        pixels: PixelFormat,
        image: ImageBuffers,
        tables: DeviceTables,
        *,
        tells_noise: bool = False,
        monitored: bool = False,
    ) -> None:
        self._queue, self._splitting, self._pixels, context = queue, splitting, pixels, queue.context
        self._items = -(-geometry.pixels // GROUP) * GROUP
        bins, flags = geometry.bins, cl.mem_flags
        program = split_groups_program(context, geometry, pixels, tells_noise=tells_noise, monitored=monitored)
        self._exposure_type = exposure_type(monitored)
        self._dark = tables.dark  # kept: kernels do not keep their arguments alive
        self._host = np.empty((BATCH, SPLIT_PLANES + tells_noise, bins))
        self._lost = np.empty((BATCH, LOST_PLANES, bins), np.uint64)
        self._images = np.empty((IMAGES, IMAGE_SUMS, bins))
        self._sums, self._lost_sums, self._image_sums = (
            cl.Buffer(context, flags.READ_WRITE, host.nbytes) for host in (self._host, self._lost, self._images)
        )
        self._integrate, self._add, self._image, self._add_image, self._accumulate = (
            cl.Kernel(program, name)
            for name in ("integrate_split", "sum_segments", "sum_image", "sum_segments", "accumulate_image")
        )
        none, image_sum = (np.uint32(0), NO_DUMMIES), (image.low, image.high, image.lost)
        self._integrate.set_args(None, *[None] * 5, *none, None, self._lost_sums, *self._dark)
        summed = (image.low, image.high, image.lost_exposure)
        self._image.set_args(*[None] * 4, *summed, self._exposure_type(0), None)
        self._add.set_args(None, None, np.uint32(0), self._sums)
        self._add_image.set_args(None, None, np.uint32(0), self._image_sums)
        self._accumulate.set_args(None, tables.bin_table, np.uint32(0), *none, *image_sum, *self._dark)
        self.change_mask(geometry)

    def change_mask(self, geometry: Geometry) -> None:
        """Sort the entries of the used pixels anew."""
        context, bins = self._queue.context, geometry.bins
        entries, bin_start = sorted_entries(self._splitting, geometry)
        start, of_bin = segments_of(bin_start)
        self._segments = len(of_bin)
        first_segment = np.searchsorted(of_bin, np.arange(bins + 1)).astype(np.uint32)
        columns = (entries.pixel.astype(np.uint32), entries.share, entry_norms(entries, geometry.norm_q), start, of_bin)
        self._tables = [constant(context, column) for column in (*columns, first_segment)]
        planes = max(self._host[..., 0].size, self._images[..., 0].size)
        self._partial = cl.Buffer(context, cl.mem_flags.READ_WRITE, planes * max(1, self._segments) * 8)
        for position, table in enumerate(self._tables[:5], start=1):
            self._integrate.set_arg(position, table)
        for position, table in enumerate(self._tables[:4]):
            self._image.set_arg(position, table)
        self._integrate.set_arg(8, self._partial)
        self._image.set_arg(8, self._partial)
        for kernel in (self._add, self._add_image):
            kernel.set_arg(0, self._partial)
            kernel.set_arg(1, self._tables[5])
            kernel.set_arg(2, np.uint32(self._segments))

    def integrate(self, frames: cl.Buffer, n_frames: int, validity: Validity) -> SplitFrameSums:
        """Sums of a buffer's first frames."""
        limit, dummies = self._pixels.arguments(validity)
        for kernel in (self._integrate, self._accumulate):
            kernel.set_arg(0, frames)
        for position, argument in enumerate((np.uint32(n_frames), limit, dummies), start=2):
            self._accumulate.set_arg(position, argument)
        for position, argument in enumerate((limit, dummies), start=6):
            self._integrate.set_arg(position, argument)
        cl.enqueue_fill_buffer(self._queue, self._lost_sums, np.zeros(1, np.uint64), 0, self._lost.nbytes)
        if self._segments:
            cl.enqueue_nd_range_kernel(self._queue, self._integrate, (self._segments * GROUP, n_frames), (GROUP, 1))
        cl.enqueue_nd_range_kernel(self._queue, self._add, (self._host.shape[2], n_frames * self._host.shape[1]), None)
        cl.enqueue_nd_range_kernel(self._queue, self._accumulate, (self._items,), (GROUP,))
        read(self._queue, (self._host, self._sums), (self._lost, self._lost_sums))
        return SplitFrameSums.of(self._host[:n_frames], self._lost[:n_frames])

    def image_sums(self, exposure: int) -> NDArray[np.float64]:
        """Sums of the summed and of the averaged image, shape (2, 8, bins); see kernels/split_groups.cl."""
        self._image.set_arg(7, self._exposure_type(exposure))
        if self._segments:
            cl.enqueue_nd_range_kernel(self._queue, self._image, (self._segments * GROUP,), (GROUP,))
        cl.enqueue_nd_range_kernel(self._queue, self._add_image, (self._images.shape[2], IMAGES * IMAGE_SUMS), None)
        read(self._queue, (self._images, self._image_sums))
        return self._images


def sorted_entries(splitting: Splitting, geometry: Geometry) -> tuple[Entries, NDArray[np.uint32]]:
    """Entries of the used pixels in the order of their bins, and where each bin begins, shape (bins + 1,)."""
    entries = splitting.entries(np.flatnonzero(geometry.bin_table < geometry.bins))
    order = np.argsort(entries.bin.astype(np.uint16), kind="stable")
    entries = Entries(entries.pixel[order], entries.bin[order], entries.share[order])
    return entries, np.searchsorted(entries.bin, np.arange(geometry.bins + 1)).astype(np.uint32)
