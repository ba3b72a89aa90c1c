"""Rows, snapshots, decisions and profiles of one accumulation in, a file that readers may open at any time out.

The file is written under SWMR: it can be read by any number of processes meanwhile, and survives a kill at any moment.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from math import inf, nan
from pathlib import Path

import h5py
import numpy as np
import structlog

from ringwatch.messages import Decision, FrameRows, Profile, RingTable, SeriesEvent, SeriesResult, Snapshot
from ringwatch.publish import nexus
from ringwatch.publish.disk import file_image, reserve, take_name
from ringwatch.publish.file_names import final_path, free_name, live_path
from ringwatch.publish.nexus import FRAME_PROFILE_COLUMNS, HDF5_ERRORS, Columns, FramesStored
from ringwatch.publish.result_file import write_result
from ringwatch.publish.state_file import LiveMark

PENDING_BYTES = 1536
"""Disk space that a row of any table needs at most."""
LIBVER = "v110"
"""The oldest format with SWMR: what HDF5 2 calls latest cannot be opened by HDF5 1, which most readers still have."""
COPY_BYTES_PER_S = 50e6
"""So fast are profiles of single frames copied at least, to a slow disk: 300 MB/s were measured on a fast one."""
NAME_BYTES = 255

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _OutOfTimeError(Exception):
    """What is to be copied takes longer than there is time; no error of the file's."""


