"""Start, frames and end of a series in, wire messages out: stream v1 (JSON and binary parts) or v2 (CBOR).

Pure functions of the vocabulary's messages, the inverse of the decoders. Pixels arrive already encoded and are passed
on as they are: not copied at all in v1, copied once in v2, whose messages are one part. Numbers are little-endian.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import cbor2
import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import UnsupportedEncoding
from ringwatch.messages import Codec, Frame, Scalar, SeriesEnd, SeriesStart
from ringwatch.stream import fields
from ringwatch.stream.bslz4 import BLOCK_BYTES
from ringwatch.stream.fields import Payload

StreamVersion = Literal["v1", "v2"]
HeaderDetail = Literal["none", "basic", "all"]
"""How much the start message says; v2 takes "none" for "basic". Only "all" carries the mask and the flat field."""

Encoded = tuple[Codec, Payload]
"""The pixels of one frame."""

Parts = list[Payload]
"""One message on the wire: the parts of a ZeroMQ multipart message."""

CHANNEL = "threshold_1"
TICKS_HZ = 50_000_000
EV_ANGSTROM = 12398.419843320026

IDENTITY_TABLE = np.array([[0, 0], [1, 1]], np.float32)
"""A count-rate table that corrects nothing: rows of (raw, corrected)."""

V1_PREFIX: Mapping[Codec, str] = {"none": "", "lz4": "lz4", "bslz4": "bs{bits}-lz4"}
V2_ALGORITHM: Mapping[Codec, str] = {"lz4hdf5": "lz4", "bslz4": "bslz4"}
TYPED_ARRAY_TAGS = {
    "|u1": 64, "<u2": 69, "<u4": 70, "|i1": 72, "<i2": 77, "<i4": 78, "<f4": 85,
    ">u2": 65, ">u4": 66, ">i2": 73, ">i4": 74, ">f4": 81,
}  # fmt: skip
"""RFC 8746, by numpy's name of the type."""


class Encoder(NamedTuple):
    """The three verbs of a protocol. An image is encoded with the start of its series: its clock and date are there."""

    start: Callable[[SeriesStart, HeaderDetail], Parts]
    image: Callable[[SeriesStart, Frame], Parts]
    end: Callable[[SeriesEnd], Parts]


