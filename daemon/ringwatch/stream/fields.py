"""From a decoded JSON or CBOR map to checked values: what a header says wrongly is None, what a frame lacks raises."""

import json
import math
from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import Scalar

Payload = bytes | memoryview
Fields = Mapping[str, object]

MAX_PIXELS = 1 << 26
MAX_JSON_BYTES = 1 << 20
MAX_SCALARS = 256
MAX_TEXT = 1024
MAX_WHOLE = 1 << 63

PIXEL_TYPES = {str(t): t for t in map(np.dtype, ("u1", "u2", "u4", "i1", "i2", "i4"))}
"""The types of integer pixels that can be reduced, by name."""

PIXEL_TYPES_V2 = {**PIXEL_TYPES, "float32": np.dtype("f4")}
"""Those of stream v2, which knows floats, too."""

SAMPLE_KEYS = ("sample", "sample_name")
"""Where users put the sample's name in the header's user data: our word, and Jungfraujoch's."""


# ----------------------------------------------------------------------------------------- what a message must have


def json_map(text: Payload) -> Fields:
    """Parse a JSON object; raises MalformedMessage("json")."""
    value = _json_value(text)
    if not isinstance(value, dict):
        raise MalformedMessage("json", f"an object is needed, not {type(value).__name__}")
    return value


def whole(fields: Fields, key: str, end: int = MAX_WHOLE) -> int:
    """The whole number in [0, end) under ``key``; raises MalformedMessage("fields")."""
    value = fields.get(key)
    if not _is_whole(value) or not 0 <= value < end:
        raise MalformedMessage("fields", f"{key} = {brief(value)}: a whole number from 0 to {end - 1} is needed")
    return value


def frame_shape(rows: object, columns: object) -> tuple[int, int]:
    """Shape of a frame of at most 2^26 pixels; raises MalformedMessage("shape")."""
    if not (_is_whole(rows) and _is_whole(columns) and rows > 0 < columns and rows * columns <= MAX_PIXELS):
        raise MalformedMessage("shape", f"{brief(rows)} x {brief(columns)} pixels; at most {MAX_PIXELS} in all")
    return rows, columns


def pixel_type(name: object, among: Mapping[str, np.dtype[np.generic]] = PIXEL_TYPES) -> np.dtype[np.generic]:
    """Type of the pixels from a name such as uint16; raises UnsupportedEncoding."""
    if not isinstance(name, str) or name not in among:
        raise UnsupportedEncoding(f"pixel type {brief(name)}", tuple(among))
    return among[name]


def brief(value: object) -> str:
    """A value for an error message, cut to a readable length."""
    shown = repr(value[:80] if isinstance(value, str | bytes) else value) if _is_small(value) else type(value).__name__
    return shown[:80]


# ------------------------------------------------------------------------------------------- what a header may have


def text(fields: Fields, key: str) -> str:
    """A short text, empty where there is none."""
    value = fields.get(key)
    return _encodable(value[:MAX_TEXT]) if isinstance(value, str) else ""


def count(fields: Fields, key: str) -> int | None:
    """A whole number above zero."""
    value = fields.get(key)
    return value if _is_whole(value) and 0 < value < MAX_WHOLE else None


def integer(fields: Fields, key: str) -> int | None:
    """A whole number that a pixel of 32 bits may hold, negative ones too."""
    value = fields.get(key)
    return value if _is_whole(value) and -(1 << 31) <= value < 1 << 32 else None


def positive(fields: Fields, key: str) -> float | None:
    """A finite number above zero."""
    value = fields.get(key)
    return float(value) if _is_number(value) and value > 0 else None


def flag(fields: Fields, key: str) -> bool | None:
    """True or false; old firmware writes 1 and 0."""
    value = fields.get(key)
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def pixel_size_m(fields: Fields, rows_key: str, columns_key: str) -> tuple[float, float] | None:
    """(rows, columns), where both are there."""
    rows, columns = positive(fields, rows_key), positive(fields, columns_key)
    return None if rows is None or columns is None else (rows, columns)


def header_shape(fields: Fields, rows_key: str, columns_key: str) -> tuple[int, int] | None:
    """Shape of the frames, where both sizes are there; raises MalformedMessage("shape") if it is too large."""
    rows, columns = count(fields, rows_key), count(fields, columns_key)
    return None if rows is None or columns is None else frame_shape(rows, columns)


def sample(user_data: object) -> str | None:
    """The sample's name in a header's user data: a map or the JSON text of one. Any other user data is no mistake."""
    if isinstance(user_data, str | bytes | memoryview):
        try:
            user_data = _json_value(user_data)
        except MalformedMessage:
            return None
    if not isinstance(user_data, Mapping):
        return None
    return next((name for key in SAMPLE_KEYS if (name := text(user_data, key))), None)


def scalars(fields: Fields) -> dict[str, Scalar]:
    """The header's scalars, bounded in number and size; all else is left out."""
    kept: dict[str, Scalar] = {}
    for key, value in fields.items():
        if len(kept) < MAX_SCALARS and isinstance(key, str) and len(key) <= MAX_TEXT and _is_scalar(value):
            kept[_encodable(key)] = _encodable(value) if isinstance(value, str) else value
    return kept


# --------------------------------------------------------------------------------------------------------- helpers


def _json_value(text: Payload | str) -> object:
    if len(text) > MAX_JSON_BYTES:
        raise MalformedMessage("json", f"{len(text)} bytes; at most {MAX_JSON_BYTES}")
    try:
        return json.loads(text if isinstance(text, str) else bytes(text))
    except (ValueError, RecursionError) as error:
        raise MalformedMessage("json", str(error)[:200]) from error


def _encodable(value: str) -> str:
    """Text as it can be published: JSON may hold halves of characters (surrogates), UTF-8 may not."""
    return value.encode(errors="replace").decode()


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    if _is_whole(value):
        return -MAX_WHOLE <= value < MAX_WHOLE
    return isinstance(value, float) and math.isfinite(value)


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return value is None or isinstance(value, bool) or _is_number(value)


def _is_small(value: object) -> bool:
    return isinstance(value, str | bytes) or _is_scalar(value)
