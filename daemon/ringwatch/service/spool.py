"""Rows of a table in, the same rows out again later: in between they lie on the disk, not in memory."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from ringwatch.publish.nexus import Columns, joined

_PARTS = 64
"""So many parts come out as one."""


class Spool:
    """Parts of a table, in a file without a name, which is gone with this object.

    Parameters
    ----------
    folder
        On a disk that has room for them.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full; also while adding.
    """

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the object
        self._names: tuple[str, ...] = ()
        self._n_parts = 0

    def add(self, columns: Columns) -> None:
        """Take rows; all parts have the same columns."""
        self._names = tuple(columns)
        for values in columns.values():
            np.save(self._file, values, allow_pickle=False)
        self._n_parts += 1

    def __iter__(self) -> Iterator[Columns]:
        """All rows, in the order in which they came, some parts joined."""
        self._file.seek(0)
        parts = self._parts()
        while some := list(islice(parts, _PARTS)):
            yield joined(some)

    def clear(self) -> None:
        """Forget all rows."""
        self._file.seek(0)
        self._file.truncate()
        self._n_parts = 0

    def close(self) -> None:
        """Let go of the disk space."""
        self._file.close()

    def _parts(self) -> Iterator[Columns]:
        for _ in range(self._n_parts):
            yield {name: np.load(self._file, allow_pickle=False) for name in self._names}
