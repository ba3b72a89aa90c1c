"""Saved states in, one file of the newest out, kept as long as its accumulation is open; and what a crash has left."""

import time
from pathlib import Path

import structlog

from ringwatch.messages import Origin, SavedState, SeriesResult
from ringwatch.publish.file_names import file_stem, final_path, free_name
from ringwatch.publish.live_file import LiveFile
from ringwatch.publish.result_file import ResultFileError
from ringwatch.publish.state_file import LiveMark, StoredState, read_state, write_state

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class OpenState:
    """The state file of the accumulation that is open.

    Parameters
    ----------
    path
        Of the file.
    config
        The configuration, a JSON object as text.

    Attributes
    ----------
    told
        The series that was told to stop.
    """

    def __init__(self, path: Path, config: str) -> None:
        self._path, self._config = path, config
        self._new: SavedState | None = None
        self._written: Origin | None = None
        self._mark = LiveMark()
        self._left: SavedState | None = None
        self.told = ""

    # ------------------------------------------------------------------------------------------------ after a crash

    def resume(self) -> StoredState | None:
        """What a crash has left; None where the last daemon ended well."""
        if not self._path.exists():
            return None
        try:
            stored = read_state(self._path)
        except ResultFileError as error:
            aside = self._path.with_name(f"{self._path.name}.{time.time_ns()}")
            self._path.rename(aside)
            _log.warning("what was saved before a crash cannot be read", kept_as=str(aside), problem=error.problem)
            return None
        if stored.live.name and final_path(self._path.parent, stored.live.name).exists():
            self._path.unlink()  # killed in the moment after the result was written
            return None
        self._left, self._mark, self._written = stored.state, stored.live, stored.state.result.origin
        self.told = self._written.unique_id if stored.was_told else ""
        return stored

    def earlier_rows(self, origin: Origin, *, is_open: bool) -> LiveMark | None:
        """Where the rows of an accumulation that begins are, if it goes on from what was saved last.

        If it does not, what a crash has left becomes a result of its own.

        Parameters
        ----------
        is_open
            The accumulation before it has no result yet: it was not a crash, but the device that failed.
        """
        last, left, self._left = self._written, self._left, None
        if last is not None and (left is not None or is_open) and _follows(origin, last):
            return self._mark
        if left is not None:
            self._keep(left.result)
        return None

    def _keep(self, result: SeriesResult) -> None:
        stem = file_stem("{sample}_{series:06d}_crashed", result.origin.sample, result.origin.series)
        path = final_path(self._path.parent, free_name(self._path.parent, stem))
        if result.n_frames:
            self._path.rename(path)
            _log.warning("what was saved before a crash is a result now, not added to", path=str(path))
        else:
            self._path.unlink(missing_ok=True)
        self._written = None

    # ------------------------------------------------------------------------------------------------------ from now on

    def take(self, state: SavedState) -> None:
        """Write it with the next `write`."""
        self._new = state

    @property
    def is_new(self) -> bool:
        """Whether there is something to be written."""
        return self._new is not None

    def write(self, live: LiveFile) -> None:
        """Write what was taken, all rows of the live file being flushed; raises what `write_state` raises."""
        state = self._new
        if state is None:
            return
        origin = state.result.origin
        if origin.key == live.event.origin.key:
            mark = live.mark
            write_state(self._path, StoredState(state, mark, self.told == origin.unique_id), self._config)
            self._written, self._mark = origin, mark
        self._new = None

    def forget(self, origin: Origin) -> None:
        """An accumulation is over, and its file written: nobody has to go on from it."""
        if self._new is not None and self._new.result.origin.key == origin.key:
            self._new = None
        if self._written is not None and self._written.key[0] == origin.key[0]:
            self._path.unlink(missing_ok=True)
            self._written = None


def _follows(origin: Origin, saved: Origin) -> bool:
    return origin.key == (saved.key[0], saved.generation + 1) and origin.digest == saved.digest
