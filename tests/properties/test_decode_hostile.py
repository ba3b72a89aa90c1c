"""Whatever bytes come: a message, nothing, MalformedMessage or UnsupportedEncoding, and never anything else."""

import contextlib
import json
import struct
from collections.abc import Sequence

import cbor2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import Frame
from ringwatch.stream import v2
from ringwatch.stream.decode import decode
from ringwatch.stream.decompress import decode_into

# Eight pixels of two bytes as one LZ4 block of literals, framed as bitshuffle-LZ4.
BLOCK = bytes.fromhex("f001") + bytes(range(16))
CHUNK = struct.pack(">QII", 16, 8192, len(BLOCK)) + BLOCK
PIXELS = cbor2.CBORTag(40, [[2, 4], cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4", 2, CHUNK]))])
MASK = cbor2.CBORTag(40, [[2, 4], cbor2.CBORTag(70, bytes(32))])


def text(**said: object) -> bytes:
    return json.dumps(said).encode()


V1 = [
    [
        text(htype="dheader-1.0", series=1, header_detail="all"),
        text(nimages=3, ntrigger=1, x_pixels_in_detector=4, y_pixels_in_detector=2, photon_energy=8e3, frame_time=0.1),
        text(htype="dflatfield-1.0", shape=[4, 2], type="float32"),
        bytes(32),
        text(htype="dpixelmask-1.0", shape=[4, 2], type="uint32"),
        bytes(32),
        text(sample="Si"),
    ],
    [
        text(htype="dimage-1.0", series=1, frame=0),
        text(htype="dimage_d-1.0", shape=[4, 2], type="uint16", encoding="bs16-lz4<"),
        CHUNK,
        text(htype="dconfig-1.0"),
    ],
    [text(htype="dseries_end-1.0", series=1)],
]
STINS = [
    [text(htype="header", msg_number=7, filename="a"), text(nimages=3, photon_energy=8e3, sample="Si")],
    [text(htype="image", msg_number=8, frame=0, shape=[2, 4], type="uint16", compression="bslz4"), CHUNK],
    [text(htype="image", msg_number=8, frame=0, shape=[2, 2, 4], type="uint16", compression="bslz4"), CHUNK, CHUNK],
    [text(htype="series_end", msg_number=9)],
]
JSON = [*V1, *STINS]
V2 = [
    cbor2.CBORTag(55799, said)
    for said in (
        {"type": "start", "series_id": 1, "series_unique_id": "A", "image_size_x": 4, "image_size_y": 2}
        | {"pixel_mask": {"threshold_1": MASK}, "flatfield": {"threshold_1": PIXELS}, "user_data": {"sample": "Si"}},
        {"type": "image", "series_id": 1, "series_unique_id": "A", "image_id": 0, "data": {"threshold_1": PIXELS}},
        {"type": "end", "series_id": 1, "series_unique_id": "A"},
    )
]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.builds(cbor2.CBORTag, st.sampled_from([0, 2, 28, 29, 35, 40, 64, 69, 1040, 55799, 56500, 1 << 40]), inner)
    ),
    max_leaves=8,
)


def survives(parts: Sequence[bytes]) -> None:
    """Decode message and pixels."""
    with contextlib.suppress(MalformedMessage, UnsupportedEncoding):
        message = decode([memoryview(part) for part in parts], 0.0)
        if isinstance(message, Frame) and message.decoded_bytes < 1 << 20:
            decode_into(message, np.empty(message.shape, message.dtype))


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut short, with some bytes changed, with some bytes put in."""
    changed = bytearray(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])
    for _ in range(draw(st.integers(0, 4)) if changed else 0):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    position = draw(st.integers(0, len(changed)))
    changed[position:position] = draw(st.just(b"") | st.binary(max_size=8))
    return bytes(changed)


@st.composite
def replaced(draw: st.DrawFn, value: object) -> object:
    """One value, at any depth, is anything else or gone."""
    inside = value.value if isinstance(value, cbor2.CBORTag) else value
    if not isinstance(inside, dict | list) or not inside or draw(st.integers(0, 4)) == 0:
        return draw(ANYTHING)
    if isinstance(inside, dict):
        key = draw(st.sampled_from(sorted(inside)))
        changed: object = {**inside, key: draw(replaced(inside[key]))} if draw(st.booleans()) else _without(inside, key)
    else:
        index = draw(st.integers(0, len(inside) - 1))
        changed = [draw(replaced(item)) if i == index else item for i, item in enumerate(inside)]
    return cbor2.CBORTag(value.tag, changed) if isinstance(value, cbor2.CBORTag) else changed


def _without(fields: dict[str, object], key: str) -> dict[str, object]:
    return {k: v for k, v in fields.items() if k != key}


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_random_parts(parts: list[bytes]) -> None:
    survives(parts)


@given(st.binary(max_size=80))
def test_random_bytes_behind_the_right_first_byte(tail: bytes) -> None:
    for head in (b"{", b"\xd9\xd9\xf7", b"\xa3"):
        survives([head + tail])


@given(st.data(), st.sampled_from(JSON))
def test_damaged_parts_of_json(data: st.DataObject, parts: list[bytes]) -> None:
    position = data.draw(st.integers(0, len(parts) - 1))
    survives([data.draw(damaged(part)) if i == position else part for i, part in enumerate(parts)])


@given(st.data(), st.sampled_from(JSON))
def test_parts_of_json_lost_twice_or_in_another_order(data: st.DataObject, parts: list[bytes]) -> None:
    survives(data.draw(st.lists(st.sampled_from([*parts, *V1[1], *STINS[1]]), max_size=8)))


@given(st.data(), st.sampled_from(JSON))
def test_other_values_in_json(data: st.DataObject, parts: list[bytes]) -> None:
    def other(part: bytes) -> bytes:
        said = data.draw(replaced(json.loads(part))) if part[:1] == b"{" else None
        return part if said is None else json.dumps(said, default=str).encode()

    survives([other(part) for part in parts])


@pytest.mark.parametrize("message", V2, ids=["start", "image", "end"])
@given(st.data())
def test_damaged_messages_of_v2(message: cbor2.CBORTag, data: st.DataObject) -> None:
    survives([data.draw(damaged(cbor2.dumps(message)))])


@pytest.mark.parametrize("message", V2, ids=["start", "image", "end"])
@given(st.data())
def test_other_values_in_v2(message: cbor2.CBORTag, data: st.DataObject) -> None:
    survives([cbor2.dumps(data.draw(replaced(message)))])


@given(st.binary(max_size=200))
@example(CHUNK)
def test_random_chunks_of_every_codec(chunk: bytes) -> None:
    for codec in ("none", "lz4", "lz4hdf5", "bslz4"):
        with contextlib.suppress(MalformedMessage):
            decode_into(Frame(1, 0, (2, 4), np.dtype("u2"), codec, chunk), np.empty((2, 4), np.uint16))


@given(st.data())
def test_damaged_chunks(data: st.DataObject) -> None:
    chunk = data.draw(damaged(CHUNK))
    out = np.empty((2, 4), np.uint16)
    for codec in ("lz4", "lz4hdf5", "bslz4"):
        with contextlib.suppress(MalformedMessage):
            decode_into(Frame(1, 0, (2, 4), np.dtype("u2"), codec, chunk), out)


def test_the_undamaged_messages_are_decoded() -> None:
    for parts in JSON:
        assert decode(parts, 0.0) is not None
    for message in V2:
        assert v2.decode(cbor2.dumps(message), 0.0) is not None
