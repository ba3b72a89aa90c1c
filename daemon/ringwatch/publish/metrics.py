"""Prometheus metrics: results in, the text of /metrics out. docs/metrics.md describes each of them.

Every name is ``ringwatch_<noun>_<unit or total>``; what is known with an interval has the label ``part``: value, low,
high. Numbers that do not exist (yet) are left out, never zero.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import TypeGuard

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from ringwatch.messages import Decision, Scalar, Snapshot
from ringwatch.publish import flat, payload
from ringwatch.publish.board import Board
from ringwatch.publish.outlet import OutletFacts

_ESTIMATES: Mapping[str, tuple[str, str]] = {
    "spottiness": ("summed_spottiness_ratio", "Spottiness of the summed image, with its interval."),
    "spottiness_weighted": ("summed_spottiness_weighted_ratio", "The same, weighted by intensity."),
    "spottiness_rings": ("summed_spottiness_rings_ratio", "The same, over well-measured bins."),
    "excess": ("excess_spottiness_ratio", "The same, without photon noise."),
    "ring_uncertainty": ("ring_uncertainty_ratio", "Relative uncertainty of the rings' intensities."),
    "relative_error": ("relative_error_ratio", "Mean over the bins of standard error over intensity."),
    "spots": ("ring_spots", "Crystallites seen on a ring."),
    "counts": ("ring_counts", "Counts of a ring above its background."),
    "independent_frames": ("independent_frames", "Frames with new crystallites that would be as even."),
    "repeating_fraction": ("repeating_grains_ratio", "Share of the grains' scatter that repeats."),
    "crystallites": ("seen_crystallites", "Crystallites seen on all rings together."),
    "azimuthal_trend": ("azimuthal_trend_ratio", "Smooth variation around the rings."),
    "photon_share": ("photon_share_ratio", "Share of the rings' spottiness squared that is photon noise."),
}
_OWN_UNITS = {"spots": "spots", "counts": "counts"}
"""Metrics of a decision that are no ratio."""

Samples = Iterable[tuple[tuple[str, ...], Scalar]]


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
        decision, snapshot = self._board.decision, self._board.snapshot
        yield from self._series()
        yield from self._frames()
        if snapshot is not None:
            yield from _counts(snapshot)
        yield from self._spottiness()
        yield from self._statistics()
        if decision is not None:
            yield from _decision(decision)
        yield from self._stop()
        yield from self._daemon()
        yield from self._publishers()

    def _series(self) -> Iterator[Metric]:
        event, rows = self._board.event, self._board.rows
        if event is not None:
            origin = event.origin
            labels = {"series": str(origin.series), "unique_id": origin.unique_id, "sample": origin.sample}
            yield InfoMetricFamily("ringwatch_series", "The series measured now or last.", labels)
        if rows is not None:
            yield from _gauge("last_data_timestamp_seconds", "When the last frame was reduced.", rows.time_ns / 1e9)

    def _frames(self) -> Iterator[Metric]:
        total = self._board.total_fates()
        family = CounterMetricFamily("ringwatch_frames", "Frames of all series, by their fate.", labels=["fate"])
        for fate in payload.FATES:
            family.add_metric([fate], total[fate])
        yield family

    def _spottiness(self) -> Iterator[Metric]:
        text = "Spottiness of the newest frame, of the summed and averaged image, and of the union."
        known = self._board.spottiness()
        samples = (((source, name), value) for source, numbers in known.items() for name, value in numbers.items())
        yield from _gauges("spottiness_ratio", text, ("source", "measure"), samples)

    def _statistics(self) -> Iterator[Metric]:
        statistics = self._board.statistics
        known = flat.statistics(statistics)
        if statistics is not None:
            yield from _gauge("statistics_frames", "Frames behind the statistics.", known["statistics_n_frames"])
        for name, (noun, text) in _ESTIMATES.items():
            yield from _interval(noun, text, _parts(known, name))

    def _stop(self) -> Iterator[Metric]:
        stop = self._board.stop
        if stop is not None:
            labels = {"via": stop.via, "state": stop.state}
            yield InfoMetricFamily("ringwatch_stop", "How the acquisition is being ended.", labels)

    def _daemon(self) -> Iterator[Metric]:
        status = self._board.status
        if status is not None:
            labels = {"state": status.state, "device": status.device}
            yield InfoMetricFamily("ringwatch_daemon", "What the daemon is doing, and on which device.", labels)
            yield from _gauge("status_timestamp_seconds", "When the daemon last told of itself.", status.time_ns / 1e9)
            yield from _gauge("frames_per_second", "Frames reduced each second.", status.fps)
            yield from _gauge("lag_seconds", "From a frame's arrival to its result.", status.lag_s)
            yield from _gauge("backlog_bytes", "Frames that wait to be reduced.", status.backlog_bytes)

    def _publishers(self) -> Iterator[Metric]:
        healthy = GaugeMetricFamily("ringwatch_publisher_healthy_bool", "1 while it publishes.", labels=["publisher"])
        failures = CounterMetricFamily("ringwatch_publisher_failures", "Attempts that failed.", labels=["publisher"])
        dropped = CounterMetricFamily("ringwatch_publisher_dropped", "Results that never left.", labels=["publisher"])
        for facts in self._outlets():
            healthy.add_metric([facts.name], float(facts.healthy))
            failures.add_metric([facts.name], facts.failures)
            dropped.add_metric([facts.name], facts.dropped)
        yield from (healthy, failures, dropped)


def _counts(snapshot: Snapshot) -> Iterator[Metric]:
    """What stands behind the numbers of this series, and what was lost of it."""
    accumulated = snapshot.accumulated.n_frames if snapshot.accumulated else None
    yield from _gauge("snapshot_frames", "Frames of this accumulation.", snapshot.n_frames)
    yield from _gauge("accumulated_frames", "Frames behind the summed image.", accumulated)
    yield from _gauge("expected_frames", "Frames the detector announced.", snapshot.frames_expected)
    yield from _gauge("missing_frames", "Frames of this series never received.", snapshot.missing)
    yield from _gauge("detector_dropped_frames", "Frames the detector says it dropped.", snapshot.detector_dropped)
    by_fate = {"malformed": snapshot.fates.malformed, "excluded": snapshot.fates.excluded}
    samples = (((fate, why), count) for fate, reasons in by_fate.items() for why, count in reasons.items())
    yield from _gauges("refused_frames", "Frames of this series, by the reason.", ("fate", "reason"), samples)


def _decision(decision: Decision) -> Iterator[Metric]:
    """The newest decision; its metric's unit is the unit of what it promises."""
    made, unit = flat.decision(decision), _OWN_UNITS.get(decision.metric, "ratio")
    metric: dict[str, str] = {"metric": decision.metric}
    labels = {**metric, "action": decision.action, "reason_code": decision.reason_code}
    yield InfoMetricFamily("ringwatch_decision", "Whether to go on, and why.", labels)
    yield from _gauge("decision_frames", "Frames behind the decision.", decision.n_frames)
    yield from _gauge("decision_stop_bool", "1 when enough was measured.", decision.action == "stop")
    yield from _gauge("decision_armed_bool", "1 when the next evaluation may confirm it.", decision.armed)
    value = _parts(made, "value", "low", "high")
    yield from _interval(f"decision_value_{unit}", "The metric that decides.", value, **metric)
    yield from _gauge(f"decision_target_{unit}", "Where the metric is to get.", decision.target, **metric)
    yield from _forecast(made, unit, metric)
    yield from _gauge("score_frames", "Where a series that went on would have been stopped.", made["score_n_frames"])
    yield from _gauge(f"score_value_{unit}", "The metric there.", made["score_value"], **metric)
    yield from _gauge(f"score_final_{unit}", "The metric in the end.", made["score_final_value"], **metric)


