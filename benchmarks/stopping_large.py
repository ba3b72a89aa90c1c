"""One series of 4M frames for each kind of sample, through the real reduction: a check of benchmarks/stopping.py."""

from dataclasses import replace

import numpy as np
from stopping import CELLS, MOTIONS, Cell

from ringwatch.clock import SystemClock
from ringwatch.config import StopConfig
from ringwatch.messages import Decision, Origin, Statistics
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
WIDTH_PX, HALF = 4, 0.5
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


def true_uncertainty(cell: Cell, n_frames: int, photons: float) -> float:
    """Median over the rings of the relative standard deviation; ``photons``: photon noise of one frame, as variance."""
    powder, shared = powder_of(cell), cell.sample(1).shared(n_frames)
    return float(np.sqrt(np.median(powder.second_moment / seen_spots(powder)) * shared + photons / n_frames))


def seen_spots(powder: Powder) -> np.ndarray:
    """Expected spots of one frame on each ring of which at least half is seen: detectors have edges and gaps."""
    radius_px = pixels(powder).radius_px
    known, seen = rings(powder, float(radius_px.max())), np.sort(radius_px[~pixel_mask(powder)])
    inside = np.searchsorted(seen, known.radius_px + WIDTH_PX / 2) - np.searchsorted(
        seen, known.radius_px - WIDTH_PX / 2
    )
    share = inside / (2 * np.pi * known.radius_px * WIDTH_PX)
    return np.asarray(known.spots * share)[share > HALF]


class Series:
    """One series of a cell, frame by frame through the real reduction."""

    def __init__(self, cell: Cell, integrator: BatchIntegrator, seed: int) -> None:
        powder = powder_of(cell)
        self.origin = Origin(1, cell.name, "silicon", 1, "")
        self._simulator, validity = Simulator(powder, seed), Validity.of(powder.dtype, [powder.dummy])
        statistics = SpotStatistics.of(integrator.geometry)
        self._integrator = integrator
        self.accumulator = Accumulator(self.origin, integrator, validity, statistics, SystemClock())

    def advance(self, n_frames: int) -> Statistics:
        """Go on to so many frames; the statistics there."""
        while (done := self.accumulator.n_frames) < n_frames:
            number = min(BATCH, n_frames - done)
            for slot in self._integrator.slots[:number]:
                slot[...] = self._simulator.frame()
            self.accumulator.add(np.arange(done, done + number))
            self.accumulator.sample()
        return self.accumulator.evaluate()


def photon_variance(cell: Cell, integrator: BatchIntegrator) -> float:
    """Relative variance of a typical ring in one frame that is photon noise: the counts tell it."""
    series = Series(cell, integrator, seed=2)
    series.advance(4 * BATCH)
    return 4 * BATCH * series.accumulator.measurements["ring_uncertainty"].photons


def run(cell: Cell, integrator: BatchIntegrator) -> tuple[Decision, float]:
    """Frames until the rule stops or four times the frames needed have come: last decision, true value over target."""
    moving, photons = cell if cell.moves else replace(cell, motion="independent"), photon_variance(cell, integrator)
    target = true_uncertainty(moving, NEEDED, photons)
    rule, series = StopRule(StopConfig(metric="ring_uncertainty", target=target)), Series(cell, integrator, seed=1)
    while True:
        n = rule.next_frames
        statistics = series.advance(n)
        decision = rule.decide(Evaluation(series.origin, 0, n, None, series.accumulator.measurements, statistics))
        if decision.action == "stop" or rule.next_frames > 4 * NEEDED:
            return decision, true_uncertainty(cell, n, photons) / target


def main() -> None:
    """One line a cell."""
    powder = powder_of(CELLS[0])
    geometry = Geometry.from_poni(powder.poni()).masked(pixel_mask(powder))
    integrator = BatchIntegrator(geometry, powder.dtype, devices.choose())
    print("| sample | N* | frames | true value there / target | decision |\n|---|---|---|---|---|")
    for cell in CELLS:
        decision, ratio = run(cell, integrator)
        needed = str(NEEDED) if cell.moves else "never"
        print(f"| {cell.name} | {needed} | {decision.n_frames} | {ratio:.2f} | {decision.sentence} |", flush=True)


if __name__ == "__main__":
    main()
