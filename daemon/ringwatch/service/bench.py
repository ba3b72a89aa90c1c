"""One machine against pyFAI on the same frames: pairs of measurements in turn, ratios of pairs, medians."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ringwatch.clock import SystemClock
from ringwatch.messages import Origin
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stream.powder import TUTORIAL
from ringwatch.stream.simulator import DEFAULT_SEED, Simulator
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.tables import BATCH
from ringwatch_gpu.validity import Validity
from ringwatch_gpu.verification import Verification

PAIRS = 24
BINS = 1000
SAMPLED_A_SECOND = 25
"""Frames of a detector at 200 Hz whose sectors are kept: one a batch."""


@dataclass(frozen=True, slots=True)
class Row:
    """One device: times a frame in ms (wall clock), and how often ours goes into pyFAI's; medians over the pairs.

    ``sectors_ms`` is spent once a batch of eight, on one of its frames; ``evaluation_ms`` once an interval.
    """

    device: str
    pixels: str
    pyfai_ms: float
    ours_ms: float
    ours_core_ms: float
    ratio: float
    sectors_ms: float
    evaluation_ms: float

    def as_dict(self) -> dict[str, str | float]:
        """The fields by name."""
        return asdict(self)


def bench(pairs: int = PAIRS) -> list[Row]:
    """Measure every usable OpenCL device.

    Ours is integration with everything on: six sums, lost pixels, summed image, profiles and spottiness of each frame,
    union. An evaluation takes the summed image, 25 sampled frames and all statistics. pyFAI's is its Cython CSR engine
    with the azimuthal error model, warm, intensity and errors only.

    Raises
    ------
    NoDevice
    """
    devices.choose()
    frames = _frames(TUTORIAL.dtype)
    geometry = Geometry.from_poni(TUTORIAL.poni(), bins=BINS)
    usable = (info for info in devices.list_devices() if info.usable)
    return [row for info in usable for row in _measure(info, geometry, frames, pairs)]


def _frames(dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    simulator = Simulator(TUTORIAL, DEFAULT_SEED)
    return np.stack([simulator.frame() for _ in range(BATCH)]).astype(dtype)


def _measure(info: devices.DeviceInfo, geometry: Geometry, frames: NDArray[np.generic], pairs: int) -> Iterator[Row]:
    for dtype in (np.dtype(np.uint32), np.dtype(np.uint16)):
        theirs = _pyfai(geometry, frames[0].astype(dtype), info.device)
        ours, sectors, evaluate = _ours(geometry, frames.astype(dtype), info.device)
        times = [(_timed(theirs), _timed(ours)) for _ in range(pairs)]
        yield Row(
            str(info),
            str(dtype),
            pyfai_ms=1e3 * median(t.wall_s for t, _ in times),
            ours_ms=1e3 * median(o.wall_s for _, o in times) / BATCH,
            ours_core_ms=1e3 * median(o.cpu_s for _, o in times) / BATCH,
            ratio=median(t.wall_s / (o.wall_s / BATCH) for t, o in times),
            sectors_ms=1e3 * median(_timed(sectors).wall_s for _ in range(5)),
            evaluation_ms=1e3 * median(_timed(evaluate).wall_s for _ in range(5)),
        )


def _pyfai(geometry: Geometry, frame: NDArray[np.generic], device: cl.Device) -> Callable[[], object]:
    verification = Verification(geometry, frame.dtype, device)
    return lambda: verification.cython_engine(frame)


def _ours(
    geometry: Geometry, frames: NDArray[np.generic], device: cl.Device
) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    batch, validity = BatchIntegrator(geometry, frames.dtype, device), Validity.of(frames.dtype)
    batch.slots[:] = frames
    origin, statistics = Origin(0, "", "", 1, geometry.digest), SpotStatistics.of(geometry)
    accumulator = Accumulator(origin, batch, validity, statistics, SystemClock())
    numbers = np.arange(BATCH)

    def evaluate() -> None:
        for _ in range(SAMPLED_A_SECOND):
            statistics.add_sectors(sectors)
        accumulator.evaluate()

    accumulator.add(numbers)
    sectors = batch.sector_sums(validity)
    return lambda: accumulator.add(numbers), lambda: batch.sector_sums(validity), evaluate


@dataclass(frozen=True, slots=True)
class _Duration:
    wall_s: float
    cpu_s: float


def _timed(action: Callable[[], object]) -> _Duration:
    """The second of two calls: the first one finds the caches full of the other side's data, and its threads awake."""
    action()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    action()
    return _Duration(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def show(rows: list[Row], console: Console) -> None:
    """Print the table."""
    rows_, columns = TUTORIAL.shape
    table = Table(
        "device", "pixels", "pyFAI CSR", "ringwatch", "core time", "pyFAI / ringwatch", "sectors", "evaluation",
        title=f"ms a frame of {rows_} x {columns} pixels, {BINS} bins",
    )  # fmt: skip
    for row in rows:
        times = (f"{value:.2f}" for value in (row.pyfai_ms, row.ours_ms, row.ours_core_ms))
        table.add_row(
            row.device, row.pixels, *times, f"{row.ratio:.1f}", f"{row.sectors_ms:.1f}", f"{row.evaluation_ms:.1f}"
        )
    console.print(table)