def _forecast(made: Mapping[str, Scalar], unit: str, metric: Mapping[str, str]) -> Iterator[Metric]:
    frames = _parts(made, "forecast_frames", "forecast_low", "forecast_high")
    yield from _interval("forecast_frames", "Frames after which the target will be reached, in all.", frames)
    seconds = _parts(made, "forecast_seconds")
    yield from _interval("forecast_seconds", "Time until the target will be reached.", seconds)
    never = made["forecast_p_never"]
    yield from _gauge("forecast_never_ratio", "Probability that the target is never reached.", never)
    settled = _parts(made, "forecast_settles_at")
    yield from _interval(f"forecast_settled_{unit}", "Where the metric settles.", settled, **metric)


def _parts(known: Mapping[str, Scalar], value: str, low: str = "", high: str = "") -> dict[str, Scalar]:
    """A number and its interval, from their flat names."""
    return {"value": known[value], "low": known[low or f"{value}_low"], "high": known[high or f"{value}_high"]}


def _interval(noun: str, text: str, parts: Mapping[str, Scalar], **labels: str) -> Iterator[Metric]:
    """A number with its interval; nothing where the number itself is not known."""
    known = parts if _is_known(parts["value"]) else {}
    samples = (((*labels.values(), part), number) for part, number in known.items())
    return _gauges(noun, text, (*labels, "part"), samples)


def _gauge(noun: str, text: str, value: Scalar, **labels: str) -> Iterator[Metric]:
    return _gauges(noun, text, tuple(labels), [(tuple(labels.values()), value)])


def _gauges(noun: str, text: str, labels: Sequence[str], samples: Samples) -> Iterator[Metric]:
    """One metric with a number for each set of labels; nothing where no number is known."""
    family = GaugeMetricFamily(f"ringwatch_{noun}", text, labels=labels)
    for of, number in samples:
        if _is_known(number):
            family.add_metric(of, number)
    if family.samples:
        yield family


def _is_known(number: Scalar) -> TypeGuard[float]:
    return isinstance(number, float | int) and isfinite(number)
