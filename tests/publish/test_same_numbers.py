"""Every number of a snapshot and of a decision is the same wherever it is published.

The numbers are those of the messages themselves, field by field: a new one fails here until it is published everywhere.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import h5py
import httpx2
import numpy as np
import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.conftest import FakeClock

from ringwatch import wire
from ringwatch.messages import Decision, Estimate, Metric, Result, RingTable, Snapshot
from ringwatch.publish.hdf5 import Hdf5Publisher
from ringwatch.publish.web import WebPublisher
from ringwatch.publish.zeromq import ZeroMQPublisher

Path_ = tuple[str, ...]
_TOLD_ELSEWHERE = {("fates", "missing"), ("time_ns",), ("origin",)}


def walked(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, float]]:
    """All numbers of a message with the names that lead to them; no arrays, no NaN."""
    if path in _TOLD_ELSEWHERE or isinstance(value, RingTable):
        return
    if is_dataclass(value):
        value = {member.name: getattr(value, member.name) for member in fields(value)}
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from walked(item, (*path, name))
    elif isinstance(value, bool | int | float) and math.isfinite(value):
        yield path, float(value)


def flat_name(path: Path_) -> str:
    """What a number is called in /api/latest and in the tables of a file."""
    names = [name for name in path if name not in {"fates", "measures"}]
    if names[:2] in (["accumulated", "averaged"], ["accumulated", "statistics"]):
        names = names[1:]
    if names[:2] == ["accumulated", "spottiness"]:
        names = ["accumulated", *names[2:]]
    if names[0] == "statistics" and names[1] != "n_frames":
        names = names[1:]
    is_estimate = names[-1] == "value" and len(names) > 1 and names[0] != "score"
    return "_".join(names[:-1] if is_estimate else names)


def numbers(message: Snapshot | Decision) -> dict[str, float]:
    """All of them by their flat names; reasons of lost frames as ``malformed.truncated``."""
    found = list(walked(message))
    of_reasons = {path: f"{path[1]}.{path[2]}" for path, _ in found if path[0] == "fates" and len(path) == 3}
    named = {of_reasons.get(path) or flat_name(path): value for path, value in found}
    assert len(named) == len(found), "two numbers of one name"
    for fate in ("malformed", "excluded") if of_reasons else ():
        named[fate] = sum(value for name, value in named.items() if name.startswith(f"{fate}."))
    return named


@pytest.fixture(scope="module")
def snapshot(results) -> Snapshot:
    """A snapshot in which every number is another one."""
    counter = iter(range(1, 1000))

    def different() -> Estimate:
        at = next(counter)
        return Estimate(at / 1000, at / 1010, at / 990)

    measured = results.measured(
        measures={metric: different() for metric in get_args(Metric)},
        **{name: different() for name in ("independent_frames", "repeating_fraction", "azimuthal_trend")},
        **{name: different() for name in ("photon_share", "crystallites")},
    )
    counted = replace(
        measured.accumulated, n_frames=411, statistics=replace(measured.accumulated.statistics, n_frames=410)
    )
    return replace(measured, accumulated=counted, detector_dropped=21, frames_expected=500)


@pytest.fixture(scope="module")
def decision(results) -> Decision:
    """A decision with a forecast and a score, no number of it missing."""
    made = results.decision(409, "over")
    return replace(made, forecast=replace(made.forecast, high=1300.5, seconds_high=31.25))


@pytest.fixture(scope="module")
def published(results, snapshot, decision) -> list[Result]:
    return [results.event(), results.rows(), snapshot, decision]


# -------------------------------------------------------------------------------------------------- /api and /metrics


@pytest.fixture(scope="module")
def answers(published) -> dict[str, Any]:
    web = WebPublisher("127.0.0.1:0", FakeClock(), list)
    web.open()
    for result in published:
        web.publish(result)
    found = {"latest": httpx2.get(f"{web.url}/api/latest").json(), "metrics": httpx2.get(f"{web.url}/metrics").text}
    web.close()
    return found


def test_api_latest(answers, snapshot, decision) -> None:
    found = answers["latest"]
    special = {"n_frames": "frame"}
    for name, value in numbers(snapshot).items():
        fate, _, reason = name.partition(".")
        if reason:
            assert f"{reason} {value:.0f}" in found[f"{fate}_reasons"]
        else:
            assert found[special.get(name, name)] == value, name
    for name, value in numbers(decision).items():
        assert found[{"n_frames": "decision_n_frames"}.get(name, name)] == value, name


COUNTS = {
    "n_frames": "snapshot_frames",
    "accumulated_n_frames": "accumulated_frames",
    "statistics_n_frames": "statistics_frames",
    "frames_expected": "expected_frames",
    "missing": "missing_frames",
    "detector_dropped": "detector_dropped_frames",
}
ESTIMATES = {
    "spottiness": "summed_spottiness_ratio",
    "spottiness_weighted": "summed_spottiness_weighted_ratio",
    "spottiness_rings": "summed_spottiness_rings_ratio",
    "excess": "excess_spottiness_ratio",
    "ring_uncertainty": "ring_uncertainty_ratio",
    "relative_error": "relative_error_ratio",
    "spots": "ring_spots",
    "counts": "ring_counts",
    "independent_frames": "independent_frames",
    "repeating_fraction": "repeating_grains_ratio",
    "crystallites": "seen_crystallites",
    "azimuthal_trend": "azimuthal_trend_ratio",
    "photon_share": "photon_share_ratio",
}
DECISIONS = {
    "n_frames": ("decision_frames",),
    "value": ("decision_value_ratio", "value"),
    "low": ("decision_value_ratio", "low"),
    "high": ("decision_value_ratio", "high"),
    "target": ("decision_target_ratio",),
    "armed": ("decision_armed_bool",),
    "forecast_frames": ("forecast_frames", "value"),
    "forecast_low": ("forecast_frames", "low"),
    "forecast_high": ("forecast_frames", "high"),
    "forecast_seconds": ("forecast_seconds", "value"),
    "forecast_seconds_low": ("forecast_seconds", "low"),
    "forecast_seconds_high": ("forecast_seconds", "high"),
    "forecast_p_never": ("forecast_never_ratio",),
    "forecast_settles_at": ("forecast_settled_ratio", "value"),
    "forecast_settles_at_low": ("forecast_settled_ratio", "low"),
    "forecast_settles_at_high": ("forecast_settled_ratio", "high"),
    "score_n_frames": ("score_frames",),
    "score_value": ("score_value_ratio",),
    "score_final_value": ("score_final_ratio",),
}


def metric_of(name: str) -> tuple[str, ...]:
    """Metric of a number of a snapshot, and its labels but the deciding metric's, sorted by their names."""
    source, _, measure = name.partition("_")
    if source in {"union", "accumulated", "averaged"} and measure != "n_frames":
        return "spottiness_ratio", measure, source
    if "." in name:
        return "refused_frames", *name.split(".")
    if name in COUNTS:
        return (COUNTS[name],)
    base, _, part = name.rpartition("_")
    if part in {"low", "high"}:
        return ESTIMATES[base], part
    return (ESTIMATES[name], "value") if name in ESTIMATES else ("frames_total", name)


