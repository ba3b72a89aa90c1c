"""What real detectors sent, and what is known of it independently."""

from pathlib import Path

import dectris.compression
import numpy as np
import pytest
from wire import Pixels, recorded

from ringwatch.errors import MalformedMessage, UnsupportedEncoding
from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.stream.decode import Decoded, decode
from ringwatch.stream.decompress import decode_into
from ringwatch_gpu.validity import Validity


def decoded(folder: Path, name: str) -> list[Decoded]:
    messages = [decode([memoryview(p) for p in parts], 0.0) for parts in recorded(folder / "streams" / name)]
    return [message for message in messages if message is not None]


def image(message: Decoded) -> Pixels:
    assert isinstance(message, Frame)
    out = np.empty(message.shape, message.dtype)
    decode_into(message, out)
    return out


SUMS = {
    "eiger1_1m_v1_all.cbors": ("uint32", [9, 17, 45, 32, 8, 3, 3, 6, 0]),
    "eiger1_1m_v2.cbors": (
        "uint32",
        [51117, 52330, 51177, 51513, 50318, 50657, 51100, 51786, 51881, 51206],
    ),
    "eiger1_4m_v1_scattering.cbors": ("uint16", [4609824] * 3),
    "eiger2_16m_v2.cbors": ("uint16", [13712]),
    "eiger2_9m_v1_truncated.cbors": ("", []),
}
"""Counts of all pixels that hold data, by frame."""


def test_every_recorded_stream_is_known(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "streams").iterdir()} == set(SUMS)


@pytest.mark.parametrize("name", [name for name, (dtype, _) in SUMS.items() if dtype])
def test_every_recorded_frame_has_its_sum(shared_data: Path, name: str) -> None:
    """As DECTRIS' own decompressor has it, called as its documentation says."""
    dtype, sums = SUMS[name]
    found = []
    for frame in decoded(shared_data, name):
        if isinstance(frame, Frame):
            pixels = image(frame)
            plain = dectris.compression.decompress(bytes(frame.data), "bslz4", elem_size=frame.dtype.itemsize)
            np.testing.assert_array_equal(np.frombuffer(plain, frame.dtype).reshape(frame.shape), pixels)
            found.append(int(pixels[~Validity.of(frame.dtype).invalid(pixels)].sum(dtype=np.uint64)))
            assert frame.dtype == dtype
    assert found == sums


@pytest.mark.parametrize(("name", "threshold_eV"), [("eiger1_1m_v2.cbors", 4000.0), ("eiger2_16m_v2.cbors", 6750.15)])
def test_a_threshold_that_has_an_energy_but_is_not_sent_is_told(
    shared_data: Path,
    name: str,
    threshold_eV: float,
) -> None:
    start, first = (parts[0] for _, parts in zip(range(2), recorded(shared_data / "streams" / name), strict=False))
    right, wrong = (decode([start], 0.0, channel) for channel in ("threshold_1", "threshold_2"))
    assert isinstance(right, SeriesStart)
    assert isinstance(wrong, SeriesStart)
    assert right.problem == ""
    assert right.header["threshold_energy"] == pytest.approx(threshold_eV)
    assert wrong.problem.startswith("stream.channel = 'threshold_2', but the detector sends only 'threshold_1'")
    with pytest.raises(MalformedMessage, match="sends only 'threshold_1'"):
        decode([first], 0.0, "threshold_2")


def test_eiger1_1m_v1_with_all_details(shared_data: Path) -> None:
    start, *frames = decoded(shared_data, "eiger1_1m_v1_all.cbors")
    assert isinstance(start, SeriesStart)
    assert (start.series, start.shape, start.dtype) == (14, (1065, 1030), np.uint32)
    assert (start.frames_expected, start.energy_eV, start.saturation) == (100000, 8000.0, 2943293)
    assert (start.flatfield_applied, start.sample) == (True, None)
    assert start.pixel_mask is not None
    assert start.flatfield is not None
    assert [f.frame for f in frames if isinstance(f, Frame)] == list(range(9))
    for frame in frames:
        pixels = image(frame)
        assert np.all(pixels[start.pixel_mask] == 2**32 - 1)
        assert np.all(pixels[pixels < 2**32 - 1] <= 2943293)
    assert start.header["number_of_excluded_pixels"] == np.count_nonzero(start.pixel_mask) == 38129
    assert 0.9 < np.median(start.flatfield[~start.pixel_mask]) < 1.1


