"""Wire messages byte by byte, against what real detectors send."""

import json
import struct
from pathlib import Path

import cbor2
import numpy as np
import pytest

from ringwatch.errors import UnsupportedEncoding
from ringwatch.messages import Codec, Frame, SeriesEnd, SeriesStart
from ringwatch.stream import encode, v2

UNIQUE_ID = "01GRXWT80JSDY2FNW8SGCCDZD9"
START = SeriesStart(
    series=6,
    unique_id=UNIQUE_ID,
    header={"arm_date": "2023-02-10T15:49:05.281+01:00", "detector_description": "simulated"},
    shape=(2, 3),
    dtype=np.dtype(np.uint16),
    frames_expected=10,
    frame_time_s=0.02,
    energy_eV=8000.0,
    pixel_size_m=(75e-6, 76e-6),
    saturation=60000,
    pixel_mask=np.array([[0, 1, 0], [0, 0, 0]], bool),
    flatfield=np.arange(6, dtype=np.float32).reshape(2, 3),
    flatfield_applied=True,
)


def frame(blob: bytes = b"pixels", codec: Codec = "bslz4", dtype: str = "uint16", number: int = 5) -> Frame:
    return Frame(6, number, (514, 1030), np.dtype(dtype), codec, blob, UNIQUE_ID)


def test_v1_image_is_the_four_parts_of_the_manual() -> None:
    parts = encode.image_v1(START, frame())
    assert parts == [
        b'{"htype":"dimage-1.0","series":6,"frame":5,"hash":""}',
        b'{"htype":"dimage_d-1.0","shape":[1030,514],"type":"uint16","encoding":"bs16-lz4<","size":6}',
        b"pixels",
        b'{"htype":"dconfig-1.0","start_time":100000000,"stop_time":120000000,"real_time":20000000}',
    ]


def test_v1_passes_the_pixels_on_without_a_copy() -> None:
    blob = bytes(1000)
    assert encode.image_v1(START, frame(blob))[2] is blob


@pytest.mark.parametrize(
    ("codec", "dtype", "name"),
    [
        ("none", "uint32", "<"),
        ("lz4", "uint16", "lz4<"),
        ("bslz4", "uint8", "bs8-lz4<"),
        ("bslz4", "int32", "bs32-lz4<"),
    ],
)
def test_v1_names_encodings_as_the_manual_does(codec: Codec, dtype: str, name: str) -> None:
    description = json.loads(bytes(encode.image_v1(START, frame(codec=codec, dtype=dtype))[1]))
    assert (description["encoding"], description["type"]) == (name, dtype)


def test_v1_end() -> None:
    assert encode.end_v1(SeriesEnd(6)) == [b'{"htype":"dseries_end-1.0","series":6}']


@pytest.mark.parametrize(("detail", "n_parts"), [("none", 1), ("basic", 2), ("all", 8)])
def test_v1_header_has_as_many_parts_as_its_detail_asks_for(detail: encode.HeaderDetail, n_parts: int) -> None:
    parts = encode.start_v1(START, detail)
    assert len(parts) == n_parts
    assert json.loads(parts[0]) == {"htype": "dheader-1.0", "series": 6, "header_detail": detail}


def test_v1_arrays_are_columns_first_and_little_endian() -> None:
    parts = encode.start_v1(START, "all")
    assert parts[2] == b'{"htype":"dflatfield-1.0","shape":[3,2],"type":"float32"}'
    assert parts[3] == struct.pack("<6f", *range(6))
    assert parts[4] == b'{"htype":"dpixelmask-1.0","shape":[3,2],"type":"uint32"}'
    assert parts[5] == struct.pack("<6I", 0, 1, 0, 0, 0, 0)
    assert parts[6] == b'{"htype":"dcountrate_table-1.0","shape":[2,2],"type":"float32"}'


def test_v1_configuration_uses_the_detector_s_own_keys() -> None:
    config = json.loads(bytes(encode.start_v1(START, "basic")[1]))
    assert "htype" not in config
    assert config["x_pixels_in_detector"] == 3
    assert config["y_pixels_in_detector"] == 2
    assert config["y_pixel_size"] == 75e-6
    assert config["bit_depth_image"] == 16
    assert config["wavelength"] == pytest.approx(1.5498024804150032)
    assert config["nimages"] * config["ntrigger"] == 10


def test_v1_sample_is_the_appendix() -> None:
    named = SeriesStart(6, sample="LaB6", shape=(2, 3))
    assert encode.start_v1(named, "all")[8] == b'{"sample":"LaB6"}'