def sample_key(sample: Sample) -> tuple[str, ...]:
    """Its name and labels, without the metric that a decision is about."""
    labels = {name: value for name, value in sample.labels.items() if name != "metric"}
    return sample.name.removeprefix("ringwatch_"), *(labels[name] for name in sorted(labels))


def test_prometheus(answers, snapshot, decision) -> None:
    families = list(text_string_to_metric_families(answers["metrics"]))
    found = {sample_key(sample): sample.value for family in families for sample in family.samples}
    for name, value in numbers(snapshot).items():
        assert found[metric_of(name)] == value, name
    for name, value in numbers(decision).items():
        assert found[DECISIONS[name]] == value, name


# ------------------------------------------------------------------------------------------------------------- files


def compare(file: h5py.File, snapshot: Snapshot, decision: Decision) -> None:
    """The last row of each table."""
    for table, message in (("snapshots", snapshot), ("decisions", decision)):
        for name, value in numbers(message).items():
            if "." not in name:
                assert file[f"entry/{table}/{name}"][-1] == value, name


def test_live_and_final_file(tmp_path: Path, results, published, snapshot, decision) -> None:
    publisher = Hdf5Publisher(tmp_path, "{series}", 0.0, "{}")
    publisher.open()
    for result in published:
        publisher.publish(result)
    with h5py.File(tmp_path / "17.live.h5", "r", swmr=True, locking=False) as file:
        compare(file, snapshot, decision)
    publisher.publish(replace(results.result(), fates=snapshot.fates))
    publisher.close()
    with h5py.File(tmp_path / "17.h5") as file:
        compare(file, snapshot, decision)
        rings = snapshot.accumulated.statistics.rings
        for column in fields(RingTable):
            np.testing.assert_array_equal(file[f"entry/rings/{column.name}"][:], getattr(rings, column.name))
        told = json.loads(file["entry/ringwatch/fates"].asstr()[()])
    assert told["malformed"] == dict(snapshot.fates.malformed)
    assert told["excluded"] == dict(snapshot.fates.excluded)


# ------------------------------------------------------------------------------------------------------------ ZeroMQ


def on_the_wire(path: Path_) -> Path_:
    """Where a number of a message stands in the published map."""
    if path[:2] == ("accumulated", "spottiness"):
        return ("accumulated", *path[2:])
    if path[0] == "fates":
        return (f"{path[1]}_reasons", path[2]) if len(path) == 3 else path[1:]
    return path


def test_zeromq(published, snapshot, decision) -> None:
    publisher = ZeroMQPublisher("tcp://127.0.0.1:*")
    publisher.open()
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.rcvtimeo = 5000
        socket.subscribe("snapshot")
        socket.subscribe("decision")
        socket.connect(publisher.endpoint)
        for result in published:
            publisher.publish(result)
        received = [wire.decode(socket.recv_multipart()[1]) for _ in range(2)]
    publisher.close()
    by_type = {message["type"]: message for message in received}
    for message, kind in ((snapshot, "snapshot"), (decision, "decision")):
        for path, value in walked(message):
            found: Any = by_type[kind]
            for name in on_the_wire(path):
                found = found[name]
            assert found == value, path
    statistics, told = snapshot.accumulated.statistics, by_type["snapshot"]["accumulated"]["statistics"]
    np.testing.assert_array_equal(told["bin_spottiness"], statistics.bin_spottiness)
    for column in fields(RingTable):
        np.testing.assert_array_equal(told["rings"][column.name], getattr(statistics.rings, column.name))
