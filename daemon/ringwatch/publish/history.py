"""Curves against the number of frames, thinned for a logarithmic axis: values go in, at most 2000 points come out."""

from math import isfinite, log10

from ringwatch.messages import FrameRows, Metric, Origin, Snapshot, Spottiness, Statistics
from ringwatch.publish.flat import METRICS

MEASURES: tuple[Metric, ...] = ("spottiness", "spottiness_weighted", "spottiness_rings")
"""Those of single frames, unions and images alike; the other metrics are known of the summed image only."""
CURVES = ("frame", "accumulated", "low", "high", "averaged", "union")
"""``low`` to ``high`` is the interval of ``accumulated``."""
BUCKETS_PER_DECADE = 120
MAX_FRAMES = 10**8
"""Beyond it everything falls into the last bucket: 2 x 120 x 8 = 1920 points at most."""

Points = tuple[list[int], list[float]]


class Envelope:
    """The lowest and the highest value in each of 120 buckets a decade; every value while there are few."""

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[tuple[float, int], tuple[float, int]]] = {}

    def add(self, n: int, value: float | None) -> None:
        """Value after ``n`` frames (n >= 1); None and NaN are left out."""
        if value is None or not isfinite(value):
            return
        bucket = int(log10(min(n, MAX_FRAMES)) * BUCKETS_PER_DECADE)
        point = (value, n)
        low, high = self._buckets.get(bucket, (point, point))
        self._buckets[bucket] = (min(low, point), max(high, point))

    def points(self) -> Points:
        """Numbers of frames, ascending, and the values there."""
        points = sorted({(n, value) for pair in self._buckets.values() for value, n in pair})
        return [n for n, _ in points], [value for _, value in points]


class History:
    """Spottiness of each frame, of the summed and averaged image and of the union, for one accumulation at a time.

    Of the summed image also the other metrics, and the intervals of all of them. The frames are counted in the order in
    which they were reduced, so that they stand above the sums they went into.
    """

    def __init__(self) -> None:
        self._accumulation: tuple[str, int] | None = None
        self._clear()

    def add_rows(self, rows: FrameRows) -> None:
        """Append the frames of a batch."""
        self._follow(rows.origin)
        for measure in MEASURES:
            curve = self._curves["frame", measure]
            for n, value in enumerate(getattr(rows, measure).tolist(), start=self._n_frames + 1):
                curve.add(n, value)
        self._n_frames += len(rows.frame)

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Append what is known after so many frames."""
        self._follow(snapshot.origin)
        if snapshot.union is not None:
            self._add("union", snapshot.n_frames, snapshot.union)
        if snapshot.accumulated is not None:
            self._add("accumulated", snapshot.accumulated.n_frames, snapshot.accumulated.spottiness)
            self._add("averaged", snapshot.accumulated.n_frames, snapshot.accumulated.averaged)
            self._add_statistics(snapshot.accumulated.statistics)

    def curves(self, measure: Metric) -> dict[str, Points]:
        """All curves of one measure, by their names."""
        return {name: self._curves[name, measure].points() for name in CURVES}

    def _add(self, name: str, n_frames: int, values: Spottiness) -> None:
        if n_frames > 0:
            for measure in MEASURES:
                self._curves[name, measure].add(n_frames, getattr(values, measure))

    def _add_statistics(self, statistics: Statistics) -> None:
        for metric, estimate in statistics.measures.items():
            self._curves["low", metric].add(statistics.n_frames, estimate.low)
            self._curves["high", metric].add(statistics.n_frames, estimate.high)
            if metric not in MEASURES:
                self._curves["accumulated", metric].add(statistics.n_frames, estimate.value)

    def _follow(self, origin: Origin) -> None:
        if origin.key != self._accumulation:
            self._accumulation = origin.key
            self._clear()

    def _clear(self) -> None:
        self._n_frames = 0
        self._curves = {(name, measure): Envelope() for name in CURVES for measure in METRICS}
