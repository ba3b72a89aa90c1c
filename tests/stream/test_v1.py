from collections.abc import Sequence

import numpy as np
import pytest
from wire import Pixels, bslz4, lz4_bare, pixels, text, v1_arrays, v1_end, v1_header, v1_image

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import Codec, Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream import fields, v1
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.fields import Payload
from ringwatch.stream.v1 import HeaderContinuation

IMAGE = pixels()
FLAT = np.linspace(0.5, 2, IMAGE.size, dtype="<f4").reshape(IMAGE.shape)
MASK = (pixels(seed=2) > 5).astype("<u4") * 2


def decode(parts: Sequence[Payload], received_s: float) -> StreamMessage | HeaderContinuation | None:
    return v1.decode(fields.json_map(parts[0]), parts, received_s)


def start(parts: list[bytes]) -> SeriesStart:
    message = decode(parts, 0.0)
    assert isinstance(message, SeriesStart)
    return message


def frame(parts: list[bytes]) -> Frame:
    message = decode(parts, 7.0)
    assert isinstance(message, Frame)
    return message


def reason(parts: list[bytes]) -> str:
    with pytest.raises(MalformedMessage) as caught:
        decode(parts, 0.0)
    return caught.value.reason


# ------------------------------------------------------------------------------------------------------------- header


def test_a_header_without_detail_gives_the_number_of_the_series() -> None:
    message = start(v1_header(series=7, detail="none"))
    assert (message.series, message.unique_id, message.shape, message.joined) == (7, "", None, False)


def test_after_a_header_without_detail_an_appendix_may_be_anything() -> None:
    assert start([*v1_header(detail="none"), b"\xff"]).header == {"header_detail": "none"}


def test_a_basic_header_fills_the_typed_fields() -> None:
    message = start(v1_header())
    assert message.shape == (61, 67)
    assert message.dtype == np.uint16
    assert message.frames_expected == 20
    assert message.frame_time_s == 0.005
    assert message.energy_eV == 40000.0
    assert message.pixel_size_m == (0.000172, 0.000075)
    assert message.saturation == 40000
    assert message.flatfield_applied is True
    assert message.header["photon_energy"] == 40000.0
    assert message.pixel_mask is message.flatfield is message.sample is None


@pytest.mark.parametrize("prefix", ["d", ""], ids=["dflatfield", "flatfield"])
def test_a_full_header_brings_flat_mask_and_sample(prefix: str) -> None:
    message = start([*v1_header(detail="all"), *v1_arrays(FLAT, MASK, prefix), text(sample="CeO2")])
    assert message.flatfield is not None
    assert message.pixel_mask is not None
    np.testing.assert_array_equal(message.flatfield, FLAT)
    np.testing.assert_array_equal(message.pixel_mask, MASK != 0)
    assert message.sample == "CeO2"


@pytest.mark.parametrize("appendix", [b"", b"\x00\xff", b"plain words", b"[1]", b'{"sample": 3}', b'"x"'])
def test_an_appendix_may_be_anything(appendix: bytes) -> None:
    assert start([*v1_header(), appendix]).sample is None


def test_the_configuration_may_come_as_a_message_of_its_own() -> None:
    first, config = v1_header(series=3)
    rest = decode([config], 0.0)
    assert isinstance(rest, HeaderContinuation)
    assert rest.merged_into(start([first])) == start([first, config])


def test_old_firmware_writes_flags_as_numbers_and_no_bit_depth() -> None:
    message = start(v1_header(flatfield_correction_applied=0, bit_depth_image=None))
    assert message.flatfield_applied is False
    assert message.dtype is None


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"nimages": "ten"}, "frames_expected"),
        ({"nimages": 1 << 47, "ntrigger": 4}, "frames_expected"),
        ({"frame_time": -1}, "frame_time_s"),
        ({"photon_energy": float("nan")}, "energy_eV"),
        ({"photon_energy": float("inf")}, "energy_eV"),
        ({"photon_energy": 10**400}, "energy_eV"),
        ({"x_pixel_size": True}, "pixel_size_m"),
        ({"countrate_correction_count_cutoff": 0}, "saturation"),
        ({"x_pixels_in_detector": None}, "shape"),
        ({"flatfield_correction_applied": "yes"}, "flatfield_applied"),
    ],
)
def test_what_a_header_says_wrongly_counts_as_not_said(said: dict[str, object], field: str) -> None:
    assert getattr(start(v1_header(**said)), field) is None


def test_the_kept_header_is_bounded_and_holds_scalars_only() -> None:
    odd = {"long": "x" * 5000, "list": [1], "huge": 10**30, "nan": float("nan")}
    many = odd | {f"key{i}": i for i in range(1000)}
    header = start(v1_header(**many)).header
    assert len(header) <= 257
    assert all(isinstance(value, str | int | float | bool | None) for value in header.values())
    assert odd.keys().isdisjoint(header)


def test_arrays_of_the_wrong_size_or_type_make_the_header_malformed() -> None:
    arrays = v1_arrays(FLAT, MASK)
    assert reason([*v1_header(detail="all"), arrays[0], arrays[1][:-1]]) == "array"
    assert reason([*v1_header(detail="all"), arrays[0]]) == "array"
    described = text(htype="dpixelmask-1.0", shape=[67, 61], type="float64")
    assert reason([*v1_header(detail="all"), described, arrays[3]]) == "array"


# -------------------------------------------------------------------------------------------------------------- image


