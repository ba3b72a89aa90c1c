"""A path in, out comes whether it is ours: of all daemons on a machine one has it, until it ends, however it ends."""

import hashlib
import os
import socket
import weakref
from pathlib import Path


class Claim:
    """What one daemon has, and no other: an abstract socket, which leaves no file and goes with the process.

    Parameters
    ----------
    path
        What is claimed; it need not exist.

    Attributes
    ----------
    is_ours
        Nobody had it before. It is let go of when the claim is collected.
    """

    def __init__(self, path: Path) -> None:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        held = socket.socket(socket.AF_UNIX)
        weakref.finalize(self, held.close)
        try:
            held.bind(f"\0ringwatch-{name}")
        except OSError:
            held.close()
        self.is_ours = held.fileno() >= 0
