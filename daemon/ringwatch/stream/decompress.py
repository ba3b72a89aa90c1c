"""One encoded frame in, its pixels in the caller's array out; no allocation and no GIL while pixels are made.

The decompressor is DECTRIS' own. Its wheel exports a C function that writes straight into the array; that function is
no documented interface, so it is tried on known chunks at import, and the documented call stands in where it fails.
"""

import ctypes
from collections.abc import Callable

import dectris.compression
import lz4.block
import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import MalformedMessage
from ringwatch.messages import Codec, Frame
from ringwatch.stream import bslz4
from ringwatch.stream.fields import Payload

Pixels = NDArray[np.generic]
Decompressor = Callable[[Codec, Payload, Pixels], bool]
"""Writes a chunk of proven structure into the array; False where the chunk does not hold exactly that many bytes."""

_ALGORITHMS: dict[Codec, tuple[int, str]] = {"bslz4": (0, "bslz4"), "lz4hdf5": (1, "lz4")}
"""Number in the C interface and name in the Python one."""


def decode_into(frame: Frame, out: Pixels) -> None:
    """Decode a frame into an array.

    Parameters
    ----------
    frame
        As it came from the detector.
    out
        C-contiguous, of the frame's shape (rows, columns) and type. Its content is undefined after an error.

    Raises
    ------
    ValueError
        If C code cannot write into ``out``: that is the caller's mistake.
    MalformedMessage
        "slot" where the frame does not fit the array, "header", "size" or "lz4" where its data are wrong.
    """
    if not out.flags.carray:
        raise ValueError("frames are decoded into writable C-contiguous arrays only")
    if out.shape != frame.shape or out.dtype != frame.dtype:
        raise MalformedMessage("slot", f"{frame.shape} {frame.dtype} into {out.shape} {out.dtype}")
    if frame.codec == "none":
        _copy(frame.data, out)
    elif not _decompress(frame.codec, _proven(frame), out):
        raise MalformedMessage("lz4", f"{len(frame.data)} bytes of {frame.codec} do not hold {out.nbytes} bytes")
    if frame.big_endian:
        out.byteswap(inplace=True)


def _proven(frame: Frame) -> Payload:
    """The frame's data in the layout the decompressor knows, header checked."""
    if frame.codec == "bslz4":
        return bslz4.normalise(frame.data, frame.decoded_bytes, frame.dtype.itemsize)
    if frame.codec == "lz4hdf5":
        bslz4.check_lz4hdf5(frame.data, frame.decoded_bytes)
    return frame.data


def _copy(data: Payload, out: Pixels) -> None:
    if len(data) != out.nbytes:
        raise MalformedMessage("size", f"{len(data)} bytes instead of {out.nbytes}")
    out.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)


def _documented(codec: Codec, data: Payload, out: Pixels) -> bool:
    try:
        if codec == "lz4":
            pixels = lz4.block.decompress(data, uncompressed_size=out.nbytes)
        else:
            pixels = dectris.compression.decompress(data, _ALGORITHMS[codec][1], elem_size=out.itemsize)
    except (RuntimeError, lz4.block.LZ4BlockError):
        return False
    if len(pixels) != out.nbytes:
        return False
    _copy(pixels, out)
    return True


def _exported(library: ctypes.CDLL) -> Decompressor:
    """The C functions of DECTRIS' wheel; raises AttributeError where it does not export them."""
    framed, bare = library.compression_decompress_buffer, library.LZ4_decompress_safe
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    framed.restype, framed.argtypes = size, (ctypes.c_int, pointer, size, pointer, size, size)
    bare.restype, bare.argtypes = ctypes.c_int, (pointer, pointer, ctypes.c_int, ctypes.c_int)

    def decompress(codec: Codec, data: Payload, out: Pixels) -> bool:
        source = np.frombuffer(data, np.uint8)
        to, at = out.ctypes.data, source.ctypes.data
        if codec == "lz4":
            written = bare(at, to, source.nbytes, out.nbytes)
        else:
            written = framed(_ALGORITHMS[codec][0], to, out.nbytes, at, source.nbytes, out.itemsize)
        return bool(written == out.nbytes)

    return decompress


# Eight pixels of two bytes as one LZ4 block of 16 literals, bare and framed. Literals stand for themselves: what is
# tried is the interface, not LZ4.
_BLOCK = bytes.fromhex("f001") + bytes(range(1, 17))
_FRAMED = (16).to_bytes(8, "big") + (8192).to_bytes(4, "big") + len(_BLOCK).to_bytes(4, "big") + _BLOCK
_KNOWN: dict[Codec, bytes] = {"lz4": _BLOCK, "lz4hdf5": _FRAMED, "bslz4": _FRAMED}


def _agrees(decompress: Decompressor) -> bool:
    """Whether a decompressor makes the same pixels of the known chunks as the documented calls."""
    ours, theirs = np.zeros((2, 4), np.uint16), np.zeros((2, 4), np.uint16)
    return all(
        _documented(codec, chunk, theirs) and decompress(codec, chunk, ours) and np.array_equal(ours, theirs)
        for codec, chunk in _KNOWN.items()
    )


def _fastest() -> Decompressor:
    try:
        exported = _exported(ctypes.CDLL(dectris.compression.__file__))
    except (AttributeError, OSError):
        return _documented
    return exported if _agrees(exported) else _documented


_decompress = _fastest()
