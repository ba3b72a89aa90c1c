"""kernels/sectors.cl: one frame of a batch in, its counts in radial groups x azimuthal sectors out."""

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .geometry import Geometry
from .geometry_pyfai import SECTORS
from .memory import read
from .programs import build
from .runs import run_bounds
from .signals import PixelFormat
from .tables import DeviceTables, constant
from .validity import Validity

GROUPS = 64
CELLS = GROUPS * SECTORS
_LONGEST_RUN = 256
_ITEMS_PER_UNIT = 4


def equal_groups(bins: int) -> NDArray[np.uint8]:
    """Group of each radial bin, shape (bins,): 64 equal stretches."""
    return (np.arange(bins) * GROUPS // bins).astype(np.uint8)


def sectors_program(context: cl.Context, pixels: PixelFormat, share: bool) -> cl.Program:
    """The compiled kernel for a pixel type; ``share``: all work-items add to one histogram, through atomics."""
    sizes = {"CELLS": CELLS, "COPIES": 1 if share else _items(context)}
    return build(context, "sectors", {**pixels.constants, **sizes}, pixels.before)


def _items(context: cl.Context) -> int:
    return _ITEMS_PER_UNIT * context.devices[0].max_compute_units


class SectorKernel:
    """kernels/sectors.cl. The runs of the cells are made when they are first needed, in some 20 ms at 4M pixels."""

    def __init__(
        self, queue: cl.CommandQueue, geometry: Geometry, pixels: PixelFormat, tables: DeviceTables, share: bool
    ) -> None:
        self._queue, self._share, self._pixels, context = queue, share, pixels, queue.context
        self._copies = 1 if share else _items(context)
        self._sums = cl.Buffer(context, cl.mem_flags.READ_WRITE, self._copies * CELLS * 8)
        self._kernel = cl.Kernel(sectors_program(context, pixels, share), "sum_runs")
        self._dark = tables.dark  # kept: kernels do not keep their arguments alive
        for position, argument in enumerate((self._sums, *self._dark), start=8):
            self._kernel.set_arg(position, argument)
        self._geometry = geometry
        self._runs: list[cl.Buffer] | None = None

    def change_mask(self, geometry: Geometry) -> None:
        """Go on with a geometry that differs in its mask only."""
        self._geometry, self._runs = geometry, None

    def sums(self, frames: cl.Buffer, slot: int, validity: Validity) -> NDArray[np.int64]:
        """Sum of the valid signals of one frame of a buffer, in quanta, shape (GROUPS, SECTORS)."""
        if self._runs is None:
            self._set_runs()
        kernel, host = self._kernel, np.empty((self._copies, GROUPS, SECTORS), np.uint64)
        kernel.set_arg(0, frames)
        kernel.set_arg(1, np.uint64(slot * self._geometry.pixels))
        for position, argument in enumerate(self._pixels.arguments(validity), start=6):
            kernel.set_arg(position, argument)
        cl.enqueue_fill_buffer(self._queue, self._sums, np.zeros(1, np.uint64), 0, host.nbytes)
        cl.enqueue_nd_range_kernel(self._queue, kernel, (self._items,), None if self._share else (1,))
        read(self._queue, (host, self._sums))
        total: NDArray[np.uint64] = host.sum(axis=0)
        return total.view(np.int64)

    def _set_runs(self) -> None:
        runs = _runs_of_cells(self._geometry)
        number = len(runs[0])
        self._items = max(1, number) if self._share else self._copies
        self._runs = [constant(self._queue.context, column) for column in runs]
        for position, table in enumerate(self._runs, start=2):
            self._kernel.set_arg(position, table)
        self._kernel.set_arg(5, np.uint32(number))


def _runs_of_cells(geometry: Geometry) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint16]]:
    """Runs of pixels in one cell: first pixel, the one after the last, and the cell, each of shape (runs,)."""
    group = np.append(equal_groups(geometry.bins), np.uint8(GROUPS))[geometry.bin_table]
    cell = group * np.uint16(SECTORS)
    cell += geometry.sector
    bounds = run_bounds(cell, _LONGEST_RUN)
    of_run = cell[bounds[:-1]]
    used = of_run < CELLS
    return bounds[:-1][used], bounds[1:][used], of_run[used]
