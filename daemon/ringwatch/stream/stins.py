"""MAX IV's streaming receiver ("STINS") and PSI's array-1.0: JSON and blobs in, one stream message out.

A header, images, an end; of array-1.0 the images alone. Nothing but the header names the series, and that only by the
number of its message: an image belongs to the series that is open. Sizes are [rows, columns] here, or [channels, rows,
columns] with a blob for each channel. The pixels are a DECTRIS detector's chunk, with its header or without, or plain.
"""

import re
from collections.abc import Mapping, Sequence

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import MAX_FRAME_ID, Codec, Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream import fields, v1
from ringwatch.stream.fields import Fields, Payload

UNNUMBERED = -1
"""The number of a series that its messages do not tell."""

_HTYPES = ("header", "image", "array-1.0", "series_end")
_CODECS: Mapping[str, Codec] = {"": "none", "none": "none", "bslz4": "bslz4"}
_LAST_NUMBER = re.compile(r"\d{1,4}$")


def speaks(first: Fields) -> bool:
    """Whether the first part of a message is one of these protocols'."""
    return first.get("htype") in _HTYPES


def decode(first: Fields, rest: Sequence[Payload], received_s: float, channel: str) -> StreamMessage:
    """Decode one message.

    Parameters
    ----------
    first, rest
        The decoded first part of a ZeroMQ message, and the others; frames keep a reference to theirs.
    received_s
        Monotonic time of arrival.
    channel
        Whose blob is taken where there are several: the last number in its name counts them, from 1.

    Raises
    ------
    MalformedMessage, UnsupportedEncoding
    """
    match first["htype"]:
        case "header":
            return _start(first, rest)
        case "series_end":
            return SeriesEnd(UNNUMBERED)
    return _frame(first, rest, received_s, channel)


def _start(first: Fields, rest: Sequence[Payload]) -> SeriesStart:
    """The header's second part, where there is one, is a choice of the detector's configuration."""
    config = fields.json_map(rest[0]) if rest else {}
    return SeriesStart(
        series=fields.count(first, "msg_number") or 0,
        header=fields.scalars({**config, **first}),
        sample=fields.sample(config),
        **v1.configuration(config),
    )


def _frame(first: Fields, blobs: Sequence[Payload], received_s: float, channel: str) -> Frame:
    sizes = first.get("shape")
    if not isinstance(sizes, list) or len(sizes) not in (2, 3):
        raise MalformedMessage("shape", fields.brief(sizes))
    if len(blobs) != (sizes[0] if len(sizes) == 3 else 1):
        raise MalformedMessage("parts", f"an image of shape {sizes} in {len(blobs)} blobs")
    compression = fields.text(first, "compression")
    if compression not in _CODECS:
        raise UnsupportedEncoding(f"compression {fields.brief(compression)}", ("none", "bslz4"))
    return Frame(
        series=UNNUMBERED,
        frame=fields.whole(first, "frame", MAX_FRAME_ID),
        shape=fields.frame_shape(*sizes[-2:]),
        dtype=fields.pixel_type(first.get("type"), fields.PIXEL_TYPES_V2),
        codec=_CODECS[compression],
        data=_of_channel(blobs, channel),
        received_s=received_s,
    )


def _of_channel(blobs: Sequence[Payload], channel: str) -> Payload:
    number = _LAST_NUMBER.search(channel)
    if len(blobs) > 1 and (number is None or not 1 <= int(number[0]) <= len(blobs)):
        raise MalformedMessage("channel", f"{channel} is none of {len(blobs)} thresholds")
    return blobs[int(number[0]) - 1] if number and len(blobs) > 1 else blobs[0]
