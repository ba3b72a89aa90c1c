"""MessagePack and JSON of published messages: maps with numpy arrays in, bytes out, and back with every size checked.

An array travels as ``{"dtype": "<f8", "shape": [n], "data": bytes}``: little endian, C order. A missing number is nil.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import MalformedMessage

SCHEMA = 1

DTYPES = frozenset({"<f8", "<f4", "<i8", "<u8", "<i4", "<u4", "<i2", "<u2", "|i1", "|u1"})
MAX_PAYLOAD_BYTES = 64 << 20
MAX_ITEMS = 1024
"""Entries of one list or map. The reader of MessagePack reserves lists before it has seen their entries."""
MAX_DEPTH = 8

_ARRAY_KEYS = {"dtype", "shape", "data"}


def encode(message: Mapping[str, Any]) -> bytes:
    """Pack a message. NaN and infinite scalars become nil; inside arrays they stay what they are.

    Raises
    ------
    TypeError
        The message holds something that has no place on the wire.
    """
    packed: bytes = msgpack.packb(_without_nan(message), default=_array_to_map)
    return packed


def decode(payload: bytes) -> dict[str, Any]:
    """Unpack a message from a stranger. Its arrays are read-only views into ``payload``, native numpy types.

    Raises
    ------
    MalformedMessage
        Not a MessagePack map, too large, too deep, or an array whose shape does not fit its data.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedMessage("too_large", f"{len(payload)} bytes, at most {MAX_PAYLOAD_BYTES}")
    try:
        message = msgpack.unpackb(payload, ext_hook=_refuse, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise MalformedMessage("not_messagepack", str(error)) from error
    if not isinstance(message, dict):
        raise MalformedMessage("not_a_map", type(message).__name__)
    return {_key(key): _restored(value, MAX_DEPTH) for key, value in message.items()}


def to_json(message: Mapping[str, Any]) -> str:
    """One line of JSON; arrays become lists, NaN becomes null."""
    return json.dumps(_without_nan(message), default=_array_to_list, allow_nan=False, separators=(",", ":"))


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _array_to_map(value: Any) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} has no place in a published message")
    array = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
    if array.dtype.str not in DTYPES:
        raise TypeError(f"arrays of {array.dtype} have no place in a published message")
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes()}


def _array_to_list(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} has no place in a published message")
    if value.dtype.kind != "f":
        return value.tolist()
    values = value.astype(object)
    values[~np.isfinite(value)] = None
    return values.tolist()


def _refuse(code: int, data: bytes) -> None:
    raise ValueError(f"extension type {code} of {len(data)} bytes")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise MalformedMessage("not_a_name", f"a key of type {type(key).__name__}")
    return key


def _restored(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list) and depth == 0:
        raise MalformedMessage("too_deep", f"more than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [_restored(item, depth - 1) for item in value]
    if not isinstance(value, dict):
        return _plain(value)
    if value.keys() == _ARRAY_KEYS and isinstance(value["data"], bytes):
        return _array(value["dtype"], value["shape"], value["data"])
    return {_key(key): _restored(item, depth - 1) for key, item in value.items()}


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise MalformedMessage("not_plain", f"a bare {type(value).__name__}")


def _array(dtype: object, shape: object, data: bytes) -> NDArray[Any]:
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise MalformedMessage("array_dtype", repr(dtype)[:40])
    if not isinstance(shape, list) or not all(map(_is_length, shape)):
        raise MalformedMessage("array_shape", repr(shape)[:80])
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise MalformedMessage("array_size", f"{dtype} {shape} in {len(data)} bytes"[:80]) from error


def _is_length(length: object) -> bool:
    return isinstance(length, int) and not isinstance(length, bool) and length >= 0
