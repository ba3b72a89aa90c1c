"""Messages that no detector should send, each with the fate it is to have: what the daemon's tests throw at it.

Each builder is told the running series and makes one message that looks as much like one of that series as can be.
"""

import json
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import cbor2
import numpy as np
from numpy.typing import NDArray
from tests.stream import wire

Parts = list[bytes]


class Running(NamedTuple):
    """The series that a message is to disturb, and the number of a frame that it has not sent."""

    series: int
    unique_id: str
    frame: int
    image: NDArray[Any]

    def v1(self, blob: bytes, encoding: str = "bs32-lz4<", **second: object) -> Parts:
        return wire.v1_image(self.image, self.frame, self.series, encoding, blob, **second)

    def v1_first(self, **first: object) -> Parts:
        said = {"htype": "dimage-1.0", "series": self.series, "frame": self.frame} | first
        return [wire.text(**said), *self.v1(wire.bslz4(self.image))[1:]]

    def v2(self, data: object, **said: object) -> Parts:
        named = {"series_id": self.series, "series_unique_id": self.unique_id} | said
        return [wire.v2_image({"threshold_1": data}, self.frame, **named)]

    def v2_pixels(self, blob: object, algorithm: object = "bslz4", size: object = 4) -> Parts:
        return self.v2(wire.array(self.image, [algorithm, size, blob]))

    def v2_array(self, sizes: object, typed_tag: int = 70, data: object = b"", tag: int = 40) -> Parts:
        return self.v2(cbor2.CBORTag(tag, [sizes, cbor2.CBORTag(typed_tag, data)]))

    @property
    def chunk(self) -> bytes:
        return wire.bslz4(self.image)


class Hostile(NamedTuple):
    """A message and its fate: the reason in ``Fates.malformed``, another fate, or nothing where it is passed over."""

    name: str
    fate: str
    parts: Callable[[Running], Parts]


def _header(decoded: int, block: int) -> bytes:
    return struct.pack(">QI", decoded, block)


def _nested(depth: int, opening: bytes, closing: bytes = b"") -> bytes:
    return opening * depth + closing * depth


def _cbor(tail: bytes) -> Parts:
    return [b"\xd9\xd9\xf7\xa1\x64type" + tail]


def _of_bytes(parts: Parts, cut: int) -> Parts:
    return [part[:cut] for part in parts]