@pytest.mark.parametrize(
    ("dtype", "encoding", "codec", "encoder"),
    [
        ("<u2", "<", "none", None),
        (">u2", ">", "none", None),
        ("<u2", "lz4<", "lz4", lz4_bare),
        (">u4", "lz4>", "lz4", lz4_bare),
        ("|u1", "bs8-lz4<", "bslz4", bslz4),
        ("<u2", "bs16-lz4<", "bslz4", bslz4),
        (">u2", "bs16-lz4>", "bslz4", bslz4),
        ("<u4", "bs32-lz4<", "bslz4", bslz4),
        ("<u4", "bs32lz4<", "bslz4", bslz4),
    ],
)
def test_every_encoding_gives_the_pixels_back(dtype: str, encoding: str, codec: Codec, encoder: object) -> None:
    image = pixels(dtype=dtype)
    blob = encoder(image) if callable(encoder) else None
    message = frame(v1_image(image, 5, 9, encoding, blob))
    assert (message.series, message.frame, message.shape, message.codec) == (9, 5, (61, 67), codec)
    assert (message.unique_id, message.received_s, message.dtype) == ("", 7.0, image.dtype.newbyteorder("="))
    out = np.empty(message.shape, message.dtype)
    decode_into(message, out)
    np.testing.assert_array_equal(out, image)


def test_the_blob_is_not_copied() -> None:
    parts = v1_image(IMAGE)
    assert frame(parts).data is parts[2]


@pytest.mark.parametrize("n_parts", [3, 4, 5])
def test_the_last_parts_of_an_image_may_be_absent_or_anything(n_parts: int) -> None:
    assert frame([*v1_image(IMAGE), b"user's \xff text"][:n_parts]).frame == 0


def test_a_third_size_of_one_is_no_harm() -> None:
    assert frame(v1_image(IMAGE, shape=[67, 61, 1])).shape == (61, 67)


def test_the_size_in_the_message_is_not_trusted() -> None:
    assert frame(v1_image(IMAGE, size=12)).size_bytes == IMAGE.nbytes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"shape": [67]}, "shape"),
        ({"shape": [67, 61, 2]}, "shape"),
        ({"shape": [67, 0]}, "shape"),
        ({"shape": [67, -1]}, "shape"),
        ({"shape": [True, 61]}, "shape"),
        ({"shape": [67.0, 61]}, "shape"),
        ({"shape": [1 << 20, 1 << 20]}, "shape"),
        ({"shape": "67x61"}, "shape"),
        ({"encoding": "bs32-lz4<"}, "encoding"),
    ],
)
def test_images_that_contradict_themselves_are_malformed(changes: dict[str, object], expected: str) -> None:
    assert reason(v1_image(IMAGE, **changes)) == expected


@pytest.mark.parametrize("number", [-1, 1 << 48, 1.5, True, None, "3"])
def test_frame_numbers_are_whole_and_below_two_to_the_48(number: object) -> None:
    parts = v1_image(IMAGE)
    parts[0] = text(htype="dimage-1.0", series=1, frame=number)
    assert reason(parts) == "fields"


@pytest.mark.parametrize(
    "changes",
    [{"encoding": e} for e in ("", "bs16<", "bs64-lz4<", "zstd<", "lz4<<", None, 3)]
    + [{"type": t} for t in ("float32", "uint64", "object", None, [])],
)
def test_what_is_not_supported_says_so(changes: dict[str, object]) -> None:
    with pytest.raises(UnsupportedEncoding):
        decode(v1_image(IMAGE, **changes), 0.0)


def test_an_image_without_blob_is_malformed() -> None:
    assert reason(v1_image(IMAGE)[:2]) == "parts"


# --------------------------------------------------------------------------------------------------------- all others


@pytest.mark.parametrize("htype", ["dseries_end-1.0", "deseries_end-1.0"])
def test_the_end_is_known_by_a_part_of_its_name(htype: str) -> None:
    assert decode(v1_end(4, htype), 0.0) == SeriesEnd(4)


@pytest.mark.parametrize("htype", ["dsomething-1.0", "", 5, None])
def test_unknown_messages_are_passed_over(htype: object) -> None:
    assert decode([text(htype=htype, series=1)], 0.0) is None


@pytest.mark.parametrize(
    "part", [b"", b"{", b"[1]", b"nul", b"\xff", b'{"a":' * 20000, b"[" * 100000, b"{}" + b" " * (2 << 20), b"9" * 5000]
)
def test_what_is_no_small_json_object_is_malformed(part: bytes) -> None:
    assert reason([part]) == "json"


@pytest.mark.parametrize("series", [-1, 1 << 63, None, "1", 0.5])
def test_a_series_needs_a_number(series: object) -> None:
    assert reason([text(htype="dseries_end-1.0", series=series)]) == "fields"


def test_decoding_takes_views_as_well() -> None:
    for parts in (v1_header(), v1_image(IMAGE), v1_end()):
        assert decode([memoryview(part) for part in parts], 0.0) == decode(parts, 0.0)


def test_masks_are_in_rows_and_columns() -> None:
    mask: Pixels = np.zeros((2, 3), "<u4")
    mask[1, 0] = 1
    message = start([*v1_header(detail="all"), *v1_arrays(np.ones((2, 3)), mask)])
    assert message.pixel_mask is not None
    assert message.pixel_mask.tolist() == [[False, False, False], [True, False, False]]


def test_halves_of_characters_are_replaced_for_they_cannot_be_published() -> None:
    config = b'{"detector_description":"\\ud800 eiger","\\udfff":1}'
    message = decode([text(htype="dheader-1.0", series=1, header_detail="all"), config, b'{"sample":"\\ud800"}'], 0.0)
    assert isinstance(message, SeriesStart)
    assert message.header == {"header_detail": "all", "detector_description": "? eiger", "?": 1}
    assert message.sample == "?"
