import json
import math
from contextlib import suppress

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ringwatch import wire
from ringwatch.errors import MalformedMessage

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
arrays = st.sampled_from(sorted(wire.DTYPES)).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
)
values = st.recursive(
    scalars | st.text(max_size=20) | arrays, lambda v: st.dictionaries(st.text(max_size=8), v, max_size=4)
)


def depth(value):
    return 1 + max(map(depth, value.values()), default=0) if isinstance(value, dict) else 0


messages = st.dictionaries(st.text(max_size=8), values, max_size=6).filter(lambda message: depth(message) <= 8)


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b and type(a) is type(b)


@settings(max_examples=40)
@given(messages)
def test_what_is_encoded_is_decoded_again(message):
    assert same(wire.decode(wire.encode(message)), message)


@given(st.binary(max_size=200))
def test_noise_is_either_a_map_or_malformed(payload):
    with suppress(MalformedMessage):
        assert isinstance(wire.decode(payload), dict)


@settings(max_examples=40)
@given(messages, st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_never_breaks_more_than_the_message(message, where, byte):
    payload = bytearray(wire.encode(message))
    payload[where % len(payload)] = byte
    with suppress(MalformedMessage):
        assert isinstance(wire.decode(bytes(payload)), dict)


def test_a_missing_number_is_nil_and_in_an_array_stays_nan():
    message = wire.decode(wire.encode({"a": float("nan"), "b": np.float64("inf"), "c": np.array([1.0, np.nan])}))
    assert message["a"] is None
    assert message["b"] is None
    assert math.isnan(message["c"][1])


def test_arrays_travel_little_endian_and_in_c_order():
    array = np.arange(6, dtype=">f8").reshape(2, 3).T
    raw = msgpack.unpackb(wire.encode({"a": array}))["a"]
    assert raw == {"dtype": "<f8", "shape": [3, 2], "data": array.astype("<f8").tobytes("C")}


def array(dtype="<f8", shape=(2,), data=bytes(16)):
    return {"a": {"dtype": dtype, "shape": shape, "data": data}}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ([1, 2], "not_a_map"),
        ({b"raw": 1}, "not_a_name"),
        ({"a": b"bytes"}, "not_plain"),
        ({"a": msgpack.Timestamp(1)}, "not_plain"),
        ({"a": msgpack.ExtType(5, b"x")}, "not_messagepack"),
        ({"a": list(range(2000))}, "not_messagepack"),
        (array("|O8"), "array_dtype"),
        (array("<U2"), "array_dtype"),
        (array(["<f8"]), "array_dtype"),
        (array(shape=[3]), "array_size"),
        (array(shape=[-2]), "array_shape"),
        (array(shape=[-1, 2]), "array_shape"),
        (array(shape=[True, 2]), "array_shape"),
        (array(shape="2"), "array_shape"),
        (array(shape=[2.0]), "array_shape"),
        (array(shape=[2**63]), "array_size"),
        (array(shape=[1] * 100), "array_size"),
        (array(shape=[0, 2**31, 2**31, 2**31], data=b""), "array_size"),
        (array(data=bytes(15)), "array_size"),
    ],
)
def test_hostile_messages_are_refused_with_their_reason(message, reason):
    with pytest.raises(MalformedMessage) as caught:
        wire.decode(msgpack.packb(message))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81",
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\x03\xff" * 100_000,
        b"\x81\xa1a" * 100_000,
        b"\x81\xa1a\xa1\xff",
        b"\x80\x80",
    ],
    ids=["empty", "cut", "long list", "lists in lists", "maps in maps", "no text", "two messages"],
)
def test_hostile_bytes_are_refused(payload):
    with pytest.raises(MalformedMessage, match="not_messagepack"):
        wire.decode(payload)


def test_too_deep_and_too_large_messages_are_refused(monkeypatch):
    nested = {}
    for _ in range(wire.MAX_DEPTH + 1):
        nested = {"a": nested}
    with pytest.raises(MalformedMessage, match="too_deep"):
        wire.decode(msgpack.packb(nested))
    monkeypatch.setattr(wire, "MAX_PAYLOAD_BYTES", 10)
    with pytest.raises(MalformedMessage, match="too_large"):
        wire.decode(bytes(11))


def test_a_detector_header_with_the_keys_of_an_array_is_no_array():
    header = {"dtype": "<f8", "shape": 4, "data": "text"}
    assert wire.decode(wire.encode({"header": header})) == {"header": header}


@settings(max_examples=40)
@given(messages)
def test_json_is_valid_and_has_lists_and_nulls(message):
    read = json.loads(wire.to_json(message))
    assert read.keys() == message.keys()


def test_json_of_arrays():
    text = wire.to_json({"a": np.array([[1.5, np.nan]]), "n": np.array([2**63], np.uint64), "f": np.float32(0.5)})
    assert json.loads(text) == {"a": [[1.5, None]], "n": [2**63], "f": 0.5}


def test_what_has_no_place_on_the_wire_is_an_error():
    for value in (object(), {1, 2}, np.array(["text"]), np.array([None])):
        with pytest.raises(TypeError):
            wire.encode({"a": value})
