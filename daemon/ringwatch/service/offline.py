"""Recorded frames in, one result file out: the daemon's own reduction, without a detector. And results merged."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce as fold
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringwatch.clock import SystemClock
from ringwatch.config import Config, FilesConfig
from ringwatch.errors import RingwatchError
from ringwatch.messages import (
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
from ringwatch.publish.result_file import StoredResult, read_result, write_result
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.pipeline import Reduction
from ringwatch.service.masks import read_mask
from ringwatch.service.settings import reduction_settings
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices
from ringwatch_gpu.sums import RingSums
from ringwatch_gpu.tables import BATCH

SERIES = 1
Progress = Callable[[int, int], None]
"""Told the number of frames reduced and of all frames."""


class RefusedError(RingwatchError):
    """The frames cannot be reduced with this configuration, or these results cannot be merged."""


@dataclass(slots=True)
class Summary:
    """What came out: ``snapshot`` is the last one, ``frames`` how many counted."""

    path: Path
    frames: int
    snapshot: Snapshot | None


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
    ConfigError, RefusedError, NoDevice, ResultFileError
    """
    device, clock = devices.choose(config.device.platform, config.device.type), SystemClock()
    messages, results = _Messages(files, progress), _Results()
    reduction = Reduction(
        messages.get_batch,
        messages.take_full_batch,
        lambda: 0,
        GeometrySource(config.geometry, read_mask),
        device,
        decode_into,
        results.take,
        reduction_settings(config, device),
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
    """What the reduction published, as far as it goes into the file."""

    rows: list[Columns] = field(default_factory=list)
    snapshots: list[Columns] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    last: Snapshot | None = None
    result: SeriesResult | None = None
    refusal: str = ""
    started_ns: int | None = None

    def take(self, result: Result) -> None:
        """Keep one result."""
        match result:
            case FrameRows():
                self.rows.append(nexus.frame_columns(result))
            case Snapshot():
                self.snapshots.append(nexus.snapshot_columns(result))
                self.last = result
            case Profile():
                self.profiles[result.source] = result
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
            started_ns=self.started_ns,
        )
        return Summary(out, self.result.n_frames, self.last)


def merge(paths: Sequence[Path], out: Path) -> Summary:
    """Union of several results of the same digest: sums, images, rows and fates are added.

    Raises
    ------
    DigestMismatch
        They were made with different geometries, masks or norms.
    RefusedError
        One of them is given twice: its frames would count twice.
    ResultFileError
        A file cannot be read or written.
    """
    parts = [read_result(path) for path in paths]
    _require_different(paths, parts)
    union = fold(add, map(stored_sums, parts))
    first = parts[0]
    merged = replace(
        first,
        time_ns=SystemClock().time_ns(),
        reason="merged",
        header={"merged": ", ".join(path.name for path in paths)},
        n_frames=union.n_frames,
        sums=union.words,
        image_sum=_added([part.image_sum for part in parts]),
        image_lost=_added([part.image_lost for part in parts]),
        fates=fold(_added_fates, (part.fates for part in parts)),
        missing=(),
    )
    profile = Profile(
        merged.origin,
        merged.time_ns,
        "mean",
        "union",
        "all",
        union.n_frames,
        radial=first.radial,
        **vars(union.profile),
    )
    write_result(out, merged, config=first.config, profiles=[profile], frames=[part.frames for part in parts])
    return Summary(out, union.n_frames, None)


def _require_different(paths: Sequence[Path], parts: Sequence[StoredResult]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for path, part in zip(paths, parts, strict=True):
        first = seen.setdefault((part.origin.unique_id, part.origin.generation), path)
        if first is not path:
            raise RefusedError(f"{first} and {path} are the same accumulation: its frames would count twice")


def _added(images: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Sum of the images, None if one of the results has none."""
    known = [image for image in images if image is not None]
    return fold(np.add, known) if len(known) == len(images) else None


def _added_fates(a: Fates, b: Fates) -> Fates:
    numbers = ("received", "reduced", "late", "foreign", "duplicate", "skipped", "missing")
    return Fates(
        **{name: getattr(a, name) + getattr(b, name) for name in numbers},
        malformed=Counter(a.malformed) + Counter(b.malformed),
        excluded=Counter(a.excluded) + Counter(b.excluded),
    )


def stored_sums(stored: StoredResult) -> RingSums:
    """The exact sums of a result file."""
    return RingSums(stored.sums, stored.n_frames, stored.digest, stored.norm_quantum)
