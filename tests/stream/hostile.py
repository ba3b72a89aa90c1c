"""Messages that no detector should send, each with the fate it is to have: what the daemon's tests throw at it.

Each builder is told the running series and makes one message that looks as much like one of that series as can be.
"""

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

    def stins(self, blob: bytes, **said: object) -> Parts:
        return wire.stins_image(self.image, self.frame, blob, **said)

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
    Hostile(
        "header in place of the description", "unsupported", lambda s: [s.v1_first()[0], *wire.v1_header(), s.chunk]
    ),
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


IMAGES_STINS = [
    Hostile("image without pixels", "parts", lambda s: s.stins(s.chunk)[:1]),
    Hostile("image in four blobs", "parts", lambda s: s.stins(s.chunk) + 3 * [s.chunk]),
    Hostile("negative frame", "fields", lambda s: s.stins(s.chunk, frame=-1)),
    Hostile("frame 2^48", "fields", lambda s: s.stins(s.chunk, frame=1 << 48)),
    Hostile("frame as text", "fields", lambda s: s.stins(s.chunk, frame="7")),
    Hostile("frame 0 again", "duplicate", lambda s: s.stins(s.chunk, frame=0)),
    Hostile("shape of one number", "shape", lambda s: s.stins(s.chunk, shape=[s.image.size])),
    Hostile("shape as text", "shape", lambda s: s.stins(s.chunk, shape="256x256")),
    Hostile("no shape", "shape", lambda s: s.stins(s.chunk, shape=None)),
    Hostile("negative shape", "shape", lambda s: s.stins(s.chunk, shape=[-256, -256])),
    Hostile("huge shape", "shape", lambda s: s.stins(s.chunk, shape=[1 << 31, 1 << 31])),
    Hostile("2^40 channels", "parts", lambda s: s.stins(s.chunk, shape=[1 << 40, 256, 256])),
    Hostile("channels that are text", "parts", lambda s: s.stins(s.chunk, shape=["1", 256, 256])),
    Hostile("another shape", "changed", lambda s: s.stins(s.chunk, shape=[128, 512])),
    Hostile("another type", "changed", lambda s: s.stins(s.chunk, type="uint16")),
    Hostile("type float64", "unsupported", lambda s: s.stins(s.chunk, type="float64")),
    Hostile("object type", "unsupported", lambda s: s.stins(s.chunk, type="O")),
    Hostile("unknown compression", "unsupported", lambda s: s.stins(s.chunk, compression="bszstd")),
    Hostile("raw pixels that lack one byte", "size", lambda s: s.stins(s.image.tobytes()[:-1], compression="none")),
    Hostile("raw pixels that are compressed", "size", lambda s: s.stins(s.chunk, compression="none")),
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
    "stins": [*ANYWHERE, *IMAGES_STINS, *_bombs(Running.stins)],
}


# ------------------------------------------------------------------------------------------ starts that say nonsense

SHAPE = (256, 256)
_HUGE, _TINY, _NAN, _INFINITE = 1e300, 5e-324, float("nan"), float("inf")
_STEERING = "a/../../\x00\x1b[2J\nb\u202e"


class Start(NamedTuple):
    """Messages that begin a series of 256 x 256 frames of 32 bits, of a given number."""

    name: str
    version: str
    messages: Callable[[int], list[Parts]]


def name_of(series: int) -> str:
    """The unique id of stream v2."""
    return f"hostile {series}"


def _v2(name: str, **said: object) -> Start:
    sizes = {"image_size_x": SHAPE[1], "image_size_y": SHAPE[0], "image_dtype": "uint32"}
    plain = dict.fromkeys(("incident_energy", "number_of_images", "saturation_value", "pixel_size_x"))

    def messages(series: int) -> list[Parts]:
        named = {"series_id": series, "series_unique_id": name_of(series)}
        return [[wire.v2_start(**{**sizes, **plain, **named, **said})]]

    return Start(f"v2 {name}", "v2", messages)


def _v1(name: str, *rest: bytes, detail: str = "basic") -> Start:
    return Start(f"v1 {name}", "v1", lambda series: [[_first(series, detail), *rest]])


def _first(series: int, detail: str) -> bytes:
    return wire.text(htype="dheader-1.0", series=series, header_detail=detail)


