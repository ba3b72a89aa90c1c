import struct

import numpy as np
import pytest
from wire import bslz4, lz4hdf5, pixels

from ringwatch.errors import MalformedMessage
from ringwatch.messages import Codec, Frame
from ringwatch.stream.bslz4 import check_lz4hdf5, normalise
from ringwatch.stream.decompress import decode_into

IMAGE = pixels()
CHUNK = bslz4(IMAGE)


def reason(chunk: bytes, decoded_bytes: int = IMAGE.nbytes, item_size: int = 2) -> str:
    with pytest.raises(MalformedMessage) as caught:
        normalise(chunk, decoded_bytes, item_size)
    return caught.value.reason


def reason_of_decoding(chunk: bytes, codec: Codec = "bslz4") -> str:
    with pytest.raises(MalformedMessage) as caught:
        decode_into(Frame(1, 0, IMAGE.shape, IMAGE.dtype, codec, chunk), np.empty_like(IMAGE))
    return caught.value.reason


def test_a_real_header_is_handed_on_without_a_copy() -> None:
    assert normalise(CHUNK, IMAGE.nbytes, 2) is CHUNK
    view = memoryview(CHUNK)
    assert normalise(view, IMAGE.nbytes, 2) is view


@pytest.mark.parametrize(
    "chunk",
    [CHUNK[12:], bytes(12) + CHUNK[12:], CHUNK[:8] + bytes(4) + CHUNK[12:], bytes(8) + CHUNK[8:]],
    ids=["absent", "zeroed", "block size 0", "decoded size 0"],
)
def test_the_other_layouts_become_the_real_one(chunk: bytes) -> None:
    assert normalise(chunk, IMAGE.nbytes, 2) == CHUNK


def test_a_chunk_without_header_may_begin_with_a_very_short_block() -> None:
    chunk = bslz4(0 * IMAGE)
    assert int.from_bytes(chunk[12:16], "big") < 256
    assert normalise(chunk[12:], IMAGE.nbytes, 2) == chunk


def test_other_block_sizes_are_kept() -> None:
    chunk = bslz4(IMAGE, block_bytes=2048)
    assert normalise(chunk, IMAGE.nbytes, 2) is chunk


@pytest.mark.parametrize("cut", [0, 3, 11])
def test_a_chunk_shorter_than_a_header_is_refused(cut: int) -> None:
    assert reason(CHUNK[:cut]) == "header"


@pytest.mark.parametrize("cut", [12, 14, 100, len(CHUNK) - 1])
def test_a_chunk_cut_short_is_refused_by_the_decompressor(cut: int) -> None:
    assert reason_of_decoding(CHUNK[:cut]) == "lz4"


def test_a_chunk_with_too_much_behind_its_raw_rest_is_refused() -> None:
    assert IMAGE.nbytes % 16
    assert reason_of_decoding(CHUNK + b"\0") == "lz4"


def test_a_chunk_of_another_size_than_announced_is_refused() -> None:
    assert reason(CHUNK, IMAGE.nbytes + 2) == "header"


@pytest.mark.parametrize("block_bytes", [8, 8190, 1 << 24, 0xFFFFFFFF])
def test_absurd_block_sizes_are_refused(block_bytes: int) -> None:
    assert reason(CHUNK[:8] + struct.pack(">I", block_bytes) + CHUNK[12:]) == "header"


def test_a_block_length_beyond_the_end_is_refused() -> None:
    assert reason_of_decoding(CHUNK[:12] + b"\xff\xff\xff\xff" + CHUNK[16:]) == "lz4"


def test_the_header_of_lz4hdf5_is_checked_too() -> None:
    chunk = lz4hdf5(IMAGE)
    check_lz4hdf5(chunk, IMAGE.nbytes)
    for wrong in (bytes(12) + chunk[12:], chunk[:8] + bytes(4) + chunk[12:], b""):
        with pytest.raises(MalformedMessage):
            check_lz4hdf5(wrong, IMAGE.nbytes)
    for wrong in (chunk[:-1], chunk[:20]):
        assert reason_of_decoding(wrong, "lz4hdf5") == "lz4"
