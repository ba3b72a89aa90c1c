"""How the tutorial's numbers scatter: `python benchmarks/tutorial_seeds.py 0 1 2 ...`, 200 frames a seed."""

import sys

import numpy as np

from ringwatch.clock import SystemClock
from ringwatch.messages import Origin
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stream.powder import TUTORIAL, pixel_mask
from ringwatch.stream.simulator import DEFAULT_SEED, Simulator
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.tables import BATCH
from ringwatch_gpu.validity import Validity

FRAMES, BINS = 200, 2000


def main(seeds: list[int]) -> None:
    """Print one line a seed, in the order of the tutorial's exercises."""
    geometry = Geometry.from_poni(TUTORIAL.poni(), bins=BINS).masked(pixel_mask(TUTORIAL))
    integrator = BatchIntegrator(geometry, TUTORIAL.dtype, devices.choose())
    validity = Validity.of(TUTORIAL.dtype, [TUTORIAL.dummy])
    for seed in seeds:
        simulator, rows = Simulator(TUTORIAL, seed), []
        origin, statistics = Origin(1, str(seed), "", 1, ""), SpotStatistics.of(geometry)
        accumulator = Accumulator(origin, integrator, validity, statistics, SystemClock())
        for first in range(0, FRAMES, BATCH):
            for slot in integrator.slots:
                slot[...] = simulator.frame()
            rows.append(accumulator.add(np.arange(first, first + BATCH)))
        accumulator.evaluate()
        plain = np.concatenate([row.spottiness for row in rows])
        low, high = np.percentile(np.concatenate([row.spottiness_weighted for row in rows]), [5, 95])
        union, averaged = accumulator.union_spottiness(), accumulator.accumulated.averaged
        print(
            f"seed {seed}: first frame {plain[0]:.3f}, frames {plain.min():.3f}-{plain.max():.3f}, weighted (5-95 %) "
            f"{low:.2f}-{high:.2f}, union {union.spottiness:.4f}/{union.spottiness_weighted:.4f}, "
            f"averaged {averaged.spottiness:.4f}/{averaged.spottiness_weighted:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [DEFAULT_SEED])
