"""Prometheus metrics: results in, the text of /metrics out.

Every name is ``ringwatch_<noun>_<unit or total>``. Numbers that do not exist (yet) are left out, never zero.
"""

from collections.abc import Callable, Iterator, Sequence
from math import isfinite

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from ringwatch.messages import Scalar
from ringwatch.publish import flat
from ringwatch.publish.board import Board
from ringwatch.publish.outlet import OutletFacts

_STATISTICS = {
    "ring_uncertainty": ("ring_uncertainty_ratio", "Relative uncertainty of the rings' intensities."),
    "independent_frames": ("independent_frames", "Frames with new crystallites that would be as even."),
    "photon_share": ("photon_share_ratio", "Share of the rings' spottiness squared that is photon noise."),
}
_FORECAST = {
    "forecast_frames": ("forecast_frames", "Frames after which the target will be reached, in all."),
    "forecast_seconds": ("forecast_seconds", "Time until the target will be reached."),
    "forecast_p_never": ("forecast_never_ratio", "Probability that the target is never reached."),
}
_FATES = ("received", "reduced", "late", "foreign", "duplicate", "malformed", "skipped", "excluded")


class Metrics(Collector):
    """What the board knows, written as metrics whenever they are asked for.

    Parameters
    ----------
    board
        The newest results.
    outlets
        How the publishers are doing.
    """

    def __init__(self, board: Board, outlets: Callable[[], Sequence[OutletFacts]]) -> None:
        self._board = board
        self._outlets = outlets
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: names appear as soon as there is a value."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Metrics of this moment."""
        yield from self._series()
        yield from self._frames()
        yield self._spottiness()
        yield from self._statistics()
        yield from self._decision()
        yield from self._daemon()
        yield from self._publishers()

    def _series(self) -> Iterator[Metric]:
        event, rows = self._board.event, self._board.rows
        if event is not None:
            origin = event.origin
            labels = {"series": str(origin.series), "unique_id": origin.unique_id, "sample": origin.sample}
            yield InfoMetricFamily("ringwatch_series", "The series measured now or last.", labels)
        if rows is not None:
            text = "When the last frame was reduced."
            yield GaugeMetricFamily("ringwatch_last_data_timestamp_seconds", text, rows.time_ns / 1e9)

    def _frames(self) -> Iterator[Metric]:
        total, snapshot = self._board.total_fates(), self._board.snapshot
        family = CounterMetricFamily("ringwatch_frames", "Frames of all series, by their fate.", labels=["fate"])
        for fate in _FATES:
            family.add_metric([fate], total[fate])
        yield family
        if snapshot is not None:
            dropped = snapshot.detector_dropped
            yield from _gauge("ringwatch_missing_frames", "Frames of this series never received.", snapshot.missing)
            yield from _gauge("ringwatch_accumulated_frames", "Frames behind this union.", snapshot.n_frames)
            yield from _gauge("ringwatch_detector_dropped_frames", "Frames the detector says it dropped.", dropped)

    def _spottiness(self) -> Metric:
        text = "Spottiness of the newest frame, of the summed and averaged image, and of the union."
        family = GaugeMetricFamily("ringwatch_spottiness_ratio", text, labels=["source", "measure"])
        for source, numbers in self._board.spottiness().items():
            for measure, value in numbers.items():
                if value is not None and isfinite(value):
                    family.add_metric([source, measure], value)
        return family

    def _statistics(self) -> Iterator[Metric]:
        known = flat.statistics(self._board.statistics)
        for name, (noun, text) in _STATISTICS.items():
            yield from _gauge(f"ringwatch_{noun}", text, known[name])

    def _decision(self) -> Iterator[Metric]:
        decision = self._board.decision
        if decision is None:
            return
        for name, text, value in (
            ("value", "The metric that decides, a ratio but for spots and counts.", decision.value),
            ("target", "Where the metric is to get.", decision.target),
        ):
            if value is not None and isfinite(value):
                family = GaugeMetricFamily(f"ringwatch_decision_{name}", text, labels=["metric"])
                family.add_metric([decision.metric], value)
                yield family
        yield from _gauge("ringwatch_decision_stop", "1 when enough was measured.", float(decision.action == "stop"))
        made = flat.decision(decision)
        for name, (noun, text) in _FORECAST.items():
            yield from _gauge(f"ringwatch_{noun}", text, made[name])

    def _daemon(self) -> Iterator[Metric]:
        status = self._board.status
        if status is not None:
            yield from _gauge("ringwatch_frames_per_second", "Frames reduced each second.", status.fps)
            yield from _gauge("ringwatch_lag_seconds", "From a frame's arrival to its result.", status.lag_s)
            yield from _gauge("ringwatch_backlog_bytes", "Frames that wait to be reduced.", status.backlog_bytes)

    def _publishers(self) -> Iterator[Metric]:
        healthy = GaugeMetricFamily("ringwatch_publisher_healthy", "1 while it publishes.", labels=["publisher"])
        failures = CounterMetricFamily("ringwatch_publisher_failures", "Attempts that failed.", labels=["publisher"])
        dropped = CounterMetricFamily("ringwatch_publisher_dropped", "Results that never left.", labels=["publisher"])
        for facts in self._outlets():
            healthy.add_metric([facts.name], float(facts.healthy))
            failures.add_metric([facts.name], facts.failures)
            dropped.add_metric([facts.name], facts.dropped)
        yield from (healthy, failures, dropped)


def _gauge(name: str, text: str, value: Scalar) -> Iterator[Metric]:
    if isinstance(value, float | int) and isfinite(value):
        yield GaugeMetricFamily(name, text, value)