ANYWHERE = [
    Hostile("nothing at all", "protocol", lambda _: [b""]),
    Hostile("noise", "protocol", lambda _: [bytes(range(128, 256))]),
    Hostile("zeros", "protocol", lambda _: [bytes(4096)]),
    Hostile("text that is not UTF-8", "json", lambda _: [b'{"htype":"dimage-1.0\xff\xfe"}']),
    Hostile("text in UTF-16 behind a brace", "json", lambda _: [b"{" + '"a":1}'.encode("utf-16")]),
    Hostile("json cut short", "json", lambda s: [s.v1_first()[0][:-5]]),
    Hostile("json of great depth", "json", lambda _: [_nested(100_000, b'{"a":', b"}")]),
    Hostile("json number of a million digits", "json", lambda _: [b'{"series":1' + b"0" * 1_000_000 + b"}"]),
    Hostile("json too long", "json", lambda _: [b"{" + b" " * (1 << 20) + b"}"]),
    Hostile("seventeen parts", "parts", lambda _: [b"{}"] * 17),
    Hostile("ten thousand parts", "parts", lambda _: [b""] * 10_000),
    Hostile("http", "protocol", lambda _: [b"GET / HTTP/1.1\r\n\r\n"]),
    Hostile("pickle", "protocol", lambda _: [b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00N."]),
    Hostile("cbor of great depth", "cbor", lambda _: _cbor(_nested(100_000, b"\x81"))),
    Hostile("tags of great depth", "cbor", lambda _: _cbor(_nested(100_000, b"\xd9\xd9\xf7"))),
    Hostile("cbor that contains itself", "cbor", lambda _: _cbor(b"\xd8\x1c\x81\xd8\x1d\x00")),
    Hostile("array of 2^64 items", "cbor", lambda _: _cbor(b"\x9b" + b"\xff" * 8)),
    Hostile("bytes of 2^63", "cbor", lambda _: _cbor(b"\x5b\x7f" + b"\xff" * 7)),
    Hostile("map of 2^40 items", "cbor", lambda _: _cbor(b"\xbb\x00\x00\x01" + bytes(5))),
    Hostile("four million empty lists", "cbor", lambda _: _cbor(b"\x9a\x00\x40\x00\x00" + b"\x80" * (1 << 22))),
    Hostile("four million lists without end", "cbor", lambda _: _cbor(b"\x9f" + b"\x80" * (1 << 22) + b"\xff")),
    Hostile("text in cbor that is not UTF-8", "cbor", lambda _: _cbor(b"\x62\xff\xfe")),
    Hostile("cbor map with lists as keys", "cbor", lambda _: [b"\xa1\x81\x01\x02"]),
    Hostile("cbor of a newer kind", "", lambda _: [cbor2.dumps({"type": "metrics"})]),
    Hostile("json of a newer kind", "", lambda _: [b'{"htype":"dmetrics-2.0"}']),
]

IMAGES_V1 = [
    Hostile("image cut in every part", "json", lambda s: _of_bytes(s.v1(s.chunk), 20)),
    Hostile("image without pixels", "parts", lambda s: s.v1(s.chunk)[:2]),
    Hostile("header in place of the description", "unsupported", lambda s: [s.v1_first()[0], *wire.v1_header(), s.chunk]),
    Hostile("description twice", "lz4", lambda s: [s.v1_first()[0], s.v1(b"")[1], s.v1(b"")[1]]),
    Hostile("negative frame", "fields", lambda s: s.v1_first(frame=-1)),
    Hostile("negative series", "fields", lambda s: s.v1_first(series=-1)),
    Hostile("frame 2^48", "fields", lambda s: s.v1_first(frame=1 << 48)),
    Hostile("frame that is a fraction", "fields", lambda s: s.v1_first(frame=1.0)),
    Hostile("frame NaN", "fields", lambda s: s.v1_first(frame=float("nan"))),
    Hostile("series infinite", "fields", lambda s: s.v1_first(series=float("inf"))),
    Hostile("frame true", "fields", lambda s: s.v1_first(frame=True)),
    Hostile("frame as text", "fields", lambda s: s.v1_first(frame="7")),
    Hostile("foreign series", "foreign", lambda s: s.v1_first(series=s.series + 1_000_000)),
    Hostile("frame 0 again", "duplicate", lambda s: s.v1_first(frame=0)),
    Hostile("shape of one number", "shape", lambda s: s.v1(s.chunk, shape=[s.image.size])),
    Hostile("shape of three", "shape", lambda s: s.v1(s.chunk, shape=[2, 128, 256])),
    Hostile("negative shape", "shape", lambda s: s.v1(s.chunk, shape=[-256, -256])),
    Hostile("empty shape", "shape", lambda s: s.v1(s.chunk, shape=[0, 256])),
    Hostile("huge shape", "shape", lambda s: s.v1(s.chunk, shape=[1 << 31, 1 << 31])),
    Hostile("another shape", "changed", lambda s: s.v1(s.chunk, shape=[128, 512])),
    Hostile("another type", "changed", lambda s: s.v1(s.chunk, "bs16-lz4<", type="uint16")),
    Hostile("type that disagrees", "encoding", lambda s: s.v1(s.chunk, type="uint16")),
    Hostile("type float64", "unsupported", lambda s: s.v1(s.chunk, type="float64")),
    Hostile("object type", "unsupported", lambda s: s.v1(s.chunk, type="O")),
    Hostile("unknown encoding", "unsupported", lambda s: s.v1(s.chunk, "bszstd<")),
    Hostile("raw pixels that lack one byte", "size", lambda s: s.v1(s.image.tobytes()[:-1], "<")),
    Hostile("bare lz4 bomb", "lz4", lambda s: s.v1(wire.lz4_bare(np.zeros((4096, 4096), "<u4")), "lz4<")),
    Hostile("bare lz4 cut short", "lz4", lambda s: s.v1(wire.lz4_bare(s.image)[:-9], "lz4<")),
]

IMAGES_V2 = [
    Hostile("image cut short", "cbor", lambda s: _of_bytes(s.v2_pixels(s.chunk), 400)),
    Hostile("image without data", "fields", lambda s: [wire.v2_image(None, s.frame, series_id=s.series)]),  # type: ignore[arg-type]
    Hostile("image without channels", "channel", lambda s: [wire.v2_image({}, s.frame, series_id=s.series)]),
    Hostile("negative frame", "fields", lambda s: s.v2(wire.array(s.image), image_id=-1)),
    Hostile("frame 2^80", "fields", lambda s: s.v2(wire.array(s.image), image_id=1 << 80)),
    Hostile("frame NaN", "fields", lambda s: s.v2(wire.array(s.image), image_id=float("nan"))),
    Hostile("foreign series", "foreign", lambda s: s.v2(wire.array(s.image), series_id=s.series + 1_000_000)),
    Hostile("same number, another name", "foreign", lambda s: s.v2(wire.array(s.image), series_unique_id="other")),
    Hostile("frame 0 again", "duplicate", lambda s: s.v2(wire.array(s.image), image_id=0)),
    Hostile("negative shape", "shape", lambda s: s.v2_array([-256, 256])),
    Hostile("shape of three", "array", lambda s: s.v2_array([1, 256, 256])),
    Hostile("shape 2^62", "shape", lambda s: s.v2_array([1 << 31, 1 << 31])),
    Hostile("shape of fractions", "shape", lambda s: s.v2_array([256.0, 256.0])),
    Hostile("another shape", "changed", lambda s: s.v2(wire.array(s.image.reshape(128, 512)))),
    Hostile("another type", "changed", lambda s: s.v2(wire.array(s.image.astype("<u2")))),
    Hostile("tag 2^63", "array", lambda s: s.v2_array([256, 256], tag=1 << 63)),
    Hostile("type tag 2^63", "unsupported", lambda s: s.v2_array([256, 256], typed_tag=1 << 63)),
    Hostile("64 bits", "unsupported", lambda s: s.v2_array([256, 256], typed_tag=71, data=bytes(1 << 19))),
    Hostile("pixels as text", "array", lambda s: s.v2_array([256, 256], data="x" * (1 << 18))),
    Hostile("pixels as a list", "cbor", lambda s: s.v2_array([256, 256], data=[0] * 65536)),
    Hostile("pixels as a short list", "array", lambda s: s.v2_array([256, 256], data=[0] * 256)),
    Hostile("no pixels", "size", lambda s: s.v2_array([256, 256])),
    Hostile("unknown compression", "unsupported", lambda s: s.v2_pixels(s.chunk, "zstd")),
    Hostile("compression that is a number", "unsupported", lambda s: s.v2_pixels(s.chunk, 5)),
    Hostile("item size that disagrees", "array", lambda s: s.v2_pixels(s.chunk, "bslz4", 8)),
    Hostile("compressed twice", "array", lambda s: s.v2_pixels(cbor2.CBORTag(56500, ["bslz4", 4, s.chunk]))),
    Hostile("lz4 of another size", "header", lambda s: s.v2_pixels(_header(1 << 40, 1 << 20) + bytes(99), "lz4", 0)),
    Hostile("lz4 in blocks of 0", "header", lambda s: s.v2_pixels(_header(1 << 18, 0) + bytes(99), "lz4", 0)),
]


def _bombs(message: Callable[[Running, bytes], Parts]) -> list[Hostile]:
    """Bitshuffle-LZ4 chunks that lie, in either protocol."""
    chunks: list[tuple[str, str, Callable[[Running], bytes]]] = [
        ("no chunk", "header", lambda _: b""),
        ("header alone", "lz4", lambda s: s.chunk[:12]),
        ("says 2^60 bytes", "lz4", lambda s: _header(1 << 60, 8192) + s.chunk[12:]),
        ("says one byte less", "header", lambda s: _header(s.image.nbytes - 1, 8192) + s.chunk[12:]),
        ("zeroed header and nothing", "lz4", lambda _: bytes(12)),
        ("all zeros", "lz4", lambda _: bytes(4096)),
        ("block size 0 and noise", "lz4", lambda s: _header(s.image.nbytes, 0) + b"\xff" * 4096),
        ("block size 2^31", "header", lambda s: _header(s.image.nbytes, 1 << 31) + s.chunk[12:]),
        ("block size 3", "header", lambda s: _header(s.image.nbytes, 3) + s.chunk[12:]),
        ("block length 2^32 - 1", "lz4", lambda s: s.chunk[:12] + b"\xff" * 4 + s.chunk[16:]),
        ("cut in the middle", "lz4", lambda s: s.chunk[: len(s.chunk) // 2]),
        ("last byte cut", "lz4", lambda s: s.chunk[:-1]),
        ("offsets before the beginning", "lz4", lambda s: s.chunk[:12] + b"\x00\x00\x00\x04\x10a\xff\xff" * 64),
    ]
    return [
        Hostile(f"chunk: {name}", fate, lambda s, chunk=chunk: message(s, chunk(s)))  # type: ignore[misc]
        for name, fate, chunk in chunks
    ]


HOSTILE = {
    "v1": [*ANYWHERE, *IMAGES_V1, *_bombs(Running.v1)],
    "v2": [*ANYWHERE, *IMAGES_V2, *_bombs(Running.v2_pixels)],
}


# ------------------------------------------------------------------------------------------------- starts that say nonsense

_MASK = wire.array(np.zeros((256, 256), "<u4"))
_HUGE, _TINY, _NAN = 1e300, 5e-324, float("nan")
_LONE_SURROGATE, _STEERING = "\ud800", "a/../../\x00\x1b[2J\nb\u202e"

SAID: dict[str, dict[str, object]] = {
    "numbers that are none": {"frame_time": _NAN, "incident_energy": float("inf"), "pixel_size_x": -1.0},
    "huge numbers": {"frame_time": _HUGE, "incident_energy": _HUGE, "pixel_size_x": _HUGE, "pixel_size_y": _HUGE},
    "tiny numbers": {"frame_time": _TINY, "incident_energy": _TINY, "pixel_size_x": _TINY, "pixel_size_y": _TINY},
    "huge counts": {"number_of_images": (1 << 63) - 1, "saturation_value": (1 << 63) - 1},
    "counts beyond 64 bits": {"number_of_images": 1 << 80, "saturation_value": 1 << 80, "ntrigger": 1 << 80},
    "names that lead elsewhere": {"series_date": _STEERING, "user_data": {"sample": _STEERING}, _STEERING: _STEERING},
    "sample of a megabyte": {"user_data": {"sample": "x" * 1_000_000}},
    "ten thousand keys": {f"key {i}": "x" * 50 for i in range(10_000)},
    "keys that files reserve": {".": 1, "..": 2, "a/b": 3, "": 4, "/": 5, "NX_class": "NXevil"},
}


def v2_start(series: int, **said: object) -> Parts:
    """A start of 256 x 256 frames of 32 bits that also says ``said``."""
    given = {"series_id": series, "series_unique_id": f"hostile {series}", "image_size_x": 256, "image_size_y": 256}
    plain = {"image_dtype": "uint32", "incident_energy": None, "number_of_images": None, "saturation_value": None}
    return [wire.v2_start(**{**given, **plain, "pixel_size_x": None, **said})]


def json_with_twins(series: int) -> bytes:
    """A header whose keys come twice, the second time otherwise."""
    return b'{"htype":"dheader-1.0","series":-5,"header_detail":"all","series":%d,"header_detail":"none"}' % series


def json_with_surrogates() -> bytes:
    """Text that JSON can say and UTF-8 cannot."""
    return json.dumps({"sample": _LONE_SURROGATE, _LONE_SURROGATE: _LONE_SURROGATE}).encode()