def _array(image: NDArray[Any]) -> dict[str, object]:
    return {"threshold_1": wire.array(image)}


_FLAT = np.resize(np.array([1, 1, 1], "<f4"), SHAPE)
_NUMBERS = ("frame_time", "incident_energy", "pixel_size_x", "pixel_size_y")
_COUNTS = ("number_of_images", "saturation_value", "ntrigger")
_ODD_NUMBERS = {"none": _NAN, "infinite": _INFINITE, "huge": _HUGE, "tiny": _TINY, "negative": -1.0, "text": "1"}

STARTS = [
    *(_v2(f"numbers are {name}", **dict.fromkeys(_NUMBERS, number)) for name, number in _ODD_NUMBERS.items()),
    _v2("counts of 63 bits", **dict.fromkeys(_COUNTS, (1 << 63) - 1)),
    _v2("counts of 80 bits", **dict.fromkeys(_COUNTS, 1 << 80)),
    _v2("names that lead elsewhere", **{"user_data": {"sample": _STEERING}, "series_date": _STEERING, _STEERING: 1}),
    _v2("sample of a megabyte", user_data={"sample": "x" * 1_000_000}),
    _v2("five thousand keys", **{f"key {i}": "x" * 50 for i in range(5_000)}),
    _v2("keys that files reserve", **{".": 1, "..": 2, "a/b": 3, "": 4, "/": 5, "NX_class": "NXevil"}),
    _v2("masks that are text", pixel_mask={"threshold_1": b"base64"}, flatfield={"threshold_1": "base64"}),
    _v2("flat field of nothing", flatfield=_array(np.full(SHAPE, _NAN, "<f4")), flatfield_enabled=True),
    _v2("another start at once", threshold_energy={"a": {"b": [1, 2, {"c": 4}]}}),
    _v1("surrogates that are no text", rb'{"sample":"\ud800","\udfff":"\ud800","detector_description":"\ud800"}'),
    _v1("surrogates as sample", b"{}", rb'{"sample":"\ud800"}', detail="all"),
    _v1("keys that come twice", b'{"photon_energy":1,"photon_energy":null,"x_pixel_size":-1}'),
    _v1(
        "numbers that JSON lacks",
        b'{"photon_energy":NaN,"frame_time":Infinity,"x_pixel_size":1e999,"nimages":-Infinity}',
    ),
    _v1("configuration cut off", detail="all"),
    _v1("appendix of noise", b"{}", bytes(range(256)), detail="all"),
]
"""Their frames are reduced as if the nonsense had not been said."""

REFUSED = [
    _v2("mask of another shape", pixel_mask=_array(np.zeros((20, 30), "<u4"))),
    _v2("flat field of another shape", flatfield=_array(_FLAT[:9]), flatfield_enabled=False),
    _v2("flat field of nothing", flatfield=_array(np.full(SHAPE, _NAN, "<f4")), flatfield_enabled=False),
    _v2("flat field of zeros", flatfield=_array(np.zeros(SHAPE, "<f4")), flatfield_enabled=False),
    _v2(
        "flat field beyond all numbers",
        flatfield=_array(np.resize(np.array([1e-38, 1, 1e38], "<f4"), SHAPE)),
        flatfield_enabled=False,
    ),
    _v2("negative flat field", flatfield=_array(-_FLAT), flatfield_enabled=False),
    _v2("mask of everything", pixel_mask=_array(np.ones(SHAPE, "<u4"))),
    _v2("frames of one pixel", image_size_x=1, image_size_y=1),
    _v2("frames of 2^26 pixels", image_size_x=1 << 26, image_size_y=1),
    _v2("frames of 2^60 pixels", image_size_x=1 << 30, image_size_y=1 << 30),
    _v2(
        "mask of 2^60 pixels",
        pixel_mask={"threshold_1": cbor2.CBORTag(40, [[1 << 30, 1 << 30], cbor2.CBORTag(70, b"")])},
    ),
    _v2(
        "mask that is a bomb",
        pixel_mask={
            "threshold_1": cbor2.CBORTag(
                40, [[8192, 8192], cbor2.CBORTag(70, cbor2.CBORTag(56500, ["bslz4", 4, _header(1 << 28, 8192)]))]
            )
        },
    ),
    _v2("pixels of 64 bits", image_dtype="uint64"),
]
"""Their frames may not be reduced; nothing else suffers."""
