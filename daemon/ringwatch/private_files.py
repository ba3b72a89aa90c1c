"""A file with a secret in, a sentence how to mend it out where anybody else may read or change it."""

import os
import stat
from pathlib import Path


def require_private(path: Path) -> None:
    """Raise ValueError unless the file belongs to this user (or to root) and nobody else may read or write it.

    Raises
    ------
    ValueError
        With the command that mends it.
    OSError
        There is no such file.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no file")
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"others may read {path}, which is to be a secret: chmod 600 {path}")
    if found.st_uid not in {os.geteuid(), 0}:
        raise ValueError(f"{path} belongs to user id {found.st_uid}: sudo chown {os.geteuid()} {path}")