class LiveFile:
    """What one accumulation gave so far: the newest in memory, all that was flushed in a file.

    Parameters
    ----------
    folder, stem
        Where the file goes, and its preferred name.
    event
        The start of the accumulation.
    config
        The configuration, a JSON object as text.
    stored
        What of each frame is stored besides its row.
    earlier
        The live file of the same accumulation that a crash left behind: this one takes over its name and those of its
        rows that still hold.

    Attributes
    ----------
    name
        Name of the file without its ending; empty until there is one.
    pending
        Rows of all tables that wait for `flush`, and whether there is a new profile.
    pending_bytes
        Of the profiles of single frames that wait.
    is_needed
        The complete file lacks the profiles of single frames: they are here alone.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        event: SeriesEvent,
        config: str,
        stored: FramesStored = "none",
        earlier: LiveMark | None = None,
    ) -> None:
        self.event = event
        self._earlier = earlier
        self.name = ""
        self.pending = self.pending_bytes = 0
        self.is_needed = False
        self._stored = stored
        self._folder = folder
        self._stem = stem
        self._config = config
        self._file: h5py.File | None = None
        self._n_flushed = 0
        self._new: dict[str, list[Columns]] = {name: [] for name in nexus.TABLES}
        self._profiles: dict[str, Profile] = {}
        self._rings: RingTable | None = None

    @property
    def has_rows(self) -> bool:
        """Whether there was any frame, be it before a crash."""
        return bool(self._n_flushed or self._new["frames"] or (self._earlier and self._earlier.rows.get("frames")))

    @property
    def path(self) -> Path:
        """Name of the file."""
        return live_path(self._folder, self.name or self._stem)

    @property
    def mark(self) -> LiveMark:
        """How far it is now, all rows being flushed."""
        return LiveMark(self.name, {name: nexus.n_rows(self._opened()["entry"][name]) for name in nexus.TABLES})

    def add(self, result: FrameRows | Snapshot | Decision | Profile) -> None:
        """Take a result; `flush` writes it."""
        match result:
            case FrameRows():
                columns = nexus.frame_columns(result, self._stored)
                self._new["frames"].append(columns)
                self.pending += result.frame.size
                self.pending_bytes += sum(columns[name].nbytes for name in FRAME_PROFILE_COLUMNS[self._stored])
            case Snapshot():
                self._new["snapshots"].append(nexus.snapshot_columns(result))
                self._rings = nexus.ring_table(result) or self._rings
                self.pending += 1
            case Decision():
                self._new["decisions"].append(nexus.decision_columns(result))
                self.pending += 1
            case Profile():
                self._profiles[nexus.profile_name(result)] = result
                self.pending += 1

    def flush(self) -> None:
        """Write all that is new, so that readers see it.

        Raises
        ------
        HDF5_ERRORS
            What h5py and the disk raise. What is new stays in memory for the next call; that call begins another file
            if HDF5 failed to write, because it does not recover from that.
        """
        file = self._opened()
        needed = PENDING_BYTES * self.pending + 2 * self.pending_bytes
        reserve(file.id.get_vfd_handle(), file.id.get_filesize() + needed)
        try:
            self._write(file)
        except HDF5_ERRORS:
            self._give_up()
            raise
        self._n_flushed += sum(rows["frame"].size for rows in self._new["frames"])
        for parts in self._new.values():
            parts.clear()
        self.pending = self.pending_bytes = 0

    def write_final(self, result: SeriesResult, left_s: Callable[[], float] = lambda: inf) -> Path:
        """Write the complete file with all rows beside this one, under the same name where it is free.

        Where the profiles of single frames cannot be copied in the time that is left, they stay here alone.
        """
        self.flush()
        taken = final_path(self._folder, self.name).exists()
        path = final_path(self._folder, free_name(self._folder, self._stem) if taken else self.name)
        frames = self._opened()["entry/frames"]
        try:
            self._write_final(path, result, self._in_time(frames, left_s))
        except _OutOfTimeError:
            self._opened()["entry/complete_file"][()] = path.name
            self.is_needed = True
            self._write_final(path, result, nexus.blocks(frames, nexus.FRAME_COLUMNS), self.path.name)
        return path

    def _write_final(self, path: Path, result: SeriesResult, frames: Iterable[Columns], profiles_in: str = "") -> None:
        entry = self._opened()["entry"]
        write_result(
            path,
            result,
            config=self._config,
            profiles=self._profiles.values(),
            frames=frames,
            snapshots=nexus.blocks(entry["snapshots"]),
            decisions=nexus.blocks(entry["decisions"]),
            rings=self._rings,
            started_ns=self.event.time_ns,
            profiles_in=profiles_in,
        )

    def _in_time(self, frames: h5py.Group, left_s: Callable[[], float]) -> Iterator[Columns]:
        """All rows with all their columns, for as long as there seems to be time for the rest."""
        wide = FRAME_PROFILE_COLUMNS[self._stored]
        left_bytes = sum(frames[name].nbytes for name in wide)
        for rows in nexus.blocks(frames):
            if left_bytes > COPY_BYTES_PER_S * max(0.0, left_s()):
                raise _OutOfTimeError
            yield rows
            left_bytes -= sum(rows[name].nbytes for name in wide)

    def close(self) -> None:
        """Close the file; `flush` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def leave(self) -> None:
        """The accumulation goes on without a result: close the file, and keep it if it has rows."""
        with suppress(*HDF5_ERRORS):
            self.flush()
        self._give_up()

    def remove(self) -> None:
        """Close the file, and remove it unless it has what the complete file lacks."""
        self.close()
        if self.name and not self.is_needed:
            self.path.unlink(missing_ok=True)

    def _opened(self) -> h5py.File:
        """The file, open and under SWMR."""
        if self._file is None:
            try:
                self._file = self._under_swmr(self.path) if self.name else self._created()
            except HDF5_ERRORS:
                self._give_up()
                raise
        return self._file

    def _created(self) -> h5py.File:
        """A new file. It gets its name once it is under SWMR: a file of a process killed before that does not open."""
        earlier = self._earlier
        if earlier is not None and earlier.name and live_path(self._folder, earlier.name).exists():
            return self._taken_over(earlier)
        name = free_name(self._folder, self._stem)
        path = live_path(self._folder, name)
        with self._part_of(path) as part:
            file = self._file = self._under_swmr(part)
            take_name(part, path)
        self.name = name
        return file

    def _taken_over(self, earlier: LiveMark) -> h5py.File:
        """A new file with the rows of an earlier one that still hold, in its place."""
        path = live_path(self._folder, earlier.name)
        try:
            with self._part_of(path) as part:
                self._n_flushed = _copy_rows(path, part, earlier.rows)
                file = self._file = self._under_swmr(part)
                part.replace(path)
        except HDF5_ERRORS as error:
            if not _is_full(error):
                self._earlier = None  # else the next call would fail as well
            raise
        self.name, self._earlier = earlier.name, None
        return file

    @contextmanager
    def _part_of(self, path: Path) -> Iterator[Path]:
        """A file without rows, under a name that it loses; what still has it afterwards is removed."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(file_image(self._lay_out, LIBVER))
            yield part
        finally:
            part.unlink(missing_ok=True)

    @staticmethod
    def _under_swmr(path: Path) -> h5py.File:
        file = h5py.File(path, "r+", libver=LIBVER, locking=False)
        file.swmr_mode = True
        return file

    def _lay_out(self, file: h5py.File) -> None:
        """All groups and datasets, since none can be added under SWMR."""
        event = self.event
        entry = nexus.create_entry(file, event.origin, event.time_ns, self._config, event.time_ns)
        nexus.create_data(entry, event.radial, event.edges, event.unit)
        for profile in nexus.PROFILE_GROUPS:
            nexus.create_profile(entry, profile, event.radial.size)
        nexus.create_frame_profiles(entry, self._stored, event.radial.size, event.sums_shape)
        entry.create_dataset("complete_file", (), h5py.string_dtype("utf-8", NAME_BYTES))

    def _write(self, file: h5py.File) -> None:
        entry = file["entry"]
        for name, parts in self._new.items():
            nexus.append(entry[name], nexus.joined(parts))
        for profile in self._profiles.values():
            nexus.put_profile(entry, profile)
        nexus.put_data(entry, self._profiles.values())
        file.flush()

    def _give_up(self) -> None:
        """Let go of a file; keep it if it has rows."""
        with suppress(*HDF5_ERRORS):
            self.close()
        self._file = None
        if self._n_flushed:
            _log.warning("live file is left without a result", path=str(self.path), rows=self._n_flushed)
        elif self.name:
            self.path.unlink(missing_ok=True)
        self.name, self._n_flushed = "", 0


def _copy_rows(old: Path, new: Path, rows: Mapping[str, int]) -> int:
    """Copy the first rows of the tables of a live file into another one; the number of its frames."""
    with (
        h5py.File(old, "r", swmr=True, locking=False) as before,
        h5py.File(new, "r+", libver=LIBVER, locking=False) as file,
    ):
        for name in nexus.TABLES:
            for part in _first(before["entry"][name], rows.get(name, 0)):
                kept = _as_in(file["entry"][name], part)
                size_bytes = sum(values.nbytes for values in kept.values())
                reserve(file.id.get_vfd_handle(), file.id.get_filesize() + 2 * size_bytes)
                nexus.append(file["entry"][name], kept)
        return nexus.n_rows(file["entry/frames"])


def _as_in(table: h5py.Group, part: Columns) -> Columns:
    """Rows with all columns of a table and no others: the configuration may have changed what is stored."""
    length = len(next(iter(part.values())))
    return {
        name: part[name] if name in part else np.full((length, *column.shape[1:]), _nothing(column.dtype), column.dtype)
        for name, column in table.items()
    }


def _nothing(dtype: np.dtype[np.generic]) -> float:
    return nan if dtype.kind == "f" else 0


def _is_full(error: Exception) -> bool:
    """Whether there was no room on the disk: that may be mended."""
    return isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT)


def _first(table: h5py.Group, n_rows: int) -> Iterator[Columns]:
    """So many rows of a table, in parts."""
    for part in nexus.blocks(table):
        length = len(next(iter(part.values())))
        yield {column: values[:n_rows] for column, values in part.items()}
        n_rows -= min(n_rows, length)
