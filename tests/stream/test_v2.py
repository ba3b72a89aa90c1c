import base64
import tracemalloc
from typing import Any

import cbor2
import numpy as np
import pytest
from wire import Pixels, array, bslz4, lz4hdf5, pixels, v2_end, v2_image, v2_start

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import Codec, Frame, SeriesEnd, SeriesStart
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.v2 import decode

IMAGE = pixels()
FLAT = np.linspace(0.5, 2, IMAGE.size, dtype="<f4").reshape(IMAGE.shape)
MASK = (pixels(seed=2) > 5).astype("<u4") * 2


def start(**changes: object) -> SeriesStart:
    message = decode(v2_start(**changes), 0.0)
    assert isinstance(message, SeriesStart)
    return message


def frame(data: dict[str, object], channel: str = "threshold_1", **changes: object) -> Frame:
    message = decode(v2_image(data, **changes), 7.0, channel)
    assert isinstance(message, Frame)
    return message


def reason(message: bytes) -> str:
    with pytest.raises(MalformedMessage) as caught:
        decode(message, 0.0)
    return caught.value.reason


# -------------------------------------------------------------------------------------------------------------- start


def test_a_start_fills_the_typed_fields() -> None:
    message = start()
    assert (message.series, message.unique_id, message.joined) == (1, "01", False)
    assert message.shape == (61, 67)
    assert message.dtype == np.uint16
    assert message.frames_expected == 20
    assert message.frame_time_s == 0.005
    assert message.energy_eV == 40000.0
    assert message.pixel_size_m == (0.000172, 0.000075)
    assert message.saturation == 40000
    assert message.flatfield_applied is False
    assert message.sample == "CeO2"
    assert message.pixel_mask is message.flatfield is None


def test_a_start_may_announce_floats() -> None:
    assert start(image_dtype="float32").dtype == np.float32
    assert start(image_dtype="float64").dtype is None


def test_old_firmware_says_no_type() -> None:
    assert start(image_dtype=None).dtype is None
    assert start(image_dtype=["uint16"]).dtype is None


@pytest.mark.parametrize(
    ("user_data", "sample"),
    [
        ({"sample": "Si"}, "Si"),
        ('{"sample_name": "lyso", "user": "x"}', "lyso"),
        (b'{"sample": "Si"}', "Si"),
        ("Si", None),
        ({"sample": 3}, None),
        ([1, {"sample": "Si"}], None),
        (None, None),
    ],
)
def test_the_sample_is_looked_for_in_the_user_data(user_data: object, sample: str | None) -> None:
    assert start(user_data=user_data).sample == sample


@pytest.mark.parametrize("tag", [40, 1040], ids=["rows", "columns"])
@pytest.mark.parametrize("compressed", [False, True])
def test_flat_and_mask_come_in_either_order_compressed_or_not(tag: int, compressed: bool) -> None:
    def sent(image: Pixels) -> cbor2.CBORTag:
        memory = np.ascontiguousarray(image.T) if tag == 1040 else image
        chunk = ["bslz4", 4, bslz4(memory)] if compressed else None
        message = array(memory, chunk, tag)
        message.value[0] = list(image.shape)
        return message

    message = start(flatfield={"threshold_1": sent(FLAT)}, pixel_mask={"threshold_1": sent(MASK)})
    assert message.flatfield is not None
    assert message.pixel_mask is not None
    np.testing.assert_array_equal(message.flatfield, FLAT)
    np.testing.assert_array_equal(message.pixel_mask, MASK != 0)


def test_the_mask_is_that_of_the_channel_that_is_taken() -> None:
    sent = v2_start(pixel_mask={"a": array(MASK), "b": array(MASK * 0)})
    for channel, masked in (("a", MASK.any()), ("b", False)):
        message = decode(sent, 0.0, channel)
        assert isinstance(message, SeriesStart)
        assert message.pixel_mask is not None
        assert message.pixel_mask.any() == masked


def test_arrays_sent_as_text_are_passed_over() -> None:
    as_text = {"threshold_1": base64.b64encode(MASK.tobytes())}
    message = start(pixel_mask=as_text, flatfield=as_text)
    assert message.pixel_mask is message.flatfield is None


def test_a_mask_of_the_wrong_size_makes_the_start_malformed() -> None:
    short = array(MASK)
    short.value[1] = cbor2.CBORTag(70, MASK.tobytes()[:-4])
    assert reason(v2_start(pixel_mask={"threshold_1": short})) == "size"


# -------------------------------------------------------------------------------------------------------------- image


