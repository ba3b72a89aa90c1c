"""Results as the reduction would hand them over, made in one line each."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ringwatch.messages import (
    Accumulated,
    Decision,
    Estimate,
    Fates,
    Forecast,
    FrameProfiles,
    FrameRows,
    Origin,
    Profile,
    RingTable,
    Score,
    SeriesEvent,
    SeriesResult,
    Snapshot,
    Spottiness,
    Statistics,
    Status,
    StopReport,
)

TIME_NS = 1_700_000_000_000_000_000


class Results:
    """Maker of results of one series."""

    def __init__(self, unique_id: str = "s17", series: int = 17, generation: int = 1) -> None:
        self.origin = Origin(series, unique_id, "LaB6", generation, "d1ce57")

    def event(self, event: str = "start", reason: str = "", bins: int = 4) -> SeriesEvent:
        radial = np.linspace(1.0, 2.0, bins)
        edges = np.linspace(0.9, 2.1, bins + 1)
        header = {"nimages": 100, "energy": 65000.0, "name": "détecteur", "flat": None}
        return SeriesEvent(self.origin, TIME_NS, event, reason, header, radial, edges, "2th_deg", True)

    def rows(self, first: int = 0, n: int = 3, spottiness: float = 0.25) -> FrameRows:
        frame = np.arange(first, first + n)
        values = spottiness + 0.001 * np.arange(n)
        rings = values.copy()
        rings[-1] = np.nan
        total = np.full(n, 2**53 - 1.0)
        return FrameRows(self.origin, TIME_NS, frame, values, values / 2, rings, total, frame * 0 + 7)

    def profiled(self, first: int = 0, n: int = 3, bins: int = 4) -> FrameRows:
        """Rows with a profile and the sums of each frame, all numbers different."""
        intensity = (np.arange(n * bins).reshape(n, bins) + 10 * first).astype(np.float32)
        sums = np.arange(n * 6 * bins * 2, dtype=np.uint64).reshape(n, 6, bins, 2) + np.uint64(first)
        return replace(self.rows(first, n), profiles=FrameProfiles("mean", intensity, -intensity, sums))

    def snapshot(self, n_frames: int = 412, **changes: object) -> Snapshot:
        fates = Fates(430, n_frames, 1, 2, 3, 4, Counter({"truncated": 5, "shape": 1}), Counter({"no_monitor": 2}))
        union = Spottiness(0.163, 0.29, 0.12, None, "bins are wider than a pixel")
        summed, averaged = Spottiness(0.034, 0.081, 0.021, "smooth"), Spottiness(0.025, 0.061, None)
        accumulated = Accumulated(n_frames, summed, averaged, self.unknown(n_frames))
        fields = {
            "union": union,
            "accumulated": accumulated,
            "fates": fates,
            "missing": 9,
            "detector_dropped": None,
            "frames_expected": 500,
        }
        return Snapshot(self.origin, TIME_NS, n_frames, **(fields | changes))

    @staticmethod
    def unknown(n_frames: int) -> Statistics:
        """Nothing could be measured yet."""
        return Statistics(n_frames, {}, None, None, None, None, None, np.full(4, np.nan), None)

    def statistics(self, n_frames: int = 412, **changes: object) -> Statistics:
        """Some is known, some is not, and of the number of spots only that it is at least 50."""
        fields = {
            "measures": {
                "spottiness_rings": Estimate(0.021, 0.019, 0.024),
                "excess": Estimate(-0.001, -0.004, 0.002),
                "ring_uncertainty": Estimate(0.034, 0.030, 0.039),
                "spots": Estimate(50.0, 50.0, np.inf, "lower"),
            },
            "independent_frames": Estimate(58.0, 41.0, 80.0),
            "repeating_fraction": None,
            "azimuthal_trend": Estimate(0.11, 0.10, 0.13),
            "photon_share": Estimate(0.75, 0.6, 0.9),
            "crystallites": Estimate(430.0, 300.0, 620.0),
            "bin_spottiness": np.array([0.02, np.nan, 0.03, np.nan]),
            "rings": self.rings(),
        }
        return Statistics(n_frames, **(fields | changes))

    @staticmethod
    def rings() -> RingTable:
        """Of the second ring little is known."""
        known, half = np.array([1.25, 2.5]), np.array([0.5, np.nan])
        bins, bound = np.array([3, 9]), np.array([False, True])
        return RingTable(known, known, bins, bins + 2, known, half, half, half, half, 10 * known, bound, half)

    def measured(self, n_frames: int = 412, **changes: object) -> Snapshot:
        """A snapshot with statistics."""
        spottiness = self.snapshot().accumulated
        statistics = self.statistics(n_frames, **changes)
        return self.snapshot(n_frames, accumulated=replace(spottiness, n_frames=n_frames, statistics=statistics))

    def decision(self, n_frames: int = 412, reason_code: str = "above_target", **changes: object) -> Decision:
        fields = {
            "metric": "ring_uncertainty",
            "value": 0.034,
            "low": 0.030,
            "high": 0.039,
            "target": 0.02,
            "action": "stop" if reason_code == "reached" else "continue",
            "armed": False,
            "sentence": "Keep measuring: 3.4 % now, target 2 %; about 18 s more (11-31 s); worst ring d = 3.136 Å.",
            "forecast": Forecast(1190.0, 870.0, None, 18.0, 11.0, None, 0.04, Estimate(0.011, 0.0, 0.015), "grains"),
            "score": Score(700, 0.019, 0.008) if reason_code == "over" else None,
        }
        return Decision(self.origin, TIME_NS, n_frames, reason_code=reason_code, **(fields | changes))

    def stop(self, state: str = "done", sentence: str = "Stopped at frame 412: detector idle.") -> StopReport:
        return StopReport(self.origin, TIME_NS, 412, "simplon", state, sentence)

    def profile(self, kind: str = "mean", source: str = "union", bins: int = 4, n_frames: int = 1) -> Profile:
        names = ["radial", "intensity", "std", "sem", "signal", "variance", "normalization", "norm_sq", "count"]
        columns = {name: np.linspace(0, i, bins) for i, name in enumerate(names, start=1)}
        return Profile(self.origin, TIME_NS, kind, source, "all", n_frames, **columns)

    def result(self, rows: int = 8, columns: int = 8) -> SeriesResult:
        return SeriesResult(
            self.origin, TIME_NS, "end", {}, 3, np.arange(4.0), np.arange(5.0), "2th_deg", True,
            np.zeros((6, 4, 2), np.uint64), 2.0**-30, 1.0, np.zeros((rows, columns), np.int64),
            np.zeros((rows, columns), np.uint32), Fates(), ((3, 4),), "", {},
        )  # fmt: skip

    @staticmethod
    def status(state: str = "measuring", fps: float = 200.0, **changes: object) -> Status:
        fields = {
            "reason": "",
            "lag_s": 0.12,
            "backlog_bytes": 4096,
            "device": "cpu",
            "totals": {"series": 3, "frames": 1234},
        }
        return Status(TIME_NS, state, fps=fps, **(fields | changes))


@pytest.fixture(scope="session")
def results() -> Results:
    return Results()


@pytest.fixture(scope="session")
def other_results() -> Results:
    """Of the series after it."""
    return Results("s18", 18)
