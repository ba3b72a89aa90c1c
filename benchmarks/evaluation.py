"""What the statistics cost, in processor time and in time: 4M frames of the tutorial preset through one accumulator."""

import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from ringwatch.clock import SystemClock
from ringwatch.messages import Origin
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stream.powder import TUTORIAL, pixel_mask
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.tables import BATCH
from ringwatch_gpu.validity import Validity

REPEATS = 30


def filled_accumulator() -> Accumulator:
    """One whose slots hold eight frames."""
    geometry = Geometry.from_poni(TUTORIAL.poni()).masked(pixel_mask(TUTORIAL))
    integrator = BatchIntegrator(geometry, TUTORIAL.dtype, devices.choose())
    simulator, validity = Simulator(TUTORIAL, 1), Validity.of(TUTORIAL.dtype, [TUTORIAL.dummy])
    for slot in integrator.slots:
        slot[...] = simulator.frame()
    origin = Origin(1, "benchmark", "silicon", 1, "")
    return Accumulator(origin, integrator, validity, SpotStatistics.of(geometry), SystemClock())


def measure(call: Callable[[], object]) -> tuple[float, float]:
    """Core-milliseconds and milliseconds of a call."""
    call()
    cpu_s, begin_s = time.process_time(), time.monotonic()
    for _ in range(REPEATS):
        call()
    return 1e3 * (time.process_time() - cpu_s) / REPEATS, 1e3 * (time.monotonic() - begin_s) / REPEATS


def main() -> None:
    """One line a step."""
    threadpool_limits(1, "blas")  # as in the daemon
    accumulator = filled_accumulator()
    steps: dict[str, Callable[[], object]] = {
        "integrate a batch": lambda: accumulator.add(np.arange(BATCH)),
        "sectors of a batch": accumulator.sample,
        "evaluation": accumulator.evaluate,
        "image of a saved state": accumulator.integrator.read_image,
    }
    for name, step in steps.items():
        cores_ms, wall_ms = measure(step)
        print(f"{name:24} {cores_ms:6.1f} core-ms {wall_ms:6.1f} ms")


if __name__ == "__main__":
    main()
