"""Between HDF5 and the disk: space is taken before HDF5 needs it, and a complete file gets its name.

HDF5 2.0 crashes the whole process some time after a write has failed (seen with h5py 3.16 on a full disk), so it must
never be the one to find out that the disk is full or a quota is used up.
"""

import os
from collections.abc import Callable
from pathlib import Path

import h5py

SLACK_BYTES = 4 << 20
"""Room for what HDF5 writes besides data: headers, indices, the rest of a chunk, short texts."""


def file_image(fill: Callable[[h5py.File], None], libver: str | None = None) -> bytes:
    """The bytes of an HDF5 file, made in memory; for the small part of a file that is known when it begins."""
    with h5py.File("in memory", "w", libver=libver, driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        return bytes(file.id.get_file_image())


def reserve(descriptor: int, end_bytes: int) -> None:
    """Take the blocks of an open file up to ``end_bytes`` and some more.

    Raises
    ------
    OSError
        There is not enough space; the file is as it was.
    """
    os.posix_fallocate(descriptor, 0, end_bytes + SLACK_BYTES)


def refuse_existing(path: Path) -> None:
    """Raise FileExistsError early, before a large file is written for nothing."""
    if path.exists():
        raise FileExistsError(path)


def put_in_place(part: Path, path: Path) -> None:
    """Give a complete file its name, and put both on the disk.

    Raises
    ------
    FileExistsError
        Somebody else has the name; nothing was overwritten.
    """
    _sync(part)
    take_name(part, path)
    _sync(path.parent)


def put_in_place_of(part: Path, path: Path) -> None:
    """Give a complete file a name that an older one may have, which is gone then, and put both on the disk."""
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def take_name(part: Path, path: Path) -> None:
    """Give a file its name at one stroke, so that whoever is killed leaves all of it or nothing under that name.

    Raises
    ------
    FileExistsError
        Somebody else has the name; nothing was overwritten.
    """
    try:
        path.hardlink_to(part)
        part.unlink()
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: at two strokes
        path.touch(exist_ok=False)
        part.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