def test_eiger1_1m_v2(shared_data: Path) -> None:
    start, *frames, end = decoded(shared_data, "eiger1_1m_v2.cbors")
    assert isinstance(start, SeriesStart)
    assert (start.shape, start.dtype, start.frames_expected, start.sample) == ((1065, 1030), None, 10, "lyso")
    assert end == SeriesEnd(16, "01HRCJF83SA63WH8M5X1VBKFJM") == SeriesEnd(start.series, start.unique_id)
    assert start.pixel_mask is not None
    assert len(frames) == 10
    for frame in frames:
        np.testing.assert_array_equal(image(frame) == 2**32 - 1, start.pixel_mask)


def test_eiger1_4m_v1_with_scattering(shared_data: Path) -> None:
    *frames, end = decoded(shared_data, "eiger1_4m_v1_scattering.cbors")
    assert end == SeriesEnd(6)
    assert len(frames) == 3
    pixels = image(frames[0])
    assert (pixels.shape, pixels.dtype) == ((2167, 2070), np.uint16)
    assert pixels.max() == 65535
    assert np.count_nonzero(pixels == 65535) == 251297
    assert np.all(pixels[514:551] == 65535)
    assert np.all(pixels[:, 1030:1040] == 65535)
    assert 0.3 < np.mean(pixels[pixels < 65535]) < 3


def test_eiger2_16m_v2(shared_data: Path) -> None:
    start, frame, end = decoded(shared_data, "eiger2_16m_v2.cbors")
    assert isinstance(start, SeriesStart)
    assert (start.shape, start.saturation, start.pixel_mask, start.flatfield) == ((4362, 4148), 21517, None, None)
    assert isinstance(end, SeriesEnd)
    pixels = image(frame)
    assert (pixels.shape, pixels.dtype) == ((4362, 4148), np.uint16)
    gaps = pixels == 65535
    assert np.count_nonzero(gaps.all(axis=1)) == 266
    assert np.count_nonzero(gaps.all(axis=0)) == 36
    assert np.count_nonzero(gaps) == 1253075
    assert pixels[~gaps].max() <= 21517


@pytest.mark.parametrize("name", ["eiger1_1m_v1_all.cbors", "eiger1_1m_v2.cbors", "eiger2_16m_v2.cbors"])
def test_real_images_damaged_at_random_are_decoded_or_refused(shared_data: Path, name: str) -> None:
    parts = list(recorded(shared_data / "streams" / name))[1]
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(30):
        position = random.integers(len(parts))
        damaged = np.frombuffer(parts[position], np.uint8).copy()
        damaged[random.integers(damaged.size, size=random.integers(1, 20))] ^= np.uint8(1 << random.integers(8))
        try:
            message = decode([damaged.tobytes() if i == position else part for i, part in enumerate(parts)], 0.0)
            if isinstance(message, Frame) and message.decoded_bytes < 1 << 26:
                image(message)
        except (MalformedMessage, UnsupportedEncoding):
            refused += 1
    assert refused


def test_of_a_truncated_series_every_image_is_malformed(shared_data: Path) -> None:
    header, *images, end = recorded(shared_data / "streams" / "eiger2_9m_v1_truncated.cbors")
    with pytest.raises(MalformedMessage):
        decode(header, 0.0)
    assert len(images) == 3
    for parts in images:
        message = decode(parts, 0.0)
        assert message is not None
        with pytest.raises(MalformedMessage) as caught:
            image(message)
        assert caught.value.reason == "lz4"
    assert decode(end, 0.0) == SeriesEnd(6)
