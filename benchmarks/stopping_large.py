"""One series of 4M frames for each kind of sample, through the real reduction: a check of benchmarks/stopping.py."""

from dataclasses import replace

import numpy as np
from stopping import CELLS, MOTIONS, Cell

from ringwatch.clock import SystemClock
from ringwatch.config import StopConfig
from ringwatch.messages import Decision, Origin
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stop.evaluation import Evaluation
from ringwatch.stop.rule import StopRule
from ringwatch.stream.powder import TUTORIAL, Powder, pixel_mask, pixels, rings
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.tables import BATCH
from ringwatch_gpu.validity import Validity

CRYSTALLITES = {"many": 2e4, "few": 300.0}
NEEDED = 96
"""N*; 4M frames take their time to simulate."""


def powder_of(cell: Cell) -> Powder:
    """The tutorial's detector with the sample of a cell; rings differ in multiplicity by a factor of eight."""
    survival, static = MOTIONS[cell.motion]
    return replace(
        TUTORIAL,
        crystallites=CRYSTALLITES[cell.density],
        spot_photons=2000.0,
        background_photons=0.2,
        amplitudes="gamma" if cell.law == "gamma" else "lognormal",
        spread=1.0,
        grain_lifetime_frames=1 / (1 - survival),
        static_fraction=static,
    )


def true_uncertainty(cell: Cell, n_frames: int) -> float:
    """Median over the rings of the relative standard deviation, grains alone."""
    powder = powder_of(cell)
    spots = rings(powder, float(pixels(powder).radius_px.max())).spots
    shared = cell.sample(1).shared(n_frames)
    return float(np.sqrt(np.median(powder.second_moment / spots) * shared))


def run(cell: Cell, integrator: BatchIntegrator) -> tuple[Decision, float]:
    """Frames until the rule stops or four times the frames needed have come: last decision, target."""
    moving = cell if cell.moves else replace(cell, motion="independent")
    target = true_uncertainty(moving, NEEDED)
    rule = StopRule(StopConfig(metric="ring_uncertainty", target=target))
    powder, geometry = powder_of(cell), integrator.geometry
    simulator, validity = Simulator(powder, 1), Validity.of(powder.dtype, [powder.dummy])
    origin = Origin(1, cell.name, "silicon", 1, "")
    accumulator = Accumulator(origin, integrator, validity, SpotStatistics.of(geometry), SystemClock())
    while True:
        number = min(BATCH, rule.next_frames - accumulator.n_frames)
        for slot in integrator.slots[:number]:
            slot[...] = simulator.frame()
        accumulator.add(np.arange(accumulator.n_frames, accumulator.n_frames + number))
        accumulator.sample()
        if accumulator.n_frames < rule.next_frames:
            continue
        statistics = accumulator.evaluate()
        n, measured = accumulator.n_frames, accumulator.measurements
        decision = rule.decide(Evaluation(origin, 0, n, None, measured, statistics))
        if decision.action == "stop" or rule.next_frames > 4 * NEEDED:
            return decision, target


def main() -> None:
    """One line a cell."""
    powder = powder_of(CELLS[0])
    geometry = Geometry.from_poni(powder.poni()).masked(pixel_mask(powder))
    integrator = BatchIntegrator(geometry, powder.dtype, devices.choose())
    print("| sample | N* | frames | true value there / target | decision |\n|---|---|---|---|---|")
    for cell in CELLS:
        decision, target = run(cell, integrator)
        ratio = true_uncertainty(cell, decision.n_frames) / target
        needed = str(NEEDED) if cell.moves else "never"
        print(f"| {cell.name} | {needed} | {decision.n_frames} | {ratio:.2f} | {decision.sentence} |", flush=True)


if __name__ == "__main__":
    main()
