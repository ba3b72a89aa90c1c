"""Recorded frames in, one result file out: the daemon's own reduction, without a detector."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ringwatch.clock import SystemClock
from ringwatch.config import Config, FilesConfig, WindowConfig, unweighable
from ringwatch.errors import ConfigError, RingwatchError
from ringwatch.messages import (
    Decision,
    Fates,
    Frame,
    FrameRows,
    Profile,
    ProfileKind,
    Result,
    SeriesEnd,
    SeriesEvent,
    SeriesResult,
    SeriesStart,
    Snapshot,
    StreamMessage,
)
from ringwatch.publish import nexus
from ringwatch.publish.nexus import Columns
from ringwatch.publish.result_file import ResultFileError, write_result
from ringwatch.reduction.accumulator import too_few
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.pipeline import Reduction
from ringwatch.service.i0 import read_i0
from ringwatch.service.images import read_image
from ringwatch.service.settings import only, reduction_settings
from ringwatch.service.spool import Spool
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices
from ringwatch_gpu.sums import RingSums
from ringwatch_gpu.tables import BATCH

SERIES = 1
FRAMES_PER_S = 512
"""Recorded frames have no time of their own: so many make one second of ``profiles.interval_s``. The reduction keeps
azimuthal sectors of so many frames between two evaluations."""

Progress = Callable[[int, int], None]
"""Told the number of frames reduced and of all frames."""


class RefusedError(RingwatchError):
    """The frames cannot be reduced with this configuration, or the results cannot be merged."""


@dataclass(slots=True)
class Summary:
    """What came out: ``snapshot`` and ``decision`` are the last ones, ``frames`` is how many counted.

    ``warning`` tells that the profiles of single frames mean little, and why.
    """

    paths: Sequence[Path]
    frames: int
    snapshot: Snapshot | None = None
    decision: Decision | None = None
    warning: str | None = None


class FrameClock:
    """Time that passes with the frames that are reduced: then no decision depends on how fast this machine is."""

    def __init__(self) -> None:
        self.frames = 0

    def monotonic_s(self) -> float:
        """Seconds of recorded frames."""
        return self.frames / FRAMES_PER_S

    def time_ns(self) -> int:
        """The wall clock, for what is written."""
        return SystemClock().time_ns()


def reduce_files(
    files: Sequence[str],
    config: Config | FilesConfig,
    out: Path,
    progress: Progress = lambda done, total: None,
    i0: Sequence[str] = (),
    each_frame: ProfileKind | None = None,
) -> Summary:
    """Reduce all frames of all files as one series, and write the result.

    Parameters
    ----------
    files
        What `FramesFile` reads; numbers of the frames go on from file to file.
    out
        Name of the result file; never overwritten. Of a window in blocks each has its own: OUT_2.h5 and so on.
    i0
        What `read_i0` reads: the monitor of each frame.
    each_frame
        Which profile of each single frame is stored; the outlier-rejecting ones take some 0.1 s a frame.

    Raises
    ------
    ConfigError, GeometryError, RefusedError, NoDevice, ResultFileError
    """
    device = devices.choose(config.device.platform, config.device.type)
    reference = _monitor_reference(config) if i0 else None
    _require_frames(config.accumulate.window)
    settings = replace(
        reduction_settings(config, device),
        decision_gap_s=0.0,
        monitor_reference=reference,
        each_frame=only(each_frame, config.profiles),
    )
    if settings.stop is not None:  # there is nobody to stop
        settings = replace(settings, stop=settings.stop.model_copy(update={"via": "none"}))
    clock = FrameClock()
    messages = _Messages(files, progress, i0)
    results = _Results(clock, out, config.model_dump_json(), _spool(out), each_frame)
    reduction = Reduction(
        messages.get_batch,
        messages.take_full_batch,
        lambda: 0,
        GeometrySource(config.geometry, read_image),
        device,
        decode_into,
        results.take,
        settings,
        clock,
    )
    try:
        while not messages.exhausted and not results.refusal:
            reduction.step()
        reduction.conclude("complete")
    finally:
        reduction.close()
        messages.close()
        results.rows.close()
    return results.summary()


def _monitor_reference(config: Config | FilesConfig) -> float:
    if config.accumulate.monitor_reference is None:
        raise ConfigError(
            ["accumulate.monitor_reference is missing: the usual counts of the monitor; needed in CONFIG for --i0"]
        )
    asked = unweighable(config.geometry, config.profiles)
    if asked:
        raise ConfigError([f"--i0 cannot be combined with {' and '.join(asked)}"])
    return config.accumulate.monitor_reference


def _require_frames(window: WindowConfig) -> None:
    if window.seconds is not None:
        raise ConfigError(["accumulate.window.seconds: recorded frames have no time of arrival, give frames instead"])


def _spool(out: Path) -> Spool:
    """Where rows of frames wait: beside the result."""
    try:
        return Spool(out.parent)
    except OSError as error:
        raise ResultFileError(out, f"cannot be written: {error}") from error


class _Messages:
    """The frames of several files as the messages of one series."""

    def __init__(self, files: Sequence[str], progress: Progress, i0: Sequence[str]) -> None:
        self._files = [FramesFile(file) for file in files]
        self._names, self._progress = files, progress
        self._total = sum(file.n_frames for file in self._files)
        self._i0 = read_i0(i0, self._total) if i0 else np.full(self._total, np.nan)
        self._batches = self._all_batches()
        self._held: list[StreamMessage] = []
        self.exhausted = False

    def get_batch(self, max_frames: int, timeout_s: float) -> Sequence[StreamMessage]:
        """The next batch; frames are there already, so nothing is waited for."""
        del max_frames, timeout_s  # batches of eight are what the kernels take
        batch = self._held or next(self._batches, [])
        self.exhausted, self._held = not batch, []
        return batch

    def take_full_batch(self, n_frames: int) -> Sequence[Frame]:
        """The next batch, if it is one of frames and full."""
        self._held = self._held or next(self._batches, [])
        frames = [message for message in self._held if isinstance(message, Frame)]
        if len(frames) < n_frames:
            return []
        self._held = []
        return frames

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()

    def _all_batches(self) -> Iterator[list[StreamMessage]]:
        first, number = self._files[0], 0
        fates = Fates(received=self._total)
        yield [
            SeriesStart(
                SERIES,
                unique_id=uuid.uuid4().hex,
                header={"files": ", ".join(Path(name).name for name in self._names)},
                shape=first.shape,
                dtype=first.dtype,
                frames_expected=self._total,
                pixel_mask=first.pixel_mask,
                sample=Path(self._names[0].partition("::")[0]).stem,
                fates=fates,
            )
        ]
        for file in self._files:
            for begin in range(0, file.n_frames, BATCH):
                batch = [*file.frames(begin, min(begin + BATCH, file.n_frames))]
                yield [replace(frame, frame=n, i0=float(self._i0[n])) for n, frame in enumerate(batch, number)]
                number += len(batch)
                self._progress(number, self._total)
        yield [SeriesEnd(SERIES, reason="complete")]


@dataclass(slots=True)
class _Results:
    """What the reduction published, written at the end of each block; sets the clock to the frames reduced."""

    clock: FrameClock
    out: Path
    config: str
    rows: Spool
    each_frame: ProfileKind | None
    snapshots: list[Columns] = field(default_factory=list)
    decisions: list[Columns] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    last_snapshot: Snapshot | None = None
    last_decision: Decision | None = None
    paths: list[Path] = field(default_factory=list)
    n_frames: int = 0
    refusal: str = ""
    warning: str | None = None
    started_ns: int | None = None

    def take(self, result: Result) -> None:
        """Keep one result, or write all of a block."""
        match result:
            case FrameRows():
                self._keep(nexus.frame_columns(result, "profiles" if self.each_frame else "none"))
                self.clock.frames += result.frame.size
            case Snapshot():
                self.snapshots.append(nexus.snapshot_columns(result))
                self.last_snapshot = result
            case Decision():
                self.decisions.append(nexus.decision_columns(result))
                self.last_decision = result
            case Profile():
                self.profiles[nexus.profile_name(result)] = result
            case SeriesResult():
                self._write(result)
            case SeriesEvent(event="abandoned"):
                self.refusal = result.reason
            case SeriesEvent(event="start"):
                self.started_ns = result.time_ns
            case _:
                pass

    def _keep(self, columns: Columns) -> None:
        try:
            self.rows.add(columns)
        except OSError as error:
            raise ResultFileError(self.out, f"cannot be written: {error}") from error

    def summary(self) -> Summary:
        """What was written, if there was something to write."""
        if self.refusal or not self.paths:
            raise RefusedError(self.refusal or "no frame could be reduced: nothing to write")
        return Summary(self.paths, self.n_frames, self.last_snapshot, self.last_decision, self.warning)

    def _write(self, result: SeriesResult) -> None:
        self.warning = self._few_counts(result)
        number = len(self.paths) + 1
        path = self.out if number == 1 else self.out.with_stem(f"{self.out.stem}_{number}")
        write_result(
            path,
            result,
            config=self.config,
            profiles=self.profiles.values(),
            frames=self.rows,
            snapshots=self.snapshots,
            decisions=self.decisions,
            rings=nexus.ring_table(self.last_snapshot) if self.last_snapshot else None,
            started_ns=self.started_ns,
            frame_profiles={"kind": self.each_frame or "mean"} | ({"warning": self.warning} if self.warning else {}),
        )
        self.paths.append(path)
        self.n_frames += result.n_frames
        self.rows.clear()
        for kept in (self.snapshots, self.decisions):
            kept.clear()
        self.profiles.clear()

    def _few_counts(self, result: SeriesResult) -> str | None:
        """Why the profiles of single frames mean little, if they do."""
        if self.each_frame != "quantile" or result.sums is None:
            return None
        units = result.norm_quantum, result.signal_quantum
        union = RingSums(result.sums, result.n_frames, "", *units, is_exact=result.exact).profile
        filled = union.count > 0
        return too_few(union.signal[filled] / union.count[filled])
