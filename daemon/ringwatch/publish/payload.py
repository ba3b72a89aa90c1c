"""What stands in a published message: a result in, a plain map with numpy arrays out, named as the interface says."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ringwatch.messages import (
    Accumulated,
    Decision,
    Fates,
    FrameRows,
    Profile,
    SeriesEvent,
    Snapshot,
    Status,
    StopReport,
)
from ringwatch.wire import SCHEMA

Published = SeriesEvent | FrameRows | Snapshot | Profile | Decision | StopReport | Status
"""The results that travel; a SeriesResult goes to files only."""

_TOPICS = {
    SeriesEvent: "series",
    FrameRows: "frames",
    Snapshot: "snapshot",
    Profile: "profile",
    Decision: "decision",
    StopReport: "stop",
    Status: "status",
}
FRAME_PROFILES = "frame_profiles"
FATES = ("received", "reduced", "late", "foreign", "duplicate", "malformed", "skipped", "excluded")
"""What can become of a frame, in the order in which it is told."""
_TOLD_ELSEWHERE = {"origin", "time_ns", "profiles"}
_ORIGIN = ("series", "unique_id", "sample", "generation", "digest", "accumulation")


def topic(result: Published) -> str:
    """Name of the topic a result belongs to."""
    return _TOPICS[type(result)]


def payload(result: Published, seq: int) -> dict[str, Any]:
    """Map of a result, number ``seq`` of its topic."""
    told = _snapshot(result) if isinstance(result, Snapshot) else _members(result)
    return _envelope(result, topic(result), seq) | told


def frame_profiles(rows: FrameRows, seq: int) -> dict[str, Any]:
    """Map of the profiles of some frames, number ``seq`` of ``frame_profiles``; they must have some."""
    profiles = rows.profiles
    if profiles is None:
        raise ValueError("rows without profiles")
    arrays = {"kind": profiles.kind, "intensity": profiles.intensity, "sem": profiles.sem}
    return _envelope(rows, FRAME_PROFILES, seq) | {"frame": rows.frame, **arrays}


def fates(counts: Fates) -> dict[str, Any]:
    """Counters of what became of the frames, the reasons beside their sums."""
    return {
        "received": counts.received,
        "reduced": counts.reduced,
        "late": counts.late,
        "foreign": counts.foreign,
        "duplicate": counts.duplicate,
        "malformed": counts.malformed.total(),
        "malformed_reasons": dict(counts.malformed),
        "skipped": counts.skipped,
        "excluded": counts.excluded.total(),
        "excluded_reasons": dict(counts.excluded),
    }


def _envelope(result: Published, name: str, seq: int) -> dict[str, Any]:
    return {"schema": SCHEMA, "type": name, "seq": seq, **_origin(result), "time_ns": result.time_ns}


def _origin(result: Published) -> Mapping[str, Any]:
    """The daemon's own status belongs to no series."""
    if isinstance(result, Status):
        return dict.fromkeys(_ORIGIN)
    return _members(result.origin) | {"accumulation": result.origin.key[0]}


def _members(instance: Any) -> dict[str, Any]:
    names = (member.name for member in fields(instance))
    return {name: _plain(getattr(instance, name)) for name in names if name not in _TOLD_ELSEWHERE}


def _plain(value: Any) -> Any:
    """Maps instead of dataclasses; arrays of truth as 0 and 1."""
    if is_dataclass(value):
        return _members(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        return value.astype(np.uint8)
    return value


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "n_frames": snapshot.n_frames,
        "frames_expected": snapshot.frames_expected,
        "window": snapshot.window,
        "union": None if snapshot.union is None else _members(snapshot.union),
        "accumulated": _accumulated(snapshot.accumulated),
        **fates(snapshot.fates),
        "missing": snapshot.missing,
        "detector_dropped": snapshot.detector_dropped,
        "saturated_pixels": snapshot.saturated_pixels,
        "beam_down_since": snapshot.beam_down_since,
    }


def _accumulated(accumulated: Accumulated | None) -> dict[str, Any] | None:
    if accumulated is None:
        return None
    return {
        "n_frames": accumulated.n_frames,
        **_members(accumulated.spottiness),
        "averaged": _members(accumulated.averaged),
        "statistics": _plain(accumulated.statistics),
    }
