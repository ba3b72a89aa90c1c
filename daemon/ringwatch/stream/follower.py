"""Files that a beamline writes in, the clean stream out into the queue: for detectors whose stream somebody else has.

Nothing is written, locked, or read before its writer has closed it.
"""

import glob
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import structlog

from ringwatch.clock import Clock
from ringwatch.errors import ConfigError
from ringwatch.intervals import IntervalSet
from ringwatch.messages import Frame, Scalar, SeriesEnd, SeriesStart
from ringwatch.stream.complete import may_be_complete
from ringwatch.stream.feed import Complaints, Feed
from ringwatch.stream.file_series import FileSeries, NextFile, SeriesName, split_name
from ringwatch.stream.frames_file import FramesFile
from ringwatch.stream.queue import FrameQueue
from ringwatch.stream.series import SeriesTable

POLL_S = 0.5
MOST_OF_THE_TIME = 4
"""Looking through a folder of very many files takes long: so many times that long nothing is looked at."""
_WAIT_S = 0.05
_NS = 1e-9
_FACTS = {"folder": str, "files": str, "first_file": int, "frames_a_file": int}
"""What the header of a series of files says: enough to find them again."""

_log = structlog.get_logger(__name__)


class Follower(Feed):
    """The thread between files and the queue.

    Parameters
    ----------
    pattern
        Which files, with ``*``, ``?``, ``[...]`` and ``**``; ``::/path`` behind it names the dataset of HDF5 files.
    table, queue, clock, on_death
        As for `Feed`; the queue blocks: files wait where they are.
    settle_s
        A file that has not changed for so long is taken for complete.
    silence_s
        A series is over when nothing changed for so long.
    """

    def __init__(
        self,
        pattern: str,
        table: SeriesTable,
        queue: FrameQueue,
        clock: Clock,
        settle_s: float,
        silence_s: float,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("follower", table, queue, clock, on_death)
        self._pattern, _, self._dataset = pattern.partition("::")
        self._silence_s = silence_s
        self._files = FileSeries(settle_s, silence_s, _look, _is_closed)
        self._numbers = count(1)
        self._start: SeriesStart | None = None
        self._settled = IntervalSet()
        self._per_file = 1
        self._look_s = 0.0
        self._complaints = Complaints()

    def _open(self) -> None:
        """Files that nobody has changed for a while are of earlier times."""
        now_ns = self._clock.time_ns()
        old = [path for path in self._paths() if (found := _look(path)) and (now_ns - found[1]) * _NS > self._silence_s]
        self._files.ignore(old)

        if self._start is not None:
            self._resume_files(self._start)

    def resume(self, start: SeriesStart, settled: IntervalSet) -> None:
        """Before it is started: go on with a series that was being read when the daemon died.

        Parameters
        ----------
        settled
            Numbers of its frames that are not read again.
        """
        if all(isinstance(start.header.get(name), kind) for name, kind in _FACTS.items()):
            self._start, self._settled, self._numbers = start, settled, count(start.series + 1)

    def _resume_files(self, start: SeriesStart) -> None:
        """The file of the last frame is read again: not all of its frames may have been reduced."""
        folder, files, first, per_file = (start.header[name] for name in _FACTS)
        prefix, _, suffix = str(files).rpartition("*")
        self._per_file = max(1, int(per_file or 1))
        last = int(first or 0) + max(0, self._settled.end - 1) // self._per_file
        series = SeriesName(Path(str(folder)), prefix, suffix)
        self._files.resume(series, int(first or 0), last - 1, self._clock.monotonic_s())

    def _close(self) -> None:
        """Files are closed as soon as they are read."""

    def _turn(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._look_s:
            self._files.update(self._paths(), now_s)
            took_s = self._clock.monotonic_s() - now_s
            self._look_s = now_s + max(POLL_S, MOST_OF_THE_TIME * took_s)
        found = self._files.next_file(now_s)
        if found is not None:
            self._read(found)
        elif self._files.is_over(now_s):
            self._end()
        else:
            self._stopping.wait(_WAIT_S)
        self._hand_on(self._table.tick(self._clock.monotonic_s()))

    def _paths(self) -> Iterator[Path]:
        return map(Path, glob.iglob(self._pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern

    def _read(self, found: NextFile) -> None:
        """Hand the frames of a file on; one that cannot be read is a gap."""
        name = f"{found.path}::{self._dataset}" if self._dataset else found.path
        try:
            with FramesFile(name) as file:
                written = [index for index in range(file.n_frames) if file.is_there(index)]
                if len(written) < file.n_frames and found.rested_s < self._silence_s:
                    self._files.put_back(found, self._clock.monotonic_s())
                    return
                self._begin(found, file)
                for index in written:
                    if not self._has_room():
                        return
                    self._feed(found, *file.frames(index, index + 1))
        except (ConfigError, OSError, ValueError, RuntimeError) as error:
            self._table.malformed("file")
            self._complaints.say("file", f"{found.path}: {error}", self._clock.monotonic_s())

    def _begin(self, found: NextFile, file: FramesFile) -> None:
        if self._start is not None:
            return
        self._per_file = file.n_frames
        self._start = SeriesStart(
            next(self._numbers),
            uuid.uuid4().hex,
            _header(found, file.n_frames),
            file.shape,
            file.dtype,
            pixel_mask=file.pixel_mask,
            sample=found.series.folder.name,
        )
        _log.info("series of files", series=self._start.series, first=str(found.path), frames_a_file=file.n_frames)
        self._hand_on(self._table.feed(self._start, self._clock.monotonic_s()))

    def _feed(self, found: NextFile, frame: Frame) -> None:
        start, now_s = self._start, self._clock.monotonic_s()
        if start is None:
            return
        number = found.position * self._per_file + frame.frame
        if number in self._settled:
            return
        known = replace(frame, series=start.series, unique_id=start.unique_id, frame=number, received_s=now_s)
        self._hand_on(self._table.feed(known, now_s))

    def _end(self) -> None:
        self._files.end()
        start, self._start, self._settled = self._start, None, IntervalSet()
        if start is not None:
            self._hand_on(self._table.feed(SeriesEnd(start.series, start.unique_id), self._clock.monotonic_s()))

    def _has_room(self) -> bool:
        """Wait until the queue has room; False where the daemon stops first."""
        while not self._stopping.is_set():
            if self._queue.wait_for_room(_WAIT_S):
                return True
        return False


def _header(found: NextFile, frames_a_file: int) -> dict[str, Scalar]:
    series, number = found.series, split_name(found.path)[1]
    facts = (str(series.folder), f"{series.prefix}*{series.suffix}", number - found.position, frames_a_file)
    return dict(zip(_FACTS, facts, strict=True))


def _look(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _is_closed(path: Path, size_bytes: int) -> bool:
    try:
        return may_be_complete(path, size_bytes)
    except OSError:
        return False
