"""The summed image on the device in, its pixels in the order of their bins out: whole ones, or parts of split ones."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .image import ImageBuffers, monitor_constants
from .programs import build
from .split_groups import sorted_entries
from .splitting import Splitting, entry_norms
from .tables import constant

LANES = 64
"""Each bin begins at a multiple of it."""

_NOWHERE = np.uint32(0xFFFFFFFF)
_BYTES_A_RANK, _BYTES_AN_ENTRY = 4, 8

Order = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""Norm of each entry in quanta, 0 for one that is no pixel; first entry of each bin, and the end of the last."""


def most_entries(geometry: Geometry) -> int:
    """Entries of the bins, each a multiple of LANES, whatever the mask."""
    pixels = geometry.pixels if geometry.splitting is None else geometry.splitting.share.size
    return pixels + geometry.bins * LANES


def order_bytes(geometry: Geometry, exposure_bytes: int) -> tuple[int, ...]:
    """Sizes of the buffers on the device."""
    whole = geometry.splitting is None
    table = _BYTES_A_RANK * geometry.pixels if whole else _BYTES_AN_ENTRY * most_entries(geometry)
    return table, *_sorted_bytes(geometry, exposure_bytes)


def _sorted_bytes(geometry: Geometry, exposure_bytes: int) -> tuple[int, int, int, int]:
    entries = most_entries(geometry)
    return 4 * entries, 4 * entries, exposure_bytes * entries, entries // LANES + 1


class EntryBuffers:
    """Words of the sums and exposure lost, in the order of the bins; kernels/rejection.cl says how they are read."""

    def __init__(self, queue: cl.CommandQueue, geometry: Geometry, exposure_bytes: int) -> None:
        self._queue = queue
        self.low, self.high, self.lost, self.rare = (
            cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, size) for size in _sorted_bytes(geometry, exposure_bytes)
        )

    def fill(self, byte: int, *buffers: cl.Buffer) -> None:
        """Set all bytes of them."""
        for buffer in buffers:
            cl.enqueue_fill_buffer(self._queue, buffer, np.full(1, byte, np.uint8), 0, buffer.size)


class WholePixels:
    """Each pixel once."""

    def __init__(
        self, queue: cl.CommandQueue, program: cl.Program, geometry: Geometry, image: ImageBuffers, to: EntryBuffers
    ) -> None:
        self._queue, self._to = queue, to
        self._rank = cl.Buffer(queue.context, cl.mem_flags.READ_ONLY, _BYTES_A_RANK * geometry.pixels)
        self._kernel = cl.Kernel(program, "sort_pixels")
        summed, pixels = (image.low, image.high, image.lost_exposure), np.uint32(geometry.pixels)
        self._kernel.set_args(self._rank, *summed, pixels, to.low, to.high, to.lost, to.rare)

    def clear(self) -> None:
        """The image begins anew: no pixel is a rare one."""
        self._to.fill(0, self._to.high, self._to.lost, self._to.rare)

    def change_mask(self, geometry: Geometry) -> Order:
        """Go on with a geometry that differs in its mask only."""
        rank, bin_start = _ranks(geometry)
        norm = np.zeros(most_entries(geometry), np.uint32)
        used = rank != _NOWHERE
        norm[rank[used]] = geometry.norm_q[used]
        cl.enqueue_copy(self._queue, self._rank, rank)
        self._to.fill(0, self._to.low)  # entries that are no pixel are never written
        return norm, bin_start

    def run(self, items: tuple[int], group: tuple[int] | None) -> None:
        """Enqueue the copying."""
        cl.enqueue_nd_range_kernel(self._queue, self._kernel, items, group)


class SplitPixels:
    """Each pixel once for each bin that it reaches, times its share there, as bits of a double.

    After `change_mask`, ``shares`` are those of the entries, 0 for one that is no part of a pixel.
    """

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        splitting: Splitting,
        image: ImageBuffers,
        to: EntryBuffers,
        *,
        monitored: bool = False,
    ) -> None:
        self._queue, self._splitting, self._to = queue, splitting, to
        program = build(queue.context, "split_order", monitor_constants(monitored))
        self._kernel = cl.Kernel(program, "gather_parts")
        summed, quantum = (image.low, image.high, image.lost_exposure), np.float64(geometry.signal_quantum)
        self._kernel.set_args(None, None, np.uint32(most_entries(geometry)), *summed, quantum, to.low, to.high, to.lost)

    def clear(self) -> None:
        """The image begins anew."""
        self._to.fill(1, self._to.rare)

    def change_mask(self, geometry: Geometry) -> Order:
        """Go on with a geometry that differs in its mask only."""
        entries, first = sorted_entries(self._splitting, geometry)
        bin_start, place = _spread(first[1:].astype(np.int64) - first[:-1])
        pixel, norm = (np.zeros(most_entries(geometry), np.uint32) for _ in range(2))
        share = np.zeros(pixel.size, np.float32)
        pixel[place], share[place], norm[place] = entries.pixel, entries.share, entry_norms(entries, geometry.norm_q)
        self._pixels, self.shares = (constant(self._queue.context, table) for table in (pixel, share))
        for position, table in enumerate((self._pixels, self.shares)):
            self._kernel.set_arg(position, table)
        return norm, bin_start

    def run(self, items: tuple[int], group: tuple[int] | None) -> None:
        """Enqueue the copying."""
        cl.enqueue_nd_range_kernel(self._queue, self._kernel, items, group)


def _ranks(geometry: Geometry) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Where each pixel goes, shape (pixels,), and where each bin begins, at multiples of LANES, shape (bins + 1,)."""
    count = np.bincount(geometry.bin_table, minlength=geometry.bins)[: geometry.bins]
    used = np.argsort(geometry.bin_table, kind="stable")[: count.sum()]
    bin_start, place = _spread(count)
    rank = np.full(geometry.pixels, _NOWHERE)
    rank[used] = place
    return rank, bin_start


def _spread(count: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Where bins of ``count`` entries begin, at multiples of LANES, and the places of all entries in a row."""
    bin_start = np.concatenate([[0], np.cumsum(-(-count // LANES) * LANES)]).astype(np.uint32)
    moved_by = bin_start[:-1] - (np.cumsum(count) - count).astype(np.uint32)
    return bin_start, np.arange(count.sum(), dtype=np.uint32) + np.repeat(moved_by, count)
