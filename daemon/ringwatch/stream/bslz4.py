"""A compressed chunk as bytes in, the same chunk with a header that can be trusted out, before a decompressor sees it.

Bitshuffle-LZ4 and HDF5-LZ4 chunks share one frame: ``u64 BE decoded bytes | u32 BE block bytes | {u32 BE length |
LZ4 block}...``; bitshuffle leaves the last ``decoded % (8 x item)`` bytes raw at the end, without a length.
Four headers of bitshuffle chunks are about: the real one, none at all, twelve zeros, and block bytes 0 (LImA).

The decompressors follow the chain of block lengths within the chunk and refuse one that leaves it; what they believe is
the header, so the header is checked here.
"""

import struct

from ringwatch.errors import MalformedMessage
from ringwatch.stream.fields import Payload

BLOCK_BYTES = 8192
"""What every writer uses, and what stands in for an absent block size."""

MIN_BLOCK_BYTES = 1024
MAX_BLOCK_BYTES = 1 << 20

_HEADER = struct.Struct(">QI")


def normalise(payload: Payload, decoded_bytes: int, item_size: int) -> Payload:
    """Bring a bitshuffle-LZ4 chunk into the one layout that decompressors know.

    Parameters
    ----------
    payload
        The chunk as it came.
    decoded_bytes
        Size of the decoded pixels, from the message that came with the chunk; at least 1.
    item_size
        Bytes of one pixel.

    Returns
    -------
        The same object where its header is the real one, else a copy with a header.

    Raises
    ------
    MalformedMessage
        "header" where the chunk's own numbers disagree with the message.
    """
    payload, block_bytes = _with_header(payload, decoded_bytes)
    if not MIN_BLOCK_BYTES <= block_bytes <= MAX_BLOCK_BYTES or block_bytes % (8 * item_size):
        raise MalformedMessage("header", f"blocks of {block_bytes} bytes")
    return payload


def check_lz4hdf5(payload: Payload, decoded_bytes: int) -> None:
    """Check the header of an HDF5-LZ4 chunk (stream v2's "lz4"); raises like `normalise`."""
    decoded, block_bytes = _read_header(payload)
    if decoded != decoded_bytes or block_bytes < min(MIN_BLOCK_BYTES, decoded_bytes):
        raise MalformedMessage("header", f"{decoded} bytes in blocks of {block_bytes}, expected {decoded_bytes} bytes")


def _with_header(payload: Payload, decoded_bytes: int) -> tuple[Payload, int]:
    decoded, block_bytes = _read_header(payload)
    if decoded == decoded_bytes and block_bytes:
        return payload, block_bytes
    if decoded >> 32:
        # A real header starts with four zeros, a chunk without header with the length of its first block.
        return b"".join((_HEADER.pack(decoded_bytes, BLOCK_BYTES), payload)), BLOCK_BYTES
    if decoded not in (0, decoded_bytes):
        raise MalformedMessage("header", f"{decoded} bytes, expected {decoded_bytes}")
    block_bytes = block_bytes or BLOCK_BYTES
    return b"".join((_HEADER.pack(decoded_bytes, block_bytes), memoryview(payload)[_HEADER.size :])), block_bytes


def _read_header(payload: Payload) -> tuple[int, int]:
    if len(payload) < _HEADER.size:
        raise MalformedMessage("header", f"{len(payload)} bytes are no chunk")
    decoded, block_bytes = _HEADER.unpack_from(payload)
    return decoded, block_bytes
