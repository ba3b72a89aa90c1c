"""Results in, one HDF5 file an accumulation out: a live file while a series runs, the complete file when it is over.

``<name>.live.h5`` can be read at any time; at the end the complete ``<name>.h5`` is written beside it and the live file
is removed. A publisher and its files belong to one thread.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

import structlog

from ringwatch.clock import Clock, SystemClock
from ringwatch.errors import PublishError, RingwatchError
from ringwatch.messages import (
    Decision,
    FrameRows,
    Origin,
    Profile,
    Result,
    SavedState,
    SeriesEvent,
    SeriesResult,
    Snapshot,
    Status,
    StopReport,
)
from ringwatch.publish.exports import Export, write_exports
from ringwatch.publish.file_names import file_stem, final_path, free_name
from ringwatch.publish.live_file import LiveFile
from ringwatch.publish.nexus import HDF5_ERRORS, FramesStored
from ringwatch.publish.open_state import OpenState
from ringwatch.publish.result_file import ResultFileError, write_result
from ringwatch.publish.state_file import StoredState

MAX_PENDING = 1 << 14
"""Most rows of all tables that wait in memory, about 80 MB where every frame comes with a snapshot."""
MAX_PENDING_BYTES = 64 << 20
"""Most bytes of profiles of single frames that wait in memory."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class FileWriteError(PublishError):
    """A result file or a live file could not be written."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {' '.join(problem.split())}")


class Hdf5Publisher:
    """Writes one result file an accumulation.

    What it was given stays in memory until it is written, also while writing fails: nothing is lost if a full disk is
    freed, and a result that is published again after an error is not written twice.

    Parameters
    ----------
    root
        Folder of the files; made where it is absent.
    name_template
        Name of a file without its ending; ``{sample}`` and ``{series}`` are filled in.
    flush_s
        Longest time between a row's arrival and its being readable in the live file.
    config_json
        The configuration, a JSON object as text, stored in each file.
    clock
        Time for ``flush_s``.
    stored
        What of each frame is stored besides its row.
    also
        What else is written beside each complete file. Where that fails it is logged, and the file stays.
    state_name
        Name of the file, in the same folder, that holds what is needed to go on after a crash, as long as an
        accumulation is open.

    Attributes
    ----------
    last_path
        The newest complete file.
    """

    name = "hdf5"

    def __init__(
        self,
        root: Path,
        name_template: str,
        flush_s: float,
        config_json: str,
        clock: Clock | None = None,
        stored: FramesStored = "none",
        also: Sequence[Export] = (),
        state_name: str = ".ringwatch-state",
    ) -> None:
        self.last_path: Path | None = None
        self._root = root
        self._template = name_template
        self._flush_s = flush_s
        self._config = config_json
        self._stored = stored
        self._also = also
        self._clock = clock or SystemClock()
        self._flushed_s = self._clock.monotonic_s()
        self._until_s = inf
        self._taken: Result | None = None
        self._event: SeriesEvent | None = None
        self._live: LiveFile | None = None
        self._ended: tuple[LiveFile | None, SeriesResult] | None = None
        self._state = OpenState(root / state_name, config_json)

    def resume(self) -> StoredState | None:
        """What a crash has left to go on from; called before the publisher is opened, once."""
        return self._state.resume()

    def open(self) -> None:
        """Make the folder.

        Raises
        ------
        FileWriteError
            It cannot be made.
        """
        with self._errors_named():
            self._root.mkdir(parents=True, exist_ok=True)

    def publish(self, result: Result) -> None:
        """Take a result, and write what is due.

        Raises
        ------
        FileWriteError
            Disk full, no permission, or whatever else the file system says.
        """
        with self._errors_named():
            if result is not self._taken:
                self._make_room(result)
                self._take(result)
                self._taken = result
            self._write_due()
            self._taken = None

    def hurry(self, timeout_s: float) -> None:
        """From any thread: what is not written in this time may be lost, for the daemon stops.

        Profiles of single frames that cannot be copied into the complete file then stay in the live one, beside it.
        """
        self._until_s = self._clock.monotonic_s() + timeout_s

    def close(self) -> None:
        """Let go of the files; `publish` opens them again. What ``flush_s`` still held back stays in memory."""
        with self._errors_named():
            for live in (self._live, self._ended and self._ended[0]):
                if live:
                    live.close()

    def let_go(self) -> None:
        """At the end, its thread being gone: another publisher may go on from what is saved."""
        self._state.let_go()

    # ---------------------------------------------------------------------------------------------- into memory

    def _make_room(self, result: Result) -> None:
        """Write before more is taken than memory should hold; while that fails, no more is taken."""
        if isinstance(result, SeriesResult):
            self._finish()
        live = self._live
        if live and (live.pending > MAX_PENDING or live.pending_bytes > MAX_PENDING_BYTES):
            self._flush(live)

    def _take(self, result: Result) -> None:
        if isinstance(result, Status):
            return
        origin = result.result.origin if isinstance(result, SavedState) else result.origin
        live = self._live if self._live and _same(self._live.event.origin, origin) else None
        match result:
            case SavedState():
                self._state.take(result)
            case StopReport(state="asked"):
                self._state.told = result.origin.unique_id
            case SeriesEvent(begins=True):
                self._event = result
                self._live = live or self._begin(result)
            case FrameRows():
                self._live = live or self._begin(result)
                self._live.add(result)
            case Snapshot() | Decision() | Profile() if live:
                live.add(result)
            case SeriesResult():
                self._live = None if live else self._live
                self._ended = (live, result)
            case SeriesEvent(event="end" | "abandoned") if live and not live.has_rows:
                live.leave()
                self._live = None
                self._state.forget(result.origin)

    def _begin(self, first: SeriesEvent | FrameRows) -> LiveFile:
        """A new accumulation. A generation that begins inside a series is known by its first rows only."""
        if self._event is None:
            raise PublishError(f"rows of series {first.origin.series} came before its start")
        earlier = self._state.earlier_rows(first.origin, self._live.event.origin if self._live else None)
        if self._live and earlier:
            self._live.close()
        elif self._live:
            self._live.leave()
        event, stem = replace(self._event, origin=first.origin, time_ns=first.time_ns), self._stem(first.origin)
        return LiveFile(self._root, stem, event, self._config, self._stored, earlier)

    # ------------------------------------------------------------------------------------------------ onto disk

    def _write_due(self) -> None:
        self._finish()
        if self._live is None:
            return
        waited_s = self._clock.monotonic_s() - self._flushed_s
        if not self._live.name or (self._live.pending and waited_s >= self._flush_s) or self._state.is_new:
            self._flush(self._live)
            self._state.write(self._live)

    def _flush(self, live: LiveFile) -> None:
        live.flush()
        self._flushed_s = self._clock.monotonic_s()

    def _finish(self) -> None:
        """Put the complete file in the place of the live one; no frame, no file."""
        if self._ended is None:
            return
        live, result = self._ended
        path = None
        if result.n_frames:
            path = self.last_path = live.write_final(result, self._left_s) if live else self._write_alone(result)
        self._ended = None
        if live:
            live.remove()
        self._state.forget(result.origin)
        if live and live.is_needed:
            _log.warning("profiles of single frames stay in the live file", file=str(path), live=str(live.path))
        if path:
            self._write_beside(path)

    def _left_s(self) -> float:
        return self._until_s - self._clock.monotonic_s()

    def _write_beside(self, path: Path) -> None:
        if self._also and self._left_s() < inf:
            _log.warning("stopped before this was written beside the result file", kinds=self._also, path=str(path))
            return
        for kind in self._also:
            try:
                write_exports(path, [kind])
            except RingwatchError as error:
                _log.error("not written beside the result file", kind=kind, problem=str(error))

    def _write_alone(self, result: SeriesResult) -> Path:
        """The complete file of an accumulation whose start was never seen."""
        path = final_path(self._root, free_name(self._root, self._stem(result.origin)))
        write_result(path, result, config=self._config, profiles=())
        return path

    def _stem(self, origin: Origin) -> str:
        return file_stem(self._template, origin.sample, origin.series)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Foreign errors leave as this publisher's, with the path they are about."""
        try:
            yield
        except ResultFileError as error:
            raise FileWriteError(error.path, error.problem) from error
        except HDF5_ERRORS as error:
            raise FileWriteError(self._root, str(error)) from error


def _same(one: Origin, other: Origin) -> bool:
    """Whether two results belong to one accumulation."""
    return one.key == other.key