@pytest.mark.parametrize("tagged", [True, False], ids=["self-described", "bare"])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2", "<u4", ">u4", "|i1", "<i2", "<i4", "<f4", ">f4"])
@pytest.mark.parametrize("codec", ["none", "lz4hdf5", "bslz4"])
def test_every_codec_and_type_gives_the_pixels_back(codec: Codec, dtype: str, tagged: bool) -> None:
    image = pixels(dtype=dtype)
    chunks = {"none": None, "lz4hdf5": ["lz4", 0, lz4hdf5(image)], "bslz4": ["bslz4", image.itemsize, bslz4(image)]}
    message = frame({"threshold_1": array(image, chunks[codec])}, frame=5, tagged=tagged)
    assert (message.series, message.unique_id, message.frame, message.received_s) == (1, "01", 5, 7.0)
    assert (message.shape, message.codec) == ((61, 67), codec)
    out = np.empty(message.shape, message.dtype)
    decode_into(message, out)
    np.testing.assert_array_equal(out, image)


def test_the_channel_is_chosen_by_name_else_the_only_one() -> None:
    one, two = array(IMAGE), array(IMAGE + 1)
    both = {"threshold_2": two, "threshold_1": one}
    assert frame(both).data == IMAGE.tobytes()
    assert frame(both, "threshold_2").data == (IMAGE + 1).tobytes()
    assert frame({"default": two}).data == (IMAGE + 1).tobytes()
    with pytest.raises(MalformedMessage, match="sends only 'difference, threshold_2'"):
        frame({"difference": one, "threshold_2": two})
    with pytest.raises(MalformedMessage, match="sends only 'threshold_1'"):
        frame({"threshold_1": one}, "threshold_2")
    with pytest.raises(MalformedMessage, match="sends only 'difference'"):
        frame({"difference": one})


@pytest.mark.parametrize(
    ("channels", "wanted", "problem"),
    [
        (["threshold_1", "threshold_2", "difference"], "threshold_2", ""),
        (["threshold_2"], "threshold_1", ""),
        (["default"], "threshold_1", ""),
        (["1"], "threshold_1", ""),
        (["1", "2"], "threshold_2", ""),
        (None, "threshold_2", ""),
        ([5, None], "threshold_2", ""),
        (["threshold_1"], "threshold_2", "'threshold_2', but the detector sends only 'threshold_1': name one of these"),
        (["difference"], "threshold_1", "'threshold_1', but the detector sends only 'difference'"),
        (["a", "b"], "threshold_1", "sends only 'a, b'"),
    ],
)
def test_a_channel_that_the_start_does_not_announce_is_told(channels: object, wanted: str, problem: str) -> None:
    message = decode(v2_start(channels=channels), 0.0, wanted)
    assert isinstance(message, SeriesStart)
    assert problem in message.problem
    assert bool(message.problem) == bool(problem)


def test_the_header_keeps_the_threshold_of_the_channel() -> None:
    energies = {"threshold_1": 4000.0, "threshold_2": 12000.0}
    for channel, energy in energies.items():
        message = decode(v2_start(channels=list(energies), threshold_energy=energies), 0.0, channel)
        assert isinstance(message, SeriesStart)
        assert message.header["threshold_energy"] == energy
    assert "threshold_energy" not in start(threshold_energy={"a": 1.0, "b": 2.0}).header


SPOT = {"x": 1.5, "y": 2.5, "I": 12.0, "maxc": 9, "ice_ring": False, "indexed": True, "h": 1, "k": 2, "l": 3, "d": 2.1}


def test_jungfraujoch_s_messages_are_read() -> None:
    """Signed images with negative counts, of which one value means no data; lists of spots; messages of other types."""
    said = {"magic_number": 0x789B, "detector_distance": 0.155, "error_value": -32768, "saturation_value": 32767}
    said |= {"image_dtype": "int16", "channels": ["default"], "user_data": '{"sample_name": "lyso", "user": {}}'}
    message = start(**said, pixel_mask={"default": array(MASK)}, az_int_bin_to_q=array(FLAT))
    assert (message.dtype, message.dummy, message.saturation, message.sample) == (np.int16, -32768, 32767, "lyso")
    assert message.problem == ""
    np.testing.assert_array_equal(message.pixel_mask, MASK != 0)
    image = pixels(dtype="<i2") - 5
    told = frame({"default": array(image, ["bslz4", 2, bslz4(image)])}, spots=[SPOT] * 2000, az_int_profile=array(FLAT))
    out = np.empty(told.shape, told.dtype)
    decode_into(told, out)
    np.testing.assert_array_equal(out, image)
    for kind in ("calibration", "metadata"):
        assert decode(cbor2.dumps({"type": kind, "images": [{"image_id": 1}]}), 0.0) is None


