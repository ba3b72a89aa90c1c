"""Real frames: the grains of a turning anvil cell move; those of one repeated frame do not, yet its union falls."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the compression of the frames
import numpy as np
import pytest
from tests.conftest import FakeClock

from ringwatch.config import StopConfig
from ringwatch.messages import Decision, Origin, Statistics
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stop.evaluation import Evaluation
from ringwatch.stop.rule import StopRule
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity

REPEATED = 7
FALLING_TARGET = 0.05
"""The union of the repeated frame falls below it, its summed image does not."""


class Cell:
    """The recorded frames and a device to reduce them on."""

    def __init__(self, folder: Path, cache_dir: Path) -> None:
        with h5py.File(folder / "id11_dac.h5") as file:
            self.frames = file["entry/data/data"][...]
            mask = file["entry/data/mask"][...].astype(bool)
        poni, shape = folder / "id11_dac.poni", self.frames.shape[1:]
        geometry = Geometry.from_poni(poni, shape, cache_dir=cache_dir).masked(mask)
        self.integrator = BatchIntegrator(geometry, self.frames.dtype, devices.choose())

    def measure(self, order: Sequence[int]) -> tuple[Accumulator, Statistics, list[float], list[Decision]]:
        """Reduce frames in this order, four at a time: accumulator, last statistics, union's spottiness, decisions."""
        geometry, kind = self.integrator.geometry, self.frames.dtype
        origin = Origin(1, "id11", "diamond anvil cell", 1, geometry.digest)
        statistics = SpotStatistics.of(geometry)
        accumulator = Accumulator(origin, self.integrator, Validity.of(kind), statistics, FakeClock())
        rule = StopRule(StopConfig(metric="spottiness_rings", target=FALLING_TARGET))
        unions, decisions = [], []
        for first in range(0, len(order), 4):
            part = order[first : first + 4]
            self.integrator.slots[: len(part)] = self.frames[part]
            accumulator.add(np.array(part))
            accumulator.sample()
            found = accumulator.evaluate()
            unions.append(accumulator.union_spottiness().spottiness_rings)
            n = accumulator.n_frames
            decisions.append(rule.decide(Evaluation(origin, 0, n, None, accumulator.measurements, found)))
        return accumulator, found, unions, decisions


@pytest.fixture(scope="module")
def cell(shared_data: Path, cache_dir: Path) -> Cell:
    return Cell(shared_data, cache_dir)


def test_a_turning_cell_moves(cell: Cell) -> None:
    _, found, _, decisions = cell.measure(range(40))
    assert 5 < found.independent_frames.value < 20
    assert found.repeating_fraction.value < 0.1
    assert found.azimuthal_trend.low > 0.02
    assert "static" not in {decision.reason_code for decision in decisions}
    assert "Rings vary smoothly with azimuth by" in decisions[-1].sentence


def test_a_repeated_frame_does_not_move_and_its_union_does_not_decide(cell: Cell) -> None:
    accumulator, found, unions, decisions = cell.measure([REPEATED] * 40)
    assert found.independent_frames.high < 1.5
    assert found.repeating_fraction.low > 0.5
    assert decisions[-1].reason_code == "static"
    assert "the same grains light up in every frame (40 frames count as" in decisions[-1].sentence

    assert unions[-1] < FALLING_TARGET < unions[0]
    assert unions[-1] < unions[0] / 2
    assert accumulator.accumulated.spottiness.spottiness_rings > 2 * FALLING_TARGET
    assert {decision.action for decision in decisions} == {"continue"}