def test_v1_a_detector_without_corrections_sends_ones_and_zeros() -> None:
    parts = encode.start_v1(SeriesStart(6, shape=(2, 3)), "all")
    assert parts[3] == struct.pack("<6f", *[1] * 6)
    assert parts[5] == bytes(24)


def test_v2_image_is_the_recorded_one_byte_by_byte() -> None:
    blob = bytes(157494)
    message = bytes(encode.image_v2(START, frame(blob, number=0))[0])
    expected = bytes.fromhex("d9d9f7 a9 64") + b"type" + b"\x65image" + b"\x69series_id\x06"
    expected += b"\x70series_unique_id\x78\x1a" + UNIQUE_ID.encode() + b"\x68image_id\x00"
    expected += b"\x69real_time" + bytes.fromhex("82 1a 000f4240 1a 02faf080")  # 1e6 ticks of 50 MHz
    expected += b"\x6astart_time" + bytes.fromhex("82 00 1a 02faf080")
    expected += b"\x69stop_time" + bytes.fromhex("82 1a 000f4240 1a 02faf080")
    expected += b"\x6bseries_date\xc0\x78\x1d2023-02-10T15:49:05.281+01:00"
    expected += b"\x64data\xa1\x6bthreshold_1" + bytes.fromhex("d828 82 82 190202 190406 d845 d9dcb4 83")
    expected += b"\x65bslz4" + bytes.fromhex("02 5a 00026736") + blob
    assert message == expected


@pytest.mark.parametrize("size_bytes", [0, 23, 24, 255, 256, 65535, 65536])
def test_v2_length_of_the_pixels_has_the_shortest_form(size_bytes: int) -> None:
    (message,) = encode.image_v2(START, frame(bytes(size_bytes), "none"))
    whole = cbor2.loads(message)
    assert len(whole["data"]["threshold_1"].value[1].value) == size_bytes
    assert bytes(message).endswith(cbor2.dumps(bytes(size_bytes)))


def test_v2_end_is_69_bytes() -> None:
    (message,) = encode.end_v2(SeriesEnd(1, UNIQUE_ID))
    assert (
        message == b"\xd9\xd9\xf7\xa3\x64type\x63end\x69series_id\x01\x70series_unique_id\x78\x1a" + UNIQUE_ID.encode()
    )
    assert len(message) == 69


def test_v2_header_without_arrays_unless_asked_for_all() -> None:
    (basic,), (everything,) = encode.start_v2(START, "basic"), encode.start_v2(START, "all")
    assert b"flatfield_enabled" in basic
    assert b"pixel_mask\xa1" not in basic
    assert b"\x6apixel_mask\xa1\x6bthreshold_1\xd8\x28\x82\x82\x02\x03\xd8\x46\x58\x18" in everything
    assert b"\x69flatfield\xa1\x6bthreshold_1\xd8\x28\x82\x82\x02\x03\xd8\x55\x58\x18" in everything
    assert everything.startswith(b"\xd9\xd9\xf7\xb4\x64type\x65start")


def test_v2_own_fields_win_over_the_header_s() -> None:
    again = SeriesStart(7, UNIQUE_ID, header={"type": "end", "series_id": 6})
    start = v2.decode(bytes(encode.start_v2(again)[0]), 0.0)
    assert isinstance(start, SeriesStart)
    assert start.series == 7


def test_v2_data_are_those_of_a_real_detector(shared_data: Path) -> None:
    with (shared_data / "streams" / "eiger1_1m_v2.cbors").open("rb") as stream:
        messages = [cbor2.load(stream)[0] for _ in range(3)]
    for real in messages[1:]:
        decoded = v2.decode(real, 0.0)
        assert isinstance(decoded, Frame)
        (ours,) = encode.image_v2(START, decoded)
        assert bytes(ours)[bytes(ours).index(b"\x64data") :] == real[real.index(b"\x64data") :]


def test_what_a_protocol_has_no_name_for_is_refused() -> None:
    with pytest.raises(UnsupportedEncoding, match="lz4hdf5"):
        encode.image_v1(START, frame(codec="lz4hdf5"))
    with pytest.raises(UnsupportedEncoding, match="codec lz4 "):
        encode.image_v2(START, frame(codec="lz4"))
    for image in (encode.image_v1, encode.image_v2):
        with pytest.raises(UnsupportedEncoding, match="float64"):
            image(START, frame(dtype="float64"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32"])
def test_compressed_pixels_carry_a_true_header(dtype: str) -> None:
    blob = encode.compress_bslz4(np.ones((100, 201), dtype))
    assert struct.unpack(">QI", blob[:12]) == (100 * 201 * np.dtype(dtype).itemsize, 8192)
