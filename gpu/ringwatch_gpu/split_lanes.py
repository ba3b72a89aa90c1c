"""kernels/split_lanes.cl: split pixels, eight frames at once. The form for CPU devices."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from . import devices
from .geometry import Geometry
from .image import ImageBuffers, exposure_type, monitor_constants
from .lanes import lanes_bytes, lanes_constants, lanes_items
from .memory import read
from .programs import build
from .signals import NO_DUMMIES, PixelFormat
from .split_sums import SPLIT_PLANES, SplitFrameSums
from .splitting import Splitting
from .tables import BATCH, LOST_PLANES, DeviceTables, constant
from .tiles import TILE, Tiles
from .validity import Validity

IMAGES, IMAGE_SUMS = 2, 8
_LINE_BYTES = 64
"""Of a cache; where lines are longer, the next pixels are only asked for twice."""

_SIGNALS_BYTES = BATCH * 4


def split_lanes_program(
    context: cl.Context, geometry: Geometry, pixels: PixelFormat, *, tells_noise: bool = False, monitored: bool = False
) -> cl.Program:
    """The compiled kernels for a geometry and a pixel type."""
    constants = {
        **lanes_constants(context, geometry, pixels),
        "NOISE": int(tells_noise),
        "TILE": TILE,
        "LINE": _LINE_BYTES,
        "AT_ONCE": _frames_at_once(context.devices[0]),
        **monitor_constants(monitored),
    }
    return build(context, "split_lanes", constants, before=(*pixels.before, "lanes"))


def _frames_at_once(device: cl.Device) -> int:
    """Four where that is fast: some CPUs (Zen 4) take twice as long for an instruction on 512 bits as for one on 256.

    Intel's compiler converts four integers without sign with a call of a function, eight with an instruction.
    """
    return 8 if device.platform.name == devices.INTEL else 4


class SplitLaneKernels:
    """kernels/split_lanes.cl: one frame a vector lane."""

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
        self._queue, self._pixels, context = queue, pixels, queue.context
        bins, device, flags = geometry.bins, context.devices[0], cl.mem_flags
        self._items = lanes_items(device)
        program = split_lanes_program(context, geometry, pixels, tells_noise=tells_noise, monitored=monitored)
        self._exposure_type, planes = exposure_type(monitored), SPLIT_PLANES + tells_noise
        zeros = constant(context, np.zeros(geometry.pixels, pixels.dtype))
        split = tuple(constant(context, array) for array in (splitting.first_bin, splitting.start, splitting.share))
        signals = cl.Buffer(context, flags.READ_WRITE, self._items * TILE * _SIGNALS_BYTES)
        partial, losses = (cl.Buffer(context, flags.READ_WRITE, n) for n in lanes_bytes(device, bins, planes))
        # kept: kernels do not keep their arguments alive
        self._kept = (zeros, split, signals, partial, losses, *tables.dark)
        self._host = np.empty((BATCH, planes, bins))
        self._lost = np.empty((BATCH, LOST_PLANES, bins), np.uint64)
        self._images = np.empty((bins, IMAGES, IMAGE_SUMS))
        self._sums, self._lost_sums, self._image_sums = (
            cl.Buffer(context, flags.WRITE_ONLY, host.nbytes) for host in (self._host, self._lost, self._images)
        )
        self._integrate, self._reduce, self._reduce_lost, self._image, self._reduce_image = (
            cl.Kernel(program, name)
            for name in ("integrate_split", "reduce_split", "reduce_items", "sum_image", "reduce_image")
        )
        image_sum, tables_of = (image.low, image.high, image.lost), (tables.bin_table, tables.norm_q, *split)
        none = (np.uint32(0), np.uint32(0), np.uint32(0), NO_DUMMIES)
        to = (signals, partial, losses, *image_sum)
        self._integrate.set_args(None, zeros, *tables_of, *[None] * len(Tiles._fields), *none, *to, *tables.dark)
        self._reduce.set_args(partial, self._sums)
        lost = np.uint32(LOST_PLANES)
        self._reduce_lost.set_args(losses, lost, np.uint32(0), lost, self._lost_sums)
        summed = (image.low, image.high, image.lost_exposure)
        self._image.set_args(*tables_of, *summed, self._exposure_type(0), partial)
        self._reduce_image.set_args(partial, self._image_sums)
        self._splitting = splitting
        self._set_tiles(geometry, geometry.mask)

    def change_mask(self, geometry: Geometry) -> None:
        """Pixels that come back take about a second. Those that are masked now may stay: their signals are 0."""
        if (self._left_out & ~geometry.mask).any():
            self._set_tiles(geometry, self._left_out & geometry.mask)

    def _set_tiles(self, geometry: Geometry, left_out: NDArray[np.bool_]) -> None:
        tables = Tiles.of(self._splitting, geometry.norm_q, ~left_out.ravel())
        tiles = tuple(constant(self._queue.context, table) for table in tables)
        for position, table in enumerate(tiles, start=7):
            self._integrate.set_arg(position, table)
        self._left_out, self._tiles = left_out, tiles  # kept, as above

    def integrate(self, frames: cl.Buffer, n_frames: int, validity: Validity) -> SplitFrameSums:
        """Sums of a buffer's first frames."""
        arguments = (np.uint32(n_frames), np.uint32(validity.rare), *self._pixels.arguments(validity))
        self._integrate.set_arg(0, frames)
        for position, argument in enumerate(arguments, start=13):
            self._integrate.set_arg(position, argument)
        cl.enqueue_nd_range_kernel(self._queue, self._integrate, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._reduce, (self._host[0].size,), None)
        cl.enqueue_nd_range_kernel(self._queue, self._reduce_lost, (self._lost[0].size,), None)
        read(self._queue, (self._host, self._sums), (self._lost, self._lost_sums))
        return SplitFrameSums.of(self._host[:n_frames], self._lost[:n_frames])

    def image_sums(self, exposure: int) -> NDArray[np.float64]:
        """Sums of the summed and of the averaged image, shape (2, 8, bins); see kernels/split_lanes.cl."""
        self._image.set_arg(8, self._exposure_type(exposure))
        cl.enqueue_nd_range_kernel(self._queue, self._image, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._reduce_image, (self._images[..., 0].size,), None)
        read(self._queue, (self._images, self._image_sums))
        return np.moveaxis(self._images, 0, -1)
