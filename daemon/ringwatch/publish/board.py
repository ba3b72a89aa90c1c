"""What is known now: results in one by one, the flat facts of the page, the newest messages and the curves out.

Written by the publisher's thread and read by the web server's.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from threading import Lock
from typing import Any

from ringwatch.clock import Clock
from ringwatch.messages import (
    Decision,
    ForFiles,
    FrameRows,
    Metric,
    Profile,
    ProfileKind,
    Result,
    SeriesEvent,
    Snapshot,
    Statistics,
    Status,
    StopReport,
)
from ringwatch.publish import flat, payload
from ringwatch.publish.history import MEASURES, History, Points
from ringwatch.publish.sentence import fault, verdict

Numbers = dict[str, float | None]
TOPICS = frozenset({"series", "frames", "snapshot", "decision", "stop", "status"})


class Board:
    """The newest result of each kind, and the history of the accumulation they belong to.

    A new series wipes the snapshot, the rows and the decision of the one before; its curves stay until the first frame.
    Where the sums of a series begin anew, what was decided before is wiped.

    Parameters
    ----------
    clock
        Tells the age of the data.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._history = History()
        self._counts: Counter[str] = Counter()
        self._versions: dict[str, int] = {}
        self._ended: Counter[str] = Counter()
        self._data_s: float | None = None
        self._status_s: float | None = None
        self._warning = self._first_device = ""
        self._profiles: dict[tuple[ProfileKind, str], Profile] = {}
        self.event: SeriesEvent | None = None
        self.rows: FrameRows | None = None
        self.snapshot: Snapshot | None = None
        self.decision: Decision | None = None
        self.stop: StopReport | None = None
        self.status: Status | None = None

    def update(self, result: Result) -> None:
        """Take note of a result; of final sums nothing is shown."""
        if isinstance(result, ForFiles):
            return
        with self._lock:
            if isinstance(result, Profile):
                self._profiles[result.kind, result.source] = result
                return
            self._take(result)
            topic = payload.topic(result)
            self._counts[topic] += 1
            self._versions[topic] = self._counts.total()

    def changes(self, seen: int, topics: Collection[str] = TOPICS) -> tuple[list[dict[str, Any]], int]:
        """Newest message of those topics that changed after version ``seen`` (0: all there is), and the version now."""
        with self._lock:
            newest = {
                "series": self.event,
                "frames": self.rows,
                "snapshot": self.snapshot,
                "decision": self.decision,
                "stop": self.stop,
                "status": self.status,
            }
            counts, now = dict(self._counts), self._counts.total()
            changed = sorted((self._versions.get(topic, 0), topic) for topic in topics)
        messages = [(newest[topic], counts[topic]) for version, topic in changed if version > seen]
        return [_thinned(payload.payload(result, count)) for result, count in messages if result is not None], now

    def curves(self, measure: Metric) -> dict[str, Points]:
        """Curves of one measure against the number of frames."""
        with self._lock:
            return self._history.curves(measure)

    def profiles(self) -> dict[ProfileKind, Profile]:
        """The newest profile of each kind: the summed image's, else the union's."""
        with self._lock:
            known = sorted(self._profiles.items(), key=lambda item: item[0][1], reverse=True)
        return {kind: profile for (kind, _), profile in known}  # "accumulated" comes after "union", and stays

    def spottiness(self) -> dict[str, Numbers]:
        """The newest numbers by their source: frame, accumulated, averaged, union."""
        rows, snapshot = self.rows, self.snapshot
        numbers: dict[str, Numbers] = {}
        if rows is not None and len(rows.frame):
            numbers["frame"] = {measure: float(getattr(rows, measure)[-1]) for measure in MEASURES}
        if snapshot is not None and snapshot.accumulated is not None:
            numbers["accumulated"] = _numbers(snapshot.accumulated.spottiness)
            numbers["averaged"] = _numbers(snapshot.accumulated.averaged)
        if snapshot is not None and snapshot.union is not None:
            numbers["union"] = _numbers(snapshot.union)
        return numbers

    @property
    def statistics(self) -> Statistics | None:
        """What the spots say, as far as it is known."""
        accumulated = self.snapshot and self.snapshot.accumulated
        return accumulated.statistics if accumulated else None

    @property
    def fault(self) -> str:
        """Why nothing can be measured; empty while all is well."""
        return fault(self.event, self.status)

    @property
    def failed_device(self) -> str:
        """The device that it began with, where another one had to take its place; else empty."""
        return self._first_device if self.status and self.status.device != self._first_device else ""

    def total_fates(self) -> Counter[str]:
        """Frames by what became of them, of all series together."""
        with self._lock:
            return self._ended + self._series_fates()

    def latest(self) -> dict[str, Any]:
        """Everything the page says, flat: names of spottinesses are ``<source>_<measure>``, the others `flat`'s."""
        with self._lock:
            event, snapshot, status, warning = self.event, self.snapshot, self.status, self._warning
            numbers, decision, statistics, stop = self.spottiness(), self.decision, self.statistics, self.stop
            doubts = {kind: profile.warning for (kind, _), profile in self._profiles.items()}
            ages = {"age_s": self._age_s(self._data_s), "status_age_s": self._age_s(self._status_s)}
        shown = measure(numbers)
        said = {name: of[shown] for name, of in numbers.items()}
        word, sentence = verdict(event, status, snapshot, decision, said, stop)
        return {
            "word": word,
            "sentence": sentence,
            "warning": warning,
            "profile_warning": " ".join(f"Profile {kind}: {why}." for kind, why in doubts.items() if why),
            "measure": decision.metric if decision else shown,
            **_origin(event),
            **flat.setup(event.setup if event else None),
            **flat.decision(decision),
            "decision_n_frames": decision.n_frames if decision else None,
            **flat.stop(stop),
            **flat.statistics(statistics),
            **{f"{source}_{name}": value for source, of in numbers.items() for name, value in of.items()},
            **_snapshot(snapshot),
            **_status(status),
            **ages,
        }

    def _take(self, result: SeriesEvent | FrameRows | Snapshot | Decision | StopReport | Status) -> None:
        now_s = self._clock.monotonic_s()
        match result:
            case SeriesEvent():
                self._begin(result)
            case FrameRows():
                self.rows, self._data_s = result, now_s
                self._history.add_rows(result)
            case Snapshot():
                self.snapshot, self._data_s = result, now_s
                self._history.add_snapshot(result)
            case Decision():
                self.decision = result
            case StopReport() if self.event is not None and result.origin.unique_id == self.event.origin.unique_id:
                self.stop = result
            case Status():
                self.status, self._status_s = result, now_s
                self._first_device = self._first_device or result.device

    def _begin(self, event: SeriesEvent) -> None:
        before = self.event.origin if self.event is not None else event.origin
        if before.unique_id != event.origin.unique_id:
            self._ended += self._series_fates()
            self.rows = self.snapshot = self.stop = self._data_s = None
        if (before.unique_id, before.generation) != (event.origin.unique_id, event.origin.generation):
            self.decision = None
            self._profiles.clear()
        if event.begins:
            late = "The start of the series was missed." if event.event == "joined" else ""
            self._warning = f"{late} {event.reason}".strip()
        self.event = event

    def _series_fates(self) -> Counter[str]:
        if self.snapshot is None:
            return Counter()
        counts = payload.fates(self.snapshot.fates)
        return Counter({fate: count for fate, count in counts.items() if isinstance(count, int)})

    def _age_s(self, then_s: float | None) -> float | None:
        return None if then_s is None else self._clock.monotonic_s() - then_s


