"""DECTRIS stream v1 ("legacy"): the parts of one ZeroMQ message in, one stream message out.

A message is JSON parts and blobs in turns. A header comes whole or as two messages (the second holds the detector's
configuration), with arrays and a user's appendix or without. Sizes are [x, y] = [width, height] here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import MAX_FRAME_ID, Codec, Frame, Scalar, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream import fields
from ringwatch.stream.fields import Fields, Payload

_ENCODING = re.compile(r"(?:bs(8|16|32)-?)?(lz4)?([<>]?)")
_ENCODINGS = ("<", ">", "lz4<", "bs8-lz4<", "bs16-lz4<", "bs32-lz4<")
_BIT_DEPTHS = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.uint32)}


@dataclass(frozen=True, slots=True)
class HeaderContinuation:
    """What a header says beyond the number of its series: a message of its own, or the rest of the header's.

    ``values`` are attributes of SeriesStart.
    """

    header: Mapping[str, Scalar]
    values: Mapping[str, Any]

    def merged_into(self, start: SeriesStart) -> SeriesStart:
        """The start with what is said here."""
        return replace(start, header={**start.header, **self.header}, **self.values)


def decode(first: Fields, parts: Sequence[Payload], received_s: float) -> StreamMessage | HeaderContinuation | None:
    """Decode one message.

    Parameters
    ----------
    first
        Its decoded first part.
    parts
        All parts of the ZeroMQ message; frames keep a reference to theirs, nothing large is copied.
    received_s
        Monotonic time of arrival.

    Returns
    -------
        None for a message that is none of ours.

    Raises
    ------
    MalformedMessage, UnsupportedEncoding
    """
    htype = _htype(first)
    if htype is None:
        return _continuation(parts)
    if htype.startswith("dheader-"):
        return _start(first, parts[1:])
    if htype.startswith("dimage-"):
        return _frame(first, parts, received_s)
    if "series_end" in htype:
        return SeriesEnd(fields.whole(first, "series"))
    return None


def _start(first: Fields, rest: Sequence[Payload]) -> SeriesStart:
    detail = fields.text(first, "header_detail")
    start = SeriesStart(fields.whole(first, "series"), header={"header_detail": detail})
    # After a header without detail only a user's appendix could follow.
    return start if detail == "none" else _continuation(rest).merged_into(start)


def _frame(first: Fields, parts: Sequence[Payload], received_s: float) -> Frame:
    if len(parts) < 3:
        raise MalformedMessage("parts", f"an image in {len(parts)} parts")
    second = fields.json_map(parts[1])
    dtype = fields.pixel_type(second.get("type"))
    codec, big_endian = _codec(second.get("encoding"), dtype)
    return Frame(
        series=fields.whole(first, "series"),
        frame=fields.whole(first, "frame", MAX_FRAME_ID),
        shape=_shape(second),
        dtype=dtype,
        codec=codec,
        data=parts[2],
        received_s=received_s,
        big_endian=big_endian,
    )


def _codec(encoding: object, dtype: np.dtype[np.generic]) -> tuple[Codec, bool]:
    """Codec, and whether the samples are big-endian."""
    match = _ENCODING.fullmatch(encoding) if isinstance(encoding, str) else None
    bits, lz4, order = match.groups() if match else (None, None, None)
    if not encoding or match is None or (bits and not lz4):
        raise UnsupportedEncoding(f"encoding {fields.brief(encoding)}", _ENCODINGS)
    if bits and int(bits) != 8 * dtype.itemsize:
        raise MalformedMessage("encoding", f"{encoding} of {dtype} pixels")
    return "bslz4" if bits else "lz4" if lz4 else "none", order == ">"


def _continuation(parts: Sequence[Payload]) -> HeaderContinuation:
    """Configuration first, then arrays (a description and a blob each), then an appendix; each may be absent."""
    if not parts:
        return HeaderContinuation({}, {})
    config = fields.json_map(parts[0])
    values = configuration(config)
    rest = iter(parts[1:])
    for part in rest:
        description = _description(part)
        htype = _htype(description)
        if htype is None:
            values["sample"] = fields.sample(description)
        else:
            values.update(_array(htype, description, next(rest, b"")))
    return HeaderContinuation(fields.scalars(config), values)


def _description(part: Payload) -> Fields:
    """A part as a JSON map, empty where it is none: an appendix may be anything."""
    try:
        return fields.json_map(part)
    except MalformedMessage:
        return {}


def _htype(description: Fields) -> str | None:
    return fields.text(description, "htype") if "htype" in description else None


def configuration(config: Fields) -> dict[str, Any]:
    """Attributes of SeriesStart from a detector's configuration, by its own names."""
    images, triggers = fields.count(config, "nimages"), fields.count(config, "ntrigger") or 1
    return {
        "shape": fields.header_shape(config, "y_pixels_in_detector", "x_pixels_in_detector"),
        "dtype": _BIT_DEPTHS.get(fields.count(config, "bit_depth_image") or 0),
        "frames_expected": images * triggers if images and images * triggers < MAX_FRAME_ID else None,
        "frame_time_s": fields.positive(config, "frame_time"),
        "energy_eV": fields.positive(config, "photon_energy"),
        "pixel_size_m": fields.pixel_size_m(config, "y_pixel_size", "x_pixel_size"),
        "saturation": fields.count(config, "countrate_correction_count_cutoff"),
        "flatfield_applied": fields.flag(config, "flatfield_correction_applied"),
    }


def _array(htype: str, description: Fields, blob: Payload) -> dict[str, Any]:
    """The two arrays of use; the count-rate table is none: counts are corrected before they are sent."""
    if "flatfield" in htype:
        return {"flatfield": _pixels(description, blob, "float32")}
    if "pixelmask" in htype:
        return {"pixel_mask": _pixels(description, blob, "uint32") != 0}
    return {}


def _pixels(description: Fields, blob: Payload, dtype: str) -> NDArray[Any]:
    shape = _shape(description)
    if description.get("type") != dtype or len(blob) != 4 * shape[0] * shape[1]:
        raise MalformedMessage("array", f"{len(blob)} bytes are no {shape} of {dtype}")
    return np.frombuffer(blob, np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _shape(description: Fields) -> tuple[int, int]:
    """(rows, columns) from [x, y] or [x, y, 1]."""
    sizes = description.get("shape")
    if not isinstance(sizes, list) or len(sizes) not in (2, 3) or sizes[2:] not in ([], [1]):
        raise MalformedMessage("shape", fields.brief(sizes))
    return fields.frame_shape(sizes[1], sizes[0])