def compress_bslz4(image: NDArray[Any]) -> bytes:
    """Compress pixels as a DECTRIS detector does: 12-byte header, then bitshuffle-LZ4 blocks of 8192 decoded bytes.

    Parameters
    ----------
    image
        Any shape, items of 1, 2, 4 or 8 bytes, little-endian.
    """
    pixels = np.ascontiguousarray(image)
    bitshuffle = hdf5plugin.Bitshuffle(nelems=BLOCK_BYTES // pixels.itemsize, cname="lz4")
    with h5py.File.in_memory() as file:
        dataset = file.create_dataset("pixels", data=pixels, chunks=pixels.shape, **bitshuffle)
        file.flush()  # the chunk is compressed when it leaves HDF5's cache
        _, blob = dataset.id.read_direct_chunk((0,) * pixels.ndim)
    return bytes(blob)


# ------------------------------------------------------------------------------------------------------ stream v1


def start_v1(start: SeriesStart, detail: HeaderDetail = "all") -> Parts:
    """The global header: 1, 2 or 8 parts, and with "all" an appendix naming the sample where there is one."""
    parts: Parts = [_json({"htype": "dheader-1.0", "series": start.series, "header_detail": detail})]
    if detail != "none":
        parts.append(_json(_config_v1(start)))
    if detail == "all" and start.shape is not None:
        # A receiver expects eight parts: what is not known is sent as a detector without corrections has it.
        parts += _array_v1("dflatfield-1.0", _flatfield(start, start.shape))
        parts += _array_v1("dpixelmask-1.0", _pixel_mask(start, start.shape))
        parts += _array_v1("dcountrate_table-1.0", IDENTITY_TABLE)
        if start.sample is not None:
            parts.append(_json({"sample": start.sample}))
    return parts


def image_v1(start: SeriesStart, frame: Frame) -> Parts:
    """One image: four parts, the third is ``frame.data`` itself.

    Raises
    ------
    UnsupportedEncoding
        The codec or the pixel type has no name in this protocol.
    """
    rows, columns = frame.shape
    begin_ns, end_ns = (round(1e9 * t) for t in _exposure_s(start, frame))
    description = {
        "htype": "dimage_d-1.0", "shape": [columns, rows], "type": fields.pixel_type(frame.dtype.name).name,
        "encoding": _encoding_v1(frame), "size": len(frame.data),
    }  # fmt: skip
    # The hash stays empty: an MD5 costs more than everything else here, and real detectors send wrong ones.
    return [
        _json({"htype": "dimage-1.0", "series": frame.series, "frame": frame.frame, "hash": ""}),
        _json(description),
        frame.data,
        _json({"htype": "dconfig-1.0", "start_time": begin_ns, "stop_time": end_ns, "real_time": end_ns - begin_ns}),
    ]


def end_v1(end: SeriesEnd) -> Parts:
    """The end of the series: one part."""
    return [_json({"htype": "dseries_end-1.0", "series": end.series})]


def _config_v1(start: SeriesStart) -> dict[str, Scalar]:
    rows, columns = start.shape or (None, None)
    pixel_rows_m, pixel_columns_m = start.pixel_size_m or (None, None)
    # The header can only name unsigned types; the images say what the others are.
    bit_depth = 8 * start.dtype.itemsize if start.dtype is not None and start.dtype.kind == "u" else None
    known: dict[str, Scalar] = {
        "x_pixels_in_detector": columns,
        "y_pixels_in_detector": rows,
        "bit_depth_image": bit_depth,
        "nimages": start.frames_expected,
        "ntrigger": 1,
        "frame_time": start.frame_time_s,
        "photon_energy": start.energy_eV,
        "wavelength": EV_ANGSTROM / start.energy_eV if start.energy_eV else None,
        "x_pixel_size": pixel_columns_m,
        "y_pixel_size": pixel_rows_m,
        "countrate_correction_count_cutoff": start.saturation,
        "flatfield_correction_applied": start.flatfield_applied,
        "pixel_mask_applied": True,
    }
    return {**start.header, **_without_none(known)}


def _encoding_v1(frame: Frame) -> str:
    if frame.codec not in V1_PREFIX:
        raise UnsupportedEncoding(f"codec {frame.codec} in stream v1", tuple(V1_PREFIX))
    return V1_PREFIX[frame.codec].format(bits=8 * frame.dtype.itemsize) + (">" if frame.big_endian else "<")


def _array_v1(htype: str, array: NDArray[Any]) -> Parts:
    """Description and bytes of a 2-D array; v1 counts columns first."""
    description = {"htype": htype, "shape": list(array.shape[::-1]), "type": array.dtype.name}
    return [_json(description), array.tobytes()]


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


# ------------------------------------------------------------------------------------------------------ stream v2


def start_v2(start: SeriesStart, detail: HeaderDetail = "all") -> Parts:
    """The start message; mask and flat field only with detail "all"."""
    message: dict[str, Any] = {"type": "start", **start.header}
    message |= {"type": "start", **_identity_v2(start), **_without_none(_config_v2(start))}
    if "arm_date" in message:
        message["arm_date"] = cbor2.CBORTag(0, message["arm_date"])
    if detail == "all" and start.shape is not None:
        message["flatfield"] = {CHANNEL: _array_v2(_flatfield(start, start.shape))}
        message["pixel_mask"] = {CHANNEL: _array_v2(_pixel_mask(start, start.shape))}
    return [_cbor(message)]


def image_v2(start: SeriesStart, frame: Frame) -> Parts:
    """One image in one part.

    Raises
    ------
    UnsupportedEncoding
        The codec or the pixel type has no name in this protocol.
    """
    begin, end = (round(TICKS_HZ * t) for t in _exposure_s(start, frame))
    message = {
        "type": "image",
        **_identity_v2(frame),
        "image_id": frame.frame,
        "real_time": [end - begin, TICKS_HZ],
        "start_time": [begin, TICKS_HZ],
        "stop_time": [end, TICKS_HZ],
    }
    if "arm_date" in start.header:
        message["series_date"] = cbor2.CBORTag(0, start.header["arm_date"])
    dtype = fields.pixel_type(frame.dtype.name, fields.PIXEL_TYPES_V2)
    on_the_wire = dtype.newbyteorder(">" if frame.big_endian else "<")
    message["data"] = {CHANNEL: _matrix_v2(frame.shape, on_the_wire, _pixels_v2(frame))}
    # The pixels come last and are still missing: the head of an empty byte string is replaced by theirs.
    return [b"".join((_cbor(message)[:-1], _byte_string_head(len(frame.data)), frame.data))]


def end_v2(end: SeriesEnd) -> Parts:
    """The end of the series."""
    return [_cbor({"type": "end", **_identity_v2(end)})]


def _identity_v2(message: SeriesStart | Frame | SeriesEnd) -> dict[str, Any]:
    return {"series_id": message.series, "series_unique_id": message.unique_id}


def _config_v2(start: SeriesStart) -> dict[str, Any]:
    rows, columns = start.shape or (None, None)
    pixel_rows_m, pixel_columns_m = start.pixel_size_m or (None, None)
    return {
        "channels": [CHANNEL],
        "image_size_x": columns,
        "image_size_y": rows,
        "image_dtype": None if start.dtype is None else start.dtype.name,
        "number_of_images": start.frames_expected,
        "frame_time": start.frame_time_s,
        "incident_energy": start.energy_eV,
        "incident_wavelength": EV_ANGSTROM / start.energy_eV if start.energy_eV else None,
        "pixel_size_x": pixel_columns_m,
        "pixel_size_y": pixel_rows_m,
        "saturation_value": start.saturation,
        "flatfield_enabled": start.flatfield_applied,
        "pixel_mask_enabled": True,
        "user_data": None if start.sample is None else {"sample": start.sample},
    }


def _pixels_v2(frame: Frame) -> bytes | cbor2.CBORTag:
    """The place of the pixels: an empty byte string, alone or as the last item of the compression tag."""
    if frame.codec == "none":
        return b""
    if frame.codec not in V2_ALGORITHM:
        raise UnsupportedEncoding(f"codec {frame.codec} in stream v2", ("none", *V2_ALGORITHM))
    item_bytes = frame.dtype.itemsize if frame.codec == "bslz4" else 0
    return cbor2.CBORTag(56500, [V2_ALGORITHM[frame.codec], item_bytes, b""])


def _array_v2(array: NDArray[Any]) -> cbor2.CBORTag:
    return _matrix_v2(array.shape, array.dtype, array.tobytes())


def _matrix_v2(shape: tuple[int, ...], dtype: np.dtype[Any], content: bytes | cbor2.CBORTag) -> cbor2.CBORTag:
    return cbor2.CBORTag(40, [list(shape), cbor2.CBORTag(TYPED_ARRAY_TAGS[dtype.str], content)])


def _byte_string_head(size_bytes: int) -> bytes:
    """The head of a CBOR byte string: its length's own encoding with major type 2 instead of 0 (RFC 8949, 3.1)."""
    head = bytearray(cbor2.dumps(size_bytes))
    head[0] |= 2 << 5
    return bytes(head)


def _cbor(message: Mapping[str, Any]) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(55799, message))


# ----------------------------------------------------------------------------------------------------------- both

ENCODERS: Mapping[StreamVersion, Encoder] = {
    "v1": Encoder(start_v1, image_v1, end_v1),
    "v2": Encoder(start_v2, image_v2, end_v2),
}


def _exposure_s(start: SeriesStart, frame: Frame) -> tuple[float, float]:
    """Begin and end of the exposure on the detector's clock, 0 for the first frame."""
    period_s = start.frame_time_s or 0.0
    return frame.frame * period_s, (frame.frame + 1) * period_s


def _flatfield(start: SeriesStart, shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.ones(shape, np.float32) if start.flatfield is None else start.flatfield


def _pixel_mask(start: SeriesStart, shape: tuple[int, int]) -> NDArray[np.uint32]:
    return np.zeros(shape, np.uint32) if start.pixel_mask is None else start.pixel_mask.astype(np.uint32)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