def measure(numbers: Mapping[str, Numbers]) -> str:
    """Which measure is shown: over well-measured bins where there are any, else pyFAI's."""
    best = next((numbers[name] for name in ("accumulated", "union") if name in numbers), {})
    return "spottiness" if best.get("spottiness_rings") is None else "spottiness_rings"


def _thinned(message: dict[str, Any]) -> dict[str, Any]:
    """A message without its one array that has an entry for each radial bin: pages get five snapshots a second."""
    accumulated = message.get("accumulated")
    if accumulated and accumulated["statistics"]:
        del accumulated["statistics"]["bin_spottiness"]
    return message


def _numbers(spottiness: object) -> Numbers:
    return {name: getattr(spottiness, name) for name in MEASURES}


def _origin(event: SeriesEvent | None) -> dict[str, Any]:
    if event is None:
        return dict.fromkeys(("series", "unique_id", "sample", "generation", "event", "reason", "unit"))
    origin = event.origin
    return {
        "series": origin.series,
        "unique_id": origin.unique_id,
        "sample": origin.sample,
        "generation": origin.generation,
        "event": event.event,
        "reason": event.reason,
        "unit": event.unit,
    }


def _snapshot(snapshot: Snapshot | None) -> dict[str, Any]:
    if snapshot is None:
        return {"frame": 0, "frames_expected": None}
    counts = payload.fates(snapshot.fates)
    best = snapshot.union if snapshot.accumulated is None else snapshot.accumulated.spottiness
    return {
        "frame": snapshot.n_frames,
        "frames_expected": snapshot.frames_expected,
        "accumulated_n_frames": snapshot.accumulated.n_frames if snapshot.accumulated else 0,
        "spottiness_class": best.spottiness_class if best else None,
        "class_reason": best.class_reason if best else None,
        **{fate: _flat(count) for fate, count in counts.items()},
        "missing": snapshot.missing,
        "detector_dropped": snapshot.detector_dropped,
        "saturated_pixels": snapshot.saturated_pixels,
        "beam_down_since": snapshot.beam_down_since,
    }


def _flat(count: int | Mapping[str, int]) -> int | str:
    if isinstance(count, int):
        return count
    return ", ".join(f"{reason} {n}" for reason, n in count.items())


def _status(status: Status | None) -> dict[str, Any]:
    if status is None:
        return {"state": "waiting"}
    return {
        "state": status.state,
        "fps": status.fps,
        "lag_s": status.lag_s,
        "backlog_bytes": status.backlog_bytes,
        "device": status.device,
    }
