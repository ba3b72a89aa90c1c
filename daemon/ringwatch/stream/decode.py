"""The parts of any ZeroMQ message in, one stream message out: protocols are told apart message by message."""

from collections.abc import Sequence

from ringwatch.errors import MalformedMessage
from ringwatch.messages import StreamMessage
from ringwatch.stream import fields, stins, v1, v2
from ringwatch.stream.fields import Payload

Decoded = StreamMessage | v1.HeaderContinuation

MAX_PARTS = 16
"""The longest message has nine."""

_JSON_STARTS = b"{ \t\r\n"
_CBOR_TAG = b"\xd9\xd9\xf7"
_CBOR_MAPS = range(0xA0, 0xC0)


def decode(parts: Sequence[Payload], received_s: float, channel: str = "threshold_1") -> Decoded | None:
    """Decode one message of any of the protocols.

    Parameters
    ----------
    parts
        The parts of one ZeroMQ message.
    received_s
        Monotonic time of arrival.
    channel
        Whose pixels are taken, where a message has several.

    Returns
    -------
        None for a message that is none of ours.

    Raises
    ------
    MalformedMessage, UnsupportedEncoding
    """
    if not 0 < len(parts) <= MAX_PARTS:
        raise MalformedMessage("parts", f"{len(parts)} parts; at most {MAX_PARTS}")
    start = bytes(parts[0][:3])
    if start and start[0] in _JSON_STARTS:
        first = fields.json_map(parts[0])
        if stins.speaks(first):
            return stins.decode(first, parts[1:], received_s, channel)
        return v1.decode(first, parts, received_s)
    if start == _CBOR_TAG or (start and start[0] in _CBOR_MAPS):
        # A copy: the CBOR decoder is ten times slower on anything but bytes.
        return v2.decode(bytes(parts[0]), received_s, channel)
    raise MalformedMessage("protocol", f"neither JSON nor a CBOR map: starts with {start!r}")
