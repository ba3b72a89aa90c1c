"""Messages made by hand, byte by byte as protocols say: what the decoders' tests feed them."""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cbor2
import lz4.block
import numpy as np
from numpy.typing import NDArray

from ringwatch.stream.encode import Encoder

Pixels = NDArray[Any]

TYPED_ARRAY_TAGS = {
    "|u1": 64, "<u2": 69, "<u4": 70, "|i1": 72, "<i2": 77, "<i4": 78, "<f4": 85, ">u2": 65, ">u4": 66,
    ">f4": 81,
}  # fmt: skip


def recorded(path: Path) -> Iterator[list[bytes]]:
    """The messages of a CBOR sequence, each a list of parts."""
    with path.open("rb") as file:
        decoder = cbor2.CBORDecoder(file)
        while True:
            try:
                yield decoder.decode()
            except cbor2.CBORDecodeEOF:
                return


def pixels(shape: tuple[int, int] = (61, 67), dtype: str = "<u2", seed: int = 1) -> Pixels:
    """Counts of a weak powder; an awkward size leaves a short last block and raw bytes at the end."""
    return np.random.default_rng(seed).poisson(3, shape).astype(dtype)


# ------------------------------------------------------------------------------------------------------------ chunks


def bitshuffled(block: Pixels) -> bytes:
    """Bit 0 of all items, then bit 1 of all items, ..."""
    bits = np.unpackbits(block.view(np.uint8).reshape(len(block), -1), axis=1, bitorder="little")
    return np.packbits(bits.T, bitorder="little").tobytes()


def bslz4(image: Pixels, block_bytes: int = 8192) -> bytes:
    """A bitshuffle-LZ4 chunk with the real header."""
    flat = image.reshape(-1)
    items = block_bytes // image.itemsize
    n_shuffled = len(flat) // 8 * 8
    blocks = [flat[i : min(i + items, n_shuffled)] for i in range(0, n_shuffled, items)]
    chunk = b"".join(_length_and(lz4.block.compress(bitshuffled(b), store_size=False)) for b in blocks)
    return struct.pack(">QI", image.nbytes, block_bytes) + chunk + flat[n_shuffled:].tobytes()


def lz4hdf5(image: Pixels, block_bytes: int = 4096) -> bytes:
    """An HDF5-LZ4 chunk; a block that does not shrink is stored: its length says so."""
    data = image.tobytes()
    blocks = [data[i : i + block_bytes] for i in range(0, len(data), block_bytes)]
    packed = [min(b, lz4.block.compress(b, store_size=False), key=len) for b in blocks]
    return struct.pack(">QI", len(data), block_bytes) + b"".join(map(_length_and, packed))


def lz4_bare(image: Pixels) -> bytes:
    """One LZ4 block."""
    return lz4.block.compress(image.tobytes(), store_size=False)


def _length_and(block: bytes) -> bytes:
    return struct.pack(">I", len(block)) + block


# ---------------------------------------------------------------------------------------------------------------- v1


def text(**said: object) -> bytes:
    return json.dumps(said).encode()


V1_CONFIG: dict[str, object] = {
    "bit_depth_image": 16,
    "countrate_correction_count_cutoff": 40000,
    "flatfield_correction_applied": True,
    "frame_time": 0.005,
    "nimages": 10,
    "ntrigger": 2,
    "photon_energy": 40000.0,
    "x_pixel_size": 0.000075,
    "y_pixel_size": 0.000172,
    "x_pixels_in_detector": 67,
    "y_pixels_in_detector": 61,
}


def v1_header(series: int = 1, detail: str = "basic", **changes: object) -> list[bytes]:
    first = text(htype="dheader-1.0", series=series, header_detail=detail)
    return [first] if detail == "none" else [first, text(**{**V1_CONFIG, **changes})]


