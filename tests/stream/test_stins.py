"""MAX IV's streaming receiver and PSI's array-1.0, byte by byte as their senders write them."""

import numpy as np
import pytest
from wire import bslz4, pixels, stins_end, stins_header, stins_image, text

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.stream.decode import decode
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.series import SeriesTable
from ringwatch.stream.stins import UNNUMBERED

IMAGE = pixels()


def frame(parts: list[bytes], channel: str = "threshold_1") -> Frame:
    message = decode([memoryview(part) for part in parts], 7.0, channel)
    assert isinstance(message, Frame)
    return message


def decoded(message: Frame) -> np.ndarray:
    out = np.empty(message.shape, message.dtype)
    decode_into(message, out)
    return out


def test_a_header_says_the_number_of_its_message_and_of_the_detector_what_it_knows() -> None:
    config = {"count_time": 0.01, "nimages": 4, "ntrigger": 5, "photon_energy": 35000.0, "threshold_energy": 17500}
    config |= {"countrate_correction_count_cutoff": 40000, "flatfield_correction_applied": True}
    message = decode(stins_header(375, **config), 0.0)
    assert isinstance(message, SeriesStart)
    assert (message.series, message.frames_expected, message.energy_eV, message.saturation) == (375, 20, 35000.0, 40000)
    assert (message.shape, message.dtype, message.flatfield_applied) == (None, None, True)
    assert message.header["threshold_energy"] == 17500
    assert message.header["filename"] == "/data/visitors/scan_42.h5"


def test_a_header_may_say_nothing() -> None:
    message = decode([text(htype="header")], 0.0)
    assert isinstance(message, SeriesStart)
    assert (message.series, message.frames_expected, message.sample) == (0, None, None)


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4", "<i2", "<i4", "<f4"])
@pytest.mark.parametrize("packed", ["none", "with header", "without header"])
def test_pixels_come_back(dtype: str, packed: str) -> None:
    """The receiver passes a detector's chunk on, and packs what it has turned itself without the chunk's header."""
    image = pixels(dtype=dtype)
    blob = {"none": None, "with header": bslz4(image), "without header": bslz4(image)[12:]}[packed]
    message = frame(stins_image(image, 12, blob))
    assert (message.frame, message.received_s, message.series) == (12, 7.0, UNNUMBERED)
    np.testing.assert_array_equal(decoded(message), image)


@pytest.mark.parametrize("channel", ["threshold_1", "threshold_2"])
def test_of_several_thresholds_one_is_taken(channel: str) -> None:
    parts = stins_image(IMAGE, 0, bslz4(IMAGE), shape=[2, *IMAGE.shape], chunks=[1, *IMAGE.shape])
    message = frame([*parts, bslz4(IMAGE + 1)], channel)
    np.testing.assert_array_equal(decoded(message), IMAGE + (channel == "threshold_2"))


@pytest.mark.parametrize("channel", ["threshold_3", "threshold_0", "threshold", "²"])
def test_a_threshold_that_is_not_there_is_named(channel: str) -> None:
    parts = [*stins_image(IMAGE, shape=[2, *IMAGE.shape]), IMAGE.tobytes()]
    with pytest.raises(MalformedMessage, match=f"{channel} is none of 2 thresholds"):
        frame(parts, channel)


def test_the_only_one_is_taken_whatever_its_name() -> None:
    np.testing.assert_array_equal(decoded(frame(stins_image(IMAGE, shape=[1, *IMAGE.shape]), "threshold_2")), IMAGE)


def test_psi_s_arrays_are_images_without_a_series() -> None:
    parts = [text(htype="array-1.0", type="uint16", shape=list(IMAGE.shape), frame=3), IMAGE.tobytes()]
    np.testing.assert_array_equal(decoded(frame(parts)), IMAGE)
    joined, *frames = SeriesTable().feed(frame(parts), 0.0)
    assert isinstance(joined, SeriesStart)
    assert (joined.series, joined.joined, len(frames)) == (0, True, 1)


@pytest.mark.parametrize("changes", [{"compression": "lz4"}, {"type": "float64"}, {"type": None}, {"type": "O"}])
def test_what_is_not_supported_says_so(changes: dict[str, object]) -> None:
    with pytest.raises(UnsupportedEncoding):
        frame(stins_image(IMAGE, **changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"shape": [61]}, "shape"),
        ({"shape": [1, 1, 61, 67]}, "shape"),
        ({"shape": [True, 67]}, "shape"),
        ({"shape": [2, 61, 67]}, "parts"),
        ({"shape": [0, 61, 67]}, "parts"),
        ({"frame": None}, "fields"),
    ],
)
def test_images_that_contradict_themselves_are_malformed(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        frame(stins_image(IMAGE, **changes))
    assert caught.value.reason == expected


def test_images_and_the_end_belong_to_the_series_that_is_open() -> None:
    table = SeriesTable()
    said = [stins_header(7), stins_image(IMAGE, 0), stins_image(IMAGE, 1), stins_end()]
    messages = [seen for n, parts in enumerate(said) for seen in table.feed(decode(parts, 0.0), float(n))]
    messages += table.tick(99.0)
    start, *frames, end = messages
    assert isinstance(start, SeriesStart)
    assert [(m.series, m.unique_id) for m in messages] == 4 * [(7, start.unique_id)]
    assert [f.frame for f in frames if isinstance(f, Frame)] == [0, 1]
    assert isinstance(end, SeriesEnd)
    assert end.reason == "end"


def test_a_header_ends_the_series_before_whose_end_was_lost() -> None:
    table = SeriesTable()
    seen = [
        m
        for parts in (stins_header(7), stins_image(IMAGE), stins_header(9))
        for m in table.feed(decode(parts, 0.0), 0.0)
    ]
    assert [type(m) for m in seen] == [SeriesStart, Frame, SeriesEnd, SeriesStart]
    assert [m.series for m in seen] == [7, 7, 7, 9]
