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


def order_bytes(geometry: Geometry) -> int:
    """Size of the tables on the device."""
    if geometry.splitting is None:
        return _BYTES_A_RANK * geometry.pixels
    return _BYTES_AN_ENTRY * most_entries(geometry)


class WholePixels:
    """Each pixel once. Written to ``sums`` and ``lost``, which have `most_entries`."""

    def __init__(
        self, queue: cl.CommandQueue, program: cl.Program, geometry: Geometry, image: ImageBuffers, *to: cl.Buffer
    ) -> None:
        self._queue = queue
        self._rank = cl.Buffer(queue.context, cl.mem_flags.READ_ONLY, _BYTES_A_RANK * geometry.pixels)
        self._kernel = cl.Kernel(program, "sort_pixels")
        pixels, quantum = np.uint32(geometry.pixels), np.float64(geometry.signal_quantum)
        self._kernel.set_args(self._rank, image.low, image.high, image.lost_exposure, pixels, quantum, *to)

    def change_mask(self, geometry: Geometry) -> Order:
        """Go on with a geometry that differs in its mask only."""
        rank, bin_start = _ranks(geometry)
        norm = np.zeros(most_entries(geometry), np.uint32)
        used = rank != _NOWHERE
        norm[rank[used]] = geometry.norm_q[used]
        cl.enqueue_copy(self._queue, self._rank, rank)
        return norm, bin_start

    def run(self, items: tuple[int], group: tuple[int] | None) -> None:
        """Enqueue the copying."""
        cl.enqueue_nd_range_kernel(self._queue, self._kernel, items, group)


class SplitPixels:
    """Each pixel once for each bin that it reaches, times its share there. Written as by `WholePixels`.

    After `change_mask`, ``shares`` are those of the entries, 0 for one that is no part of a pixel.
    """

    def __init__(
        self,
        queue: cl.CommandQueue,
        geometry: Geometry,
        splitting: Splitting,
        image: ImageBuffers,
        *to: cl.Buffer,
        monitored: bool = False,
    ) -> None:
        self._queue, self._splitting = queue, splitting
        program = build(queue.context, "split_order", monitor_constants(monitored))
        self._kernel = cl.Kernel(program, "gather_parts")
        summed, quantum = (image.low, image.high, image.lost_exposure), np.float64(geometry.signal_quantum)
        self._kernel.set_args(None, None, np.uint32(most_entries(geometry)), *summed, quantum, *to)

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
