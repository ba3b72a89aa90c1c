"""Saved states in, one file of the newest out, kept as long as its accumulation is open; and what a crash has left."""

import time
from pathlib import Path

import structlog

from ringwatch.messages import Origin, SavedState
from ringwatch.publish.claim import Claim
from ringwatch.publish.file_names import file_stem, final_path, free_name
from ringwatch.publish.live_file import LiveFile
from ringwatch.publish.nexus import HDF5_ERRORS
from ringwatch.publish.result_file import ResultFileError, read_result
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
        self._n_frames = 0
        self._is_left = self._is_failing = False
        self._claim: Claim | None = None
        self.told = ""

    # ------------------------------------------------------------------------------------------------ after a crash

    def resume(self) -> StoredState | None:
        """What a crash has left; None where the last daemon ended well, or nobody can read it."""
        try:
            stored = self._stored()
        except OSError as error:
            _log.warning("what was saved before a crash is out of reach", path=str(self._path), problem=str(error))
            return None
        if stored is not None:
            self._note(stored.state, stored.live)
            self._is_left = True
            self.told = stored.state.result.origin.unique_id if stored.was_told else ""
        return stored

    def _stored(self) -> StoredState | None:
        if not self._path.exists() or not self._is_ours():
            return None
        try:
            stored = read_state(self._path)
        except ResultFileError as error:
            aside = self._path.with_name(f"{self._path.name}.{time.time_ns()}")
            self._path.rename(aside)
            _log.warning("what was saved before a crash cannot be read", kept_as=str(aside), problem=error.problem)
            return None
        if self._has_result(stored):
            self._path.unlink()  # killed in the moment after the result was written
            return None
        return stored

    def _is_ours(self) -> bool:
        """Whether no other daemon has it: two that go on with the same sums would count all frames twice."""
        if self._claim is None:
            self._claim = Claim(self._path)
            if not self._claim.is_ours:
                _log.warning("not saved: another daemon with this source writes here", path=str(self._path))
        return self._claim.is_ours

    def let_go(self) -> None:
        """Nothing more will be written: from now on another daemon may have it."""
        self._claim = None

    def _has_result(self, stored: StoredState) -> bool:
        path = final_path(self._path.parent, stored.live.name)
        try:
            return bool(stored.live.name) and read_result(path).origin.key == stored.state.result.origin.key
        except ResultFileError:
            return False

    def earlier_rows(self, origin: Origin, live: Origin | None) -> LiveMark | None:
        """Where the rows of an accumulation that begins are, if it goes on from what was saved last.

        If it does not, what was saved becomes a result of its own.

        Parameters
        ----------
        live
            The accumulation that has no result yet: it was not a crash, but the device that failed.
        """
        last = self._written
        if last is None or not (self._is_left or (live is not None and live.key == last.key)):
            return None
        if _follows(origin, last):
            self._is_left = False
            return self._mark
        self._keep(last)
        return None

    def _keep(self, last: Origin) -> None:
        if self._n_frames and self._is_ours() and self._path.exists():
            stem = file_stem("{sample}_{series:06d}_crashed", last.sample, last.series)
            path = final_path(self._path.parent, free_name(self._path.parent, stem))
            self._path.rename(path)
            _log.warning("what was saved is a result of its own now, not added to", path=str(path))
        self._remove()

    def _remove(self) -> None:
        if self._is_ours():
            self._path.unlink(missing_ok=True)
        self._written, self._is_left = None, False

    # ------------------------------------------------------------------------------------------------------ from now on

    def take(self, state: SavedState) -> None:
        """Write it with the next `write`."""
        self._new = state

    @property
    def is_new(self) -> bool:
        """Whether there is something to be written."""
        return self._new is not None

    def write(self, live: LiveFile) -> None:
        """Write what was taken, all rows of the live file being flushed.

        Where that fails the file of before stays: the live file and the result do not have to wait for it.
        """
        state, self._new = self._new, None
        if state is None or state.result.origin.key != live.event.origin.key:
            return
        self._note(state, live.mark)
        if self._is_ours():
            self._write(StoredState(state, self._mark, self.told == state.result.origin.unique_id))

    def _write(self, stored: StoredState) -> None:
        try:
            write_state(self._path, stored, self._config)
        except (ResultFileError, *HDF5_ERRORS) as error:
            if not self._is_failing:
                _log.warning("not saved: a crash would cost more", path=str(self._path), problem=str(error))
            self._is_failing = True
        else:
            self._is_failing = False

    def _note(self, state: SavedState, mark: LiveMark) -> None:
        """Remember what was saved last, but none of its arrays."""
        self._written, self._mark, self._n_frames = state.result.origin, mark, state.result.n_frames

    def forget(self, origin: Origin) -> None:
        """An accumulation is over, and its file written: nobody has to go on from it."""
        if self._new is not None and self._new.result.origin.key == origin.key:
            self._new = None
        if self._written is not None and self._written.key[0] == origin.key[0]:
            self._remove()


def _follows(origin: Origin, saved: Origin) -> bool:
    return origin.key == (saved.key[0], saved.generation + 1) and origin.digest == saved.digest