@pytest.mark.parametrize("value", [-(1 << 40), 1 << 32, 1.5, "x", True, None])
def test_a_value_of_pixels_without_data_is_one_that_a_pixel_may_hold(value: object) -> None:
    assert start(error_value=value).dummy is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "channel"),
        (None, "fields"),
        ([1], "fields"),
        ({"t": 5}, "array"),
        ({"t": b"bytes"}, "array"),
        ({"t": cbor2.CBORTag(41, [])}, "array"),
        ({"t": cbor2.CBORTag(40, [[1, 2]])}, "array"),
        ({"t": cbor2.CBORTag(40, [[1, 2, 3], cbor2.CBORTag(69, b"")])}, "array"),
        ({"t": cbor2.CBORTag(40, [[0, 2], cbor2.CBORTag(69, b"")])}, "shape"),
        ({"t": cbor2.CBORTag(40, [[1 << 40, 1 << 40], cbor2.CBORTag(69, b"")])}, "shape"),
        ({"t": cbor2.CBORTag(40, [["1", 2], cbor2.CBORTag(69, b"")])}, "shape"),
        ({"t": cbor2.CBORTag(40, [[1, 2], b"bare"])}, "array"),
        ({"t": cbor2.CBORTag(40, [[1, 2], cbor2.CBORTag(69, "text")])}, "array"),
        ({"t": cbor2.CBORTag(40, [[1, 2], cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4", 2]))])}, "array"),
        ({"t": cbor2.CBORTag(40, [[1, 2], cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4", 4, b""]))])}, "array"),
        ({"t": cbor2.CBORTag(40, [[1, 2], cbor2.CBORTag(69, cbor2.CBORTag(56501, ["bslz4", 2, b""]))])}, "array"),
    ],
)
def test_images_that_are_no_arrays_are_malformed(data: dict[str, object], expected: str) -> None:
    assert reason(v2_image(data)) == expected


@pytest.mark.parametrize(
    "sent",
    [
        array(IMAGE, ["bszstd", 2, b"x"]),
        array(IMAGE, [None, 2, b"x"]),
        array(IMAGE, typed_tag=71),
        array(IMAGE, typed_tag=83),
        array(IMAGE, typed_tag=86),
        array(IMAGE, tag=1040),
    ],
    ids=["zstd", "no algorithm", "uint64", "float128", "float64", "column-major"],
)
def test_what_is_not_supported_says_so(sent: cbor2.CBORTag) -> None:
    with pytest.raises(UnsupportedEncoding):
        frame({"threshold_1": sent})


@pytest.mark.parametrize("number", [-1, 1 << 48, 1.5, True, None, "3"])
def test_frame_numbers_are_whole_and_below_two_to_the_48(number: object) -> None:
    assert reason(v2_image({"threshold_1": array(IMAGE)}, image_id=number)) == "fields"


def test_a_broken_date_or_regular_expression_is_no_reason_to_lose_a_frame() -> None:
    user_data = [cbor2.CBORTag(35, "("), cbor2.CBORTag(4, "x")]
    odd: dict[str, Any] = {"series_date": cbor2.CBORTag(0, "yesterday"), "user_data": user_data}
    assert frame({"threshold_1": array(IMAGE)}, **odd).frame == 0


# ---------------------------------------------------------------------------------------------------------- all others


@pytest.mark.parametrize("tagged", [True, False])
def test_the_end(tagged: bool) -> None:
    assert decode(v2_end(tagged), 0.0) == SeriesEnd(1, "01")


def test_unknown_messages_are_passed_over() -> None:
    for said in ({}, {"type": "calibration"}, {"type": None}, {"type": ["image"]}):
        assert decode(cbor2.dumps(said), 0.0) is None


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"\xa1", b"\x01", b"\xd9\xd9\xf7", b"\xa1\x64type", b"\xa1\x01\x02", b"\xd9\xd9\xf7\x80"),
        *(b"\x81" * 10000, b"\xa1\x61a" * 10000, b"\x9b" + b"\xff" * 8, b"\xa1\x61a\x5b\x7f" + b"\xff" * 7),
    ],
)
def test_what_is_no_shallow_map_is_malformed(message: bytes) -> None:
    assert reason(message) == "cbor"


@pytest.mark.parametrize("opening", [b"\x9a\x00\x10\x00\x00", b"\x9f", b"\xd9\xd9\xf7\x9f", b"\x81\x81\x9f"])
@pytest.mark.parametrize("item", [b"\x80", b"\xa0", b"\x60", b"\x19\x01\x02", b"\x41a", b"\x7f\xff"])
def test_what_would_grow_in_memory_is_refused_before_it_is_decoded(opening: bytes, item: bytes) -> None:
    """An empty list takes one byte on the wire and sixty in memory."""
    message = b"\xa1\x64user" + opening + item * (1 << 20)
    tracemalloc.start()
    with pytest.raises(MalformedMessage, match="more than"):
        decode(message, 0.0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_many_bytes_and_some_thousand_items_are_no_harm() -> None:
    user_data = {"positions": list(range(5000)), "picture": bytes(1 << 22), "text": "x" * 100_000}
    assert decode(v2_start(user_data=user_data), 0.0) is not None
