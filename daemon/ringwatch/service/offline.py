"""Recorded frames in, one result file out: the daemon's own reduction, without a detector."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ringwatch.clock import SystemClock
from ringwatch.config import Config, FilesConfig
from ringwatch.errors import RingwatchError
from ringwatch.messages import (
    Decision,
    Fates,
    Frame,
    FrameRows,
    Profile,
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
from ringwatch.publish.result_file import write_result
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.pipeline import Reduction
from ringwatch.service.images import read_image
from ringwatch.service.settings import reduction_settings
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices
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
    """What came out: ``snapshot`` and ``decision`` are the last ones, ``frames`` is how many counted."""

    path: Path
    frames: int
    snapshot: Snapshot | None = None
    decision: Decision | None = None


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
    files: Sequence[str], config: Config | FilesConfig, out: Path, progress: Progress = lambda done, total: None
) -> Summary:
    """Reduce all frames of all files as one series, and write the result.

    Parameters
    ----------
    files
        What `FramesFile` reads; numbers of the frames go on from file to file.
    out
        Name of the result file; never overwritten.

    Raises
    ------
    ConfigError, GeometryError, RefusedError, NoDevice, ResultFileError
    """
    device = devices.choose(config.device.platform, config.device.type)
    settings = replace(reduction_settings(config, device), decision_gap_s=0.0)
    if settings.stop is not None:  # there is nobody to stop
        settings = replace(settings, stop=settings.stop.model_copy(update={"via": "none"}))
    clock = FrameClock()
    messages, results = _Messages(files, progress), _Results(clock)
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
    finally:
        reduction.close()
        messages.close()
    return results.write(out, config.model_dump_json())


class _Messages:
    """The frames of several files as the messages of one series."""

    def __init__(self, files: Sequence[str], progress: Progress) -> None:
        self._files = [FramesFile(file) for file in files]
        self._names, self._progress = files, progress
        self._total = sum(file.n_frames for file in self._files)
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
                yield [replace(frame, frame=number + offset) for offset, frame in enumerate(batch)]
                number += len(batch)
                self._progress(number, self._total)
        yield [SeriesEnd(SERIES, reason="complete")]


@dataclass(slots=True)
class _Results:
    """What the reduction published, as far as it goes into the file; sets the clock to the frames reduced."""

    clock: FrameClock
    rows: list[Columns] = field(default_factory=list)
    snapshots: list[Columns] = field(default_factory=list)
    decisions: list[Columns] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    last_snapshot: Snapshot | None = None
    last_decision: Decision | None = None
    result: SeriesResult | None = None
    refusal: str = ""
    started_ns: int | None = None

    def take(self, result: Result) -> None:
        """Keep one result."""
        match result:
            case FrameRows():
                self.rows.append(nexus.frame_columns(result))
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
                self.result = result
            case SeriesEvent(event="abandoned"):
                self.refusal = result.reason
            case SeriesEvent(event="start"):
                self.started_ns = result.time_ns
            case _:
                pass

    def write(self, out: Path, config: str) -> Summary:
        """Write the file, if there is something to write."""
        if self.refusal or self.result is None:
            raise RefusedError(self.refusal or "no frame could be decoded: nothing to write")
        write_result(
            out,
            self.result,
            config=config,
            profiles=self.profiles.values(),
            frames=self.rows,
            snapshots=self.snapshots,
            decisions=self.decisions,
            rings=nexus.ring_table(self.last_snapshot) if self.last_snapshot else None,
            started_ns=self.started_ns,
        )
        return Summary(out, self.result.n_frames, self.last_snapshot, self.last_decision)
