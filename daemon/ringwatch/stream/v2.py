"""DECTRIS stream v2 and Jungfraujoch: one CBOR map in, one stream message out. Compressed pixels stay compressed.

Arrays are RFC 8746's: tag 40 (or 1040, column-major) around [sizes, typed array], sizes being [rows, columns]; the
typed array's bytes may be compressed (DECTRIS' tag 56500). No tag needs a hook: the decoder leaves them as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import MAX_FRAME_ID, Codec, Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream import fields
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.fields import Fields

_TYPES = {
    64: "u1", 65: ">u2", 66: ">u4", 68: "u1", 69: "<u2", 70: "<u4",
    72: "i1", 73: ">i2", 74: ">i4", 77: "<i2", 78: "<i4",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip
_ROW_MAJOR, _COLUMN_MAJOR, _COMPRESSED = 40, 1040, 56500
_STRINGS, _WITHOUT_END = (2, 3), 31
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
MAX_ITEMS = 60_000
"""The largest start has a few hundred, and what a user added; Jungfraujoch's images list up to 2000 spots."""
DEFAULT_CHANNEL, UNUSABLE_CHANNEL = "threshold_1", "difference"
_CODECS: dict[str, Codec] = {"bslz4": "bslz4", "lz4": "lz4hdf5"}


def _as_it_is(value: object, _immutable: object) -> object:
    return value


# Dates, numbers of any size, regular expressions, e-mails, UUIDs and addresses are of no use here: decoding them only
# gives a sender more ways to make a message fail or slow.
_LEFT_ALONE: dict[int, Callable[[Any, bool], Any]] = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 30, 35, 36, 37, 52, 54, 100, 258, 260, 261, 1004, 43000), _as_it_is
)


@dataclass(frozen=True, slots=True)
class _Array:
    """A two-dimensional array as it is on the wire; ``shape`` is that of the bytes in memory."""

    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    codec: Codec
    data: bytes
    column_major: bool


def decode(message: bytes, received_s: float, channel: str = DEFAULT_CHANNEL) -> StreamMessage | None:
    """Decode one message.

    Parameters
    ----------
    message
        The one part of a ZeroMQ message.
    received_s
        Monotonic time of arrival.
    channel
        Whose pixels are taken. In place of the default one also the only one.

    Returns
    -------
        None for a message that is none of ours.

    Raises
    ------
    MalformedMessage, UnsupportedEncoding
    """
    said = _map(message)
    match said.get("type"):
        case "start":
            return _start(said, channel)
        case "image":
            return _frame(said, channel, received_s)
        case "end":
            return SeriesEnd(fields.whole(said, "series_id"), fields.text(said, "series_unique_id"))
    return None


def _map(message: bytes) -> Fields:
    _require_few_items(message)
    try:
        said = cbor2.loads(message, semantic_decoders=_LEFT_ALONE, strict_hashable_types=True)
    except cbor2.CBORDecodeError as error:
        raise MalformedMessage("cbor", str(error)[:200]) from error
    if not isinstance(said, Mapping):
        raise MalformedMessage("cbor", f"a map is needed, not {type(said).__name__}")
    return said


def _require_few_items(message: bytes) -> None:
    """Refuse what would grow to many times its size: an empty list is one byte here and sixty in memory.

    Items follow one another on the wire however they are nested, so they are counted without being decoded.
    """
    position = items = 0
    while position < len(message):
        items += 1
        if items > MAX_ITEMS:
            raise MalformedMessage("cbor", f"more than {MAX_ITEMS} items")
        major, short = divmod(message[position], 32)
        position += 1
        argument = message[position : position + _ARGUMENT_BYTES.get(short, 0)]
        position += len(argument)
        if major in _STRINGS and short < _WITHOUT_END:
            position += int.from_bytes(argument, "big") if argument else short


def _start(said: Fields, channel: str) -> SeriesStart:
    dtype = said.get("image_dtype")
    mask, flat = (_header_array(said.get(key), channel) for key in ("pixel_mask", "flatfield"))
    threshold = _chosen(said.get("threshold_energy"), channel)
    return SeriesStart(
        series=fields.whole(said, "series_id"),
        unique_id=fields.text(said, "series_unique_id"),
        header=fields.scalars(said if threshold is None else {**said, "threshold_energy": threshold}),
        shape=fields.header_shape(said, "image_size_y", "image_size_x"),
        dtype=fields.PIXEL_TYPES_V2.get(dtype) if isinstance(dtype, str) else None,
        frames_expected=fields.count(said, "number_of_images"),
        frame_time_s=fields.positive(said, "frame_time"),
        energy_eV=fields.positive(said, "incident_energy"),
        pixel_size_m=fields.pixel_size_m(said, "pixel_size_y", "pixel_size_x"),
        saturation=fields.count(said, "saturation_value"),
        dummy=fields.integer(said, "error_value"),
        pixel_mask=None if mask is None else mask != 0,
        flatfield=None if flat is None else flat.astype(np.float32, copy=False),
        flatfield_applied=fields.flag(said, "flatfield_enabled"),
        sample=fields.sample(said.get("user_data")),
        problem=_absence(_names(said.get("channels")), channel),
    )


