"""kernels/image.cl: the summed image on the device, and its statistics: of each bin, and of each sector of it."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from . import exact, monitor
from .exact import Words
from .geometry import Geometry
from .geometry_pyfai import SECTORS
from .memory import read
from .programs import build
from .reference import SCATTER_UNITS, ImageSums
from .runs import run_bounds
from .spottiness import bin_weights
from .sums import StaticSums
from .tables import DeviceTables, constant

_CPU_ITEMS = 4  # a constant: the order of floating additions must not depend on the number of cores
_GPU_ITEMS = 2048
_CAKE_PLANES = 2
_LOST_FLOATS = 2
_COARSE_QUANTA = 1 << 10
_CAKE_EXPOSURE_BITS = 24
"""More of the frames' exposure a cake does not hold."""
_NO_FLOATS = np.uint32(0xFFFFFFFF)


class ImageBuffers:
    """The summed image on the device: sum in two words and number of frames lost, one uint32 a pixel each.

    Attributes
    ----------
    lost_exposure
        What the lost frames would have counted for: with a monitor the sum of their f, one uint64 a pixel; else the
        very buffer of their number.
    """

    def __init__(self, queue: cl.CommandQueue, pixels: int, *, monitored: bool = False) -> None:
        self._queue, self._pixels, self._monitored, flags = queue, pixels, monitored, cl.mem_flags
        self.low, self.high, self.lost = (cl.Buffer(queue.context, flags.READ_WRITE, 4 * pixels) for _ in range(3))
        self.lost_exposure = cl.Buffer(queue.context, flags.READ_WRITE, 8 * pixels) if monitored else self.lost
        self.clear()

    def clear(self) -> None:
        """Start again from zero."""
        for buffer in (self.low, self.high, self.lost, self.lost_exposure):
            cl.enqueue_fill_buffer(self._queue, buffer, np.zeros(1, np.uint32), 0, buffer.size)

    def read(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Pixel-wise sum of valid signals and number of frames lost, both (pixels,)."""
        low, high, lost = (np.empty(self._pixels, np.uint32) for _ in range(3))
        read(self._queue, (low, self.low), (high, self.high), (lost, self.lost))
        total = high.astype(np.uint64)
        total <<= np.uint64(32)
        total |= low
        return total.view(np.int64), lost

    def write(
        self, total: NDArray[np.int64], lost: NDArray[np.uint32], lost_exposure: NDArray[np.uint64] | None
    ) -> None:
        """Put back what `read` and `read_lost_exposure` gave."""
        bits = total.view(np.uint64)
        halves = (bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32))
        for buffer, values in zip((self.low, self.high, self.lost), (*halves, lost), strict=True):
            cl.enqueue_copy(self._queue, buffer, np.ascontiguousarray(values))
        if lost_exposure is not None:
            cl.enqueue_copy(self._queue, self.lost_exposure, np.ascontiguousarray(lost_exposure))

    def read_lost_exposure(self) -> NDArray[np.uint64] | None:
        """What the lost frames would have counted for, (pixels,); None without a monitor."""
        if not self._monitored:
            return None
        lost = np.empty(self._pixels, np.uint64)
        read(self._queue, (lost, self.lost_exposure))
        return lost


def image_program(context: cl.Context, geometry: Geometry, share: bool, *, monitored: bool = False) -> cl.Program:
    """The compiled kernels for a geometry; ``share``: all work-items add to one cake, through atomics."""
    items, copies = _items_and_copies(share)
    constants = {"BINS": geometry.bins, "SECTORS": SECTORS, "ITEMS": items, "COPIES": copies}
    return build(context, "image", constants | monitor_constants(monitored))


def monitor_constants(monitored: bool) -> dict[str, int | str]:
    """The -D constants of kernels whose frames may count for their monitor: type and unit of what they count for."""
    if not monitored:
        return {"EXPOSURE": "uint", "UNIT": "1.0"}
    return {"MONITORED": 1, "EXPOSURE": "ulong", "UNIT": monitor.QUANTUM.hex()}


def exposure_type(monitored: bool) -> type[np.uint32 | np.uint64]:
    """What these kernels count frames in."""
    return np.uint64 if monitored else np.uint32


def evaluation_bytes(bins: int, share: bool, *, monitored: bool = False) -> tuple[int, int]:
    """Sizes of the two large buffers of an evaluation on the device: the cakes, and the sums of the work-items."""
    items, copies = _items_and_copies(share)
    lost_planes = _lost_integers(monitored) + _LOST_FLOATS
    return copies * _CAKE_PLANES * SECTORS * bins * 8, items * lost_planes * bins * 8


def _lost_integers(monitored: bool) -> int:
    return 7 if monitored else 6


def _items_and_copies(share: bool) -> tuple[int, int]:
    return (_GPU_ITEMS, 1) if share else (_CPU_ITEMS, _CPU_ITEMS)


class ImageEvaluation:
    """Two-pass statistics of the summed and of the averaged image; the means between the passes are the host's.

    ``share`` is the form for GPUs, see kernels/image.cl; with ``monitored`` frames count for their exposure.
    """

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        static: StaticSums,
        tables: DeviceTables,
        image: ImageBuffers,
        share: bool,
        *,
        monitored: bool = False,
    ) -> None:
        self._queue, self._bins, context, flags = queue, geometry.bins, queue.context, cl.mem_flags
        self._exposure_type, self._lost_integers = exposure_type(monitored), _lost_integers(monitored)
        self._unit, self._signal_quantum = monitor.QUANTUM if monitored else 1.0, geometry.signal_quantum
        self._items, copies = _items_and_copies(share)
        self.change_mask(geometry, static)
        self._cakes_bytes, partial_bytes = evaluation_bytes(geometry.bins, share, monitored=monitored)
        self._cakes = cl.Buffer(context, flags.READ_WRITE, self._cakes_bytes)
        self._partial = cl.Buffer(context, flags.READ_WRITE, partial_bytes)
        self._cake = cl.Buffer(context, flags.WRITE_ONLY, self._cakes_bytes // copies)
        self._total = cl.Buffer(context, flags.WRITE_ONLY, partial_bytes // self._items)
        self._mean, self._per_square = (cl.Buffer(context, flags.READ_ONLY, n * geometry.bins * 8) for n in (2, 1))
        program = image_program(context, geometry, share, monitored=monitored)
        self._first, self._second, self._norms, self._sum_cakes, self._sum = (
            cl.Kernel(program, name) for name in ("first_pass", "second_pass", "sum_norms", "sum_items", "sum_items")
        )
        self._runs = _runs(context, geometry.sector, self._items)
        pixels = (*self._runs, tables.bin_table, tables.norm_q)
        summed = (image.low, image.high, image.lost_exposure, self._exposure_type(0))
        self._first.set_args(*pixels, *summed, np.uint32(0), self._cakes, self._partial)
        self._second.set_args(*pixels, *summed, self._mean, self._per_square, self._cakes, self._partial)
        self._norms.set_args(*pixels, self._cakes)
        self._sum_cakes.set_args(self._cakes, np.uint32(copies), _NO_FLOATS, self._cake)
        self._sum.set_args(self._partial, np.uint32(self._items), _NO_FLOATS, self._total)

    def change_mask(self, geometry: Geometry, static: StaticSums) -> None:
        """Go on with a geometry that differs in its mask only; its tables are changed elsewhere."""
        self._static, self._azimuth_fraction = static, geometry.azimuth_fraction
        self._cake_norm: NDArray[np.uint64] | None = None

    def run(self, exposure: int, squares: NDArray[np.float64] | None = None) -> ImageSums:
        """Statistics of the summed image, whose frames count for ``exposure`` > 0.

        Parameters
        ----------
        squares
            No bin's squared pixels add up to more, shape (bins,). None where no pixel is negative: then the squared
            signal is.
        """
        static, integers = self._static, self._lost_integers
        shift = max(exposure.bit_length() - _CAKE_EXPOSURE_BITS, 0)
        self._first.set_arg(8, self._exposure_type(exposure))
        self._first.set_arg(9, np.uint32(shift))
        cake_signal, missing = self._sum_cake(self._first)
        planes = integers + _LOST_FLOATS
        lost = self._sum_partial(planes * self._bins, integers * self._bins).reshape(planes, -1)
        gone, gone_norm, *missing_norm, zeros = lost[1:integers]
        lost_signal, cake_signal = lost[0].view(np.int64), cake_signal.view(np.int64)
        lost_average, lost_square = lost[integers:].view(np.float64)
        signal, count = cake_signal.sum(axis=0), static.count - gone
        norm = exact.subtract(_product(static.norm, exposure), _from_digits(*missing_norm))
        averaged_signal = (signal - lost_signal) / (exposure * self._unit) + lost_average
        averaged_norm = exact.to_float(exact.subtract(static.norm, exact.words(gone_norm)))
        norm_sq = np.where(count > 0, exact.to_float(static.norm_sq) * float(exposure) ** 2 - lost_square, 0.0)
        intensity = signal / _nonzero(exact.to_float(norm))
        weights = bin_weights(signal * self._signal_quantum, intensity, count, self._azimuth_fraction)
        norm_of_cake = self._norm_of_cake(exposure, missing, shift)
        means = np.stack([intensity * exposure, averaged_signal / _nonzero(averaged_norm)], axis=1)
        largest = np.maximum(signal, 1).astype(np.float64) ** 2 if squares is None else _power_of_two(squares)
        scatter, (variance, averaged_variance) = self._second_pass(exposure, means, largest)
        return ImageSums(
            signal, norm, count, norm_sq, variance, averaged_signal, averaged_norm, averaged_variance,
            cake_signal.T, norm_of_cake, scatter, weights, zeros,
        )  # fmt: skip

    def _second_pass(
        self, exposure: int, means: NDArray[np.float64], largest: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Variance of the cells, (bins, SECTORS); variances of summed and averaged image, (2, bins)."""
        self._second.set_arg(8, self._exposure_type(exposure))
        cl.enqueue_copy(self._queue, self._mean, means)
        cl.enqueue_copy(self._queue, self._per_square, SCATTER_UNITS / largest)
        scatter = self._sum_cake(self._second)[0].T / SCATTER_UNITS * largest[:, np.newaxis]
        variances = self._sum_partial(2 * self._bins, 0).view(np.float64).reshape(-1, 2)
        return scatter, variances.T

    def _norm_of_cake(self, exposure: int, missing: NDArray[np.uint64], shift: int) -> NDArray[np.float64]:
        """Norm of each cell, (bins, SECTORS), from what is missing of it; as coarse as that everywhere."""
        if self._cake_norm is None:
            self._cake_norm = self._sum_cake(self._norms)[0]
        norm = (self._cake_norm * np.uint64(exposure >> shift) - missing).astype(np.float64)
        norm *= _COARSE_QUANTA << shift
        return norm.T

    def _sum_cake(self, kernel: cl.Kernel) -> NDArray[np.uint64]:
        """Run a kernel that fills the cakes: their sum, shape (2, SECTORS, bins)."""
        total = np.empty((_CAKE_PLANES, SECTORS, self._bins), np.uint64)
        cl.enqueue_fill_buffer(self._queue, self._cakes, np.zeros(1, np.uint64), 0, self._cakes_bytes)
        cl.enqueue_nd_range_kernel(self._queue, kernel, (self._items,), (1,))
        cl.enqueue_nd_range_kernel(self._queue, self._sum_cakes, (total.size,), None)
        read(self._queue, (total, self._cake))
        return total

    def _sum_partial(self, cells: int, integers: int) -> NDArray[np.uint64]:
        """Sums over the work-items of what the last pass left: ``integers`` cells, then doubles."""
        total = np.empty(cells, np.uint64)
        self._sum.set_arg(2, np.uint32(integers))
        cl.enqueue_nd_range_kernel(self._queue, self._sum, (cells,), None)
        read(self._queue, (total, self._total))
        return total


def _runs(context: cl.Context, sector: NDArray[np.uint8], items: int) -> tuple[cl.Buffer, cl.Buffer, cl.Buffer]:
    """Runs of pixels in one sector: their first pixels and sectors, and the first run of each work-item."""
    stretch = -(-sector.size // items)
    bounds = run_bounds(sector, stretch)
    first = np.searchsorted(bounds, np.minimum(np.arange(items + 1) * stretch, sector.size)).astype(np.uint32)
    return constant(context, bounds), constant(context, sector[bounds[:-1]]), constant(context, first)


def _product(norm: Words, exposure: int) -> Words:
    return exact.from_integers(exact.to_integers(norm) * exposure)


def _from_digits(low: NDArray[np.uint64], middle: NDArray[np.uint64], high: NDArray[np.uint64] | None = None) -> Words:
    """The words of sums of 32-bit digits, the lowest first."""
    total = exact.from_halves(low, middle)
    return total if high is None else exact.add(total, exact.words(np.zeros_like(high), high))


def _power_of_two(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Not below them, and not below 1: scaling by it rounds nothing."""
    return np.exp2(np.ceil(np.log2(np.maximum(squares, 1.0))))


def _nonzero(norm: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(norm > 0, norm, 1.0)
