"""The first bytes of a file in, whether its writer has closed it out, as far as HDF5 says so. Nothing is opened."""

import struct
from pathlib import Path

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_EIGHT_BYTES = 8
_BEING_WRITTEN = 0b101
"""Flags of the newer formats: open for writing, or for writing beside readers."""
_SUPERBLOCK_BYTES = 64


def may_be_complete(path: Path, size_bytes: int) -> bool:
    """False for an HDF5 file that its writer has not closed: it says that it is being written, or ends elsewhere.

    Other files, and HDF5 files with a block of the user's before the data, say nothing: True.
    """
    with path.open("rb") as file:
        block = file.read(_SUPERBLOCK_BYTES)
    if not block.startswith(_SIGNATURE):
        return True
    if len(block) < _SUPERBLOCK_BYTES:
        return False
    version = block[8]
    if version in (0, 1):
        return block[13] != _EIGHT_BYTES or _address(block, 40 + 4 * version) == size_bytes
    if version == 3 and block[11] & _BEING_WRITTEN:
        return False
    return block[9] != _EIGHT_BYTES or _address(block, 28) == size_bytes


def _address(block: bytes, offset: int) -> int:
    """Where the file ends, by its own account."""
    (address,) = struct.unpack_from("<Q", block, offset)
    return int(address)