def v1_arrays(flat: Pixels, mask: Pixels, prefix: str = "d") -> list[bytes]:
    table = np.zeros((4, 2), "<f4")
    return [
        text(htype=f"{prefix}flatfield-1.0", shape=list(flat.shape[::-1]), type="float32"),
        flat.astype("<f4").tobytes(),
        text(htype="dpixelmask-1.0", shape=list(mask.shape[::-1]), type="uint32"),
        mask.astype("<u4").tobytes(),
        text(htype="dcountrate_table-1.0", shape=[2, 4], type="float32"),
        table.tobytes(),
    ]


def v1_image(
    image: Pixels, frame: int = 0, series: int = 1, encoding: str = "<", blob: bytes | None = None, **changes: object
) -> list[bytes]:
    data = image.tobytes() if blob is None else blob
    described = {"shape": list(image.shape[::-1]), "type": image.dtype.name, "encoding": encoding, "size": len(data)}
    return [
        text(htype="dimage-1.0", series=series, frame=frame, hash="") + b"\n",
        text(**{"htype": "dimage_d-1.0", **described, **changes}) + b"\n",
        data,
        text(htype="dconfig-1.0", start_time=0, stop_time=1, real_time=1) + b"\n",
    ]


def v1_end(series: int = 1, htype: str = "dseries_end-1.0") -> list[bytes]:
    return [text(htype=htype, series=series)]


# ---------------------------------------------------------------------------------------------------------------- v2


def array(
    image: Pixels, compressed: Sequence[object] | None = None, tag: int = 40, typed_tag: int | None = None
) -> cbor2.CBORTag:
    """A multi-dimensional array; ``compressed`` is [algorithm, item size, bytes]."""
    data = image.tobytes() if compressed is None else cbor2.CBORTag(56500, list(compressed))
    number = typed_tag or TYPED_ARRAY_TAGS[image.dtype.str]
    return cbor2.CBORTag(tag, [list(image.shape), cbor2.CBORTag(number, data)])


V2_START: dict[str, object] = {
    "type": "start",
    "series_id": 1,
    "series_unique_id": "01",
    "channels": ["threshold_1"],
    "frame_time": 0.005,
    "flatfield_enabled": False,
    "image_dtype": "uint16",
    "image_size_x": 67,
    "image_size_y": 61,
    "incident_energy": 40000.0,
    "number_of_images": 20,
    "pixel_size_x": 0.000075,
    "pixel_size_y": 0.000172,
    "saturation_value": 40000,
    "user_data": {"sample": "CeO2"},
}


def v2_start(tagged: bool = True, **changes: object) -> bytes:
    return _message({**V2_START, **changes}, tagged)


def v2_image(data: dict[str, object], frame: int = 0, tagged: bool = True, **changes: object) -> bytes:
    said = {"type": "image", "series_id": 1, "series_unique_id": "01", "image_id": frame, "real_time": [1, 50_000_000]}
    return _message({**said, "data": data, **changes}, tagged)


def v2_end(tagged: bool = True, **changes: object) -> bytes:
    return _message({"type": "end", "series_id": 1, "series_unique_id": "01", **changes}, tagged)


def _message(said: dict[str, object], tagged: bool) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(55799, said) if tagged else said)


# ------------------------------------------------------------------------------------------------------------- STINS


def stins_header(number: int = 375, **config: object) -> list[bytes]:
    first = text(htype="header", msg_number=number, filename="/data/visitors/scan_42.h5")
    return [first, text(**config)] if config else [first]


def stins_image(image: Pixels, frame: int = 0, blob: bytes | None = None, /, **changes: object) -> list[bytes]:
    said = {"htype": "image", "frame": frame, "shape": list(image.shape), "type": image.dtype.name}
    said |= {"compression": "none" if blob is None else "bslz4", "msg_number": 376 + frame}
    return [text(**said | changes), image.tobytes() if blob is None else blob]


def stins_end(number: int = 999) -> list[bytes]:
    return [text(htype="series_end", msg_number=number)]


STINS = Encoder(
    lambda start, _: stins_header(start.series),  # type: ignore[arg-type, return-value]
    lambda _, frame: stins_image(np.empty(frame.shape, frame.dtype), frame.frame, bytes(frame.data)),  # type: ignore[arg-type, return-value]
    lambda _: stins_end(),  # type: ignore[arg-type, return-value]
)