def _frame(said: Fields, channel: str, received_s: float) -> Frame:
    array = _array(_of_channel(said.get("data"), channel))
    if array.column_major:
        raise UnsupportedEncoding("column-major frames", ("row-major frames",))
    return Frame(
        series=fields.whole(said, "series_id"),
        frame=fields.whole(said, "image_id", MAX_FRAME_ID),
        shape=array.shape,
        dtype=fields.pixel_type(array.dtype.name, fields.PIXEL_TYPES_V2),
        codec=array.codec,
        data=array.data,
        unique_id=fields.text(said, "series_unique_id"),
        received_s=received_s,
        big_endian=array.dtype.byteorder == ">",
    )


def _of_channel(channels: object, wanted: str) -> object:
    if not isinstance(channels, Mapping):
        raise MalformedMessage("fields", "a map of channels is needed")
    if (value := _chosen(channels, wanted)) is None:
        raise MalformedMessage("channel", _absence(_names(channels), wanted) or "an image without pixels")
    return value


def _names(channels: object) -> list[str]:
    return [name for name in channels if isinstance(name, str)] if isinstance(channels, Mapping | list | tuple) else []


def _choice(names: Sequence[str], wanted: str) -> str | None:
    """The channel that is taken."""
    if wanted in names:
        return wanted
    if wanted == DEFAULT_CHANNEL and len(names) == 1 and names[0] != UNUSABLE_CHANNEL:
        return names[0]
    # One make of simulators announces "1" and sends "threshold_1".
    return next((name for name in names if wanted.endswith(f"_{name}")), None)


def _absence(names: Sequence[str], wanted: str) -> str:
    """That none of the channels is wanted, as a sentence."""
    if not names or _choice(names, wanted) is not None:
        return ""
    sent = fields.brief(", ".join(names))
    return f"stream.channel = {wanted!r}, but the detector sends only {sent}: name one of these, or enable it there"


def _chosen(channels: object, wanted: str) -> object:
    """What a header says of the channel, None where it says nothing."""
    name = _choice(_names(channels), wanted)
    return channels[name] if isinstance(channels, Mapping) and name is not None else None


def _header_array(channels: object, channel: str) -> NDArray[Any] | None:
    """A mask or a flat; None where it is not sent as an array (some simulators send base64 text)."""
    value = _chosen(channels, channel)
    return _pixels(_array(value)) if isinstance(value, cbor2.CBORTag) else None


def _array(value: object) -> _Array:
    outer = _tag(value)
    if outer.tag not in (_ROW_MAJOR, _COLUMN_MAJOR):
        raise MalformedMessage("array", f"tag {outer.tag} is no array of two dimensions")
    sizes, typed = _items(outer.value, 2)
    shape = fields.frame_shape(*_items(sizes, 2))
    inner = _tag(typed)
    if inner.tag not in _TYPES:
        raise UnsupportedEncoding(f"typed array {inner.tag}", tuple(map(str, _TYPES)))
    dtype = np.dtype(_TYPES[inner.tag])
    codec, data = _encoded(inner.value, dtype.itemsize)
    column_major = outer.tag == _COLUMN_MAJOR
    return _Array(shape[::-1] if column_major else shape, dtype, codec, data, column_major)


def _encoded(value: object, item_size: int) -> tuple[Codec, bytes]:
    """Codec and bytes of a byte string that may be compressed."""
    if isinstance(value, bytes):
        return "none", value
    compressed = _tag(value)
    algorithm, size, data = _items(compressed.value, 3)
    if compressed.tag != _COMPRESSED or not isinstance(data, bytes):
        raise MalformedMessage("array", f"tag {compressed.tag} around {type(data).__name__} is no byte string")
    if not isinstance(algorithm, str) or algorithm not in _CODECS:
        raise UnsupportedEncoding(f"compression {fields.brief(algorithm)}", ("bslz4", "lz4"))
    if algorithm == "bslz4" and size != item_size:
        raise MalformedMessage("array", f"bslz4 of {fields.brief(size)} bytes an item in an array of {item_size}")
    return _CODECS[algorithm], data


def _tag(value: object) -> cbor2.CBORTag:
    if not isinstance(value, cbor2.CBORTag):
        raise MalformedMessage("array", f"a tag is needed, not {type(value).__name__}")
    return value


def _items(value: object, number: int) -> Sequence[object]:
    if not isinstance(value, list | tuple) or len(value) != number:
        raise MalformedMessage("array", f"{number} items are needed, not {fields.brief(value)}")
    return value


def _pixels(array: _Array) -> NDArray[Any]:
    """The decoded array, native byte order."""
    native = array.dtype.newbyteorder("=")
    pixels = np.empty(array.shape, native)
    big_endian = array.dtype.byteorder == ">"
    decode_into(Frame(0, 0, array.shape, native, array.codec, array.data, big_endian=big_endian), pixels)
    return pixels.T if array.column_major else pixels
