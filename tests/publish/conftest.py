"""Results as the reduction would hand them over, made in one line each."""

from collections import Counter

import numpy as np
import pytest

from ringwatch.messages import (
    Accumulated,
    Fates,
    FrameRows,
    Origin,
    Profile,
    SeriesEvent,
    SeriesResult,
    Snapshot,
    Spottiness,
    Status,
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
        total = np.full(n, 2**63 + 1, np.uint64)
        return FrameRows(self.origin, TIME_NS, frame, values, values / 2, rings, total, frame * 0 + 7)

    def snapshot(self, n_frames: int = 412, **changes: object) -> Snapshot:
        fates = Fates(430, n_frames, 1, 2, 3, 4, Counter({"truncated": 5, "shape": 1}), Counter({"no_monitor": 2}))
        union = Spottiness(0.163, 0.29, 0.12, None, "bins are wider than a pixel")
        accumulated = Accumulated(n_frames, Spottiness(0.034, 0.081, 0.021, "smooth"), Spottiness(0.025, 0.061, None))
        fields = {
            "union": union,
            "accumulated": accumulated,
            "fates": fates,
            "missing": 9,
            "detector_dropped": None,
            "frames_expected": 500,
        }
        return Snapshot(self.origin, TIME_NS, n_frames, **(fields | changes))

    def profile(self, kind: str = "mean", source: str = "union", bins: int = 4, n_frames: int = 1) -> Profile:
        names = ["radial", "intensity", "std", "sem", "signal", "variance", "normalization", "norm_sq", "count"]
        columns = {name: np.linspace(0, i, bins) for i, name in enumerate(names, start=1)}
        return Profile(self.origin, TIME_NS, kind, source, "all", n_frames, **columns)

    def result(self, rows: int = 8, columns: int = 8) -> SeriesResult:
        return SeriesResult(
            self.origin, TIME_NS, "end", {}, 3, np.arange(4.0), np.arange(5.0), "2th_deg", True,
            np.zeros((6, 4, 2), np.uint64), 2.0**-30, np.zeros((rows, columns), np.uint64),
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
