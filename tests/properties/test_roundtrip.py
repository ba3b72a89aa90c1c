"""decode(encode(m)) == m for every message of the vocabulary, in both protocols."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ringwatch.messages import MAX_FRAME_ID, Frame, SeriesEnd, SeriesStart
from ringwatch.stream.decode import decode
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.encode import ENCODERS, StreamVersion, compress_bslz4
from ringwatch.stream.fields import PIXEL_TYPES, PIXEL_TYPES_V2

CODECS = {"v1": ("none", "lz4", "bslz4"), "v2": ("none", "lz4hdf5", "bslz4")}
VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])

series_ids = st.integers(0, 2**31)
names = st.text("ABCDEFGHJKMNPQRSTVWXYZ0123456789", max_size=26)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
positive = st.floats(1e-9, 1e9)
scalars = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(-1e9, 1e9) | st.text(max_size=20)
headers = st.dictionaries(st.text("abcdefghij_", min_size=1, max_size=12), scalars, max_size=8)


@st.composite
def starts(draw: Any, version: StreamVersion) -> SeriesStart:
    shape = draw(shapes)
    return SeriesStart(
        series=draw(series_ids),
        unique_id=draw(names) if version == "v2" else "",
        header=draw(headers),
        shape=shape,
        dtype=draw(st.sampled_from([np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32)])),
        frames_expected=draw(st.none() | st.integers(1, 10**6)),
        frame_time_s=draw(st.none() | positive),
        energy_eV=draw(st.none() | positive),
        pixel_size_m=draw(st.none() | st.tuples(positive, positive)),
        saturation=draw(st.none() | st.integers(1, 2**32 - 1)),
        pixel_mask=draw(npst.arrays(np.bool_, shape)),
        flatfield=draw(npst.arrays(np.float32, shape, elements=st.floats(0, 2, width=32))),
        flatfield_applied=draw(st.none() | st.booleans()),
        sample=draw(st.none() | st.text(min_size=1, max_size=20)),
    )


@st.composite
def frames(draw: Any, version: StreamVersion) -> Frame:
    dtype = draw(st.sampled_from(list((PIXEL_TYPES if version == "v1" else PIXEL_TYPES_V2).values())))
    return Frame(
        series=draw(series_ids),
        frame=draw(st.integers(0, MAX_FRAME_ID - 1)),
        shape=draw(shapes),
        dtype=dtype,
        codec=draw(st.sampled_from(CODECS[version])),
        data=draw(st.binary(max_size=100_000)),
        unique_id=draw(names) if version == "v2" else "",
        received_s=draw(positive),
        big_endian=draw(st.booleans()) and dtype.itemsize > 1,
    )


@VERSIONS
@settings(max_examples=40)
@given(data=st.data())
def test_start_comes_back(version: StreamVersion, data: st.DataObject) -> None:
    start = data.draw(starts(version))
    back = decode(ENCODERS[version].start(start, "all"), 0.0)
    assert isinstance(back, SeriesStart)
    assert {key: back.header.get(key, "absent") for key in start.header} == start.header
    for name in SeriesStart.__slots__:
        if name != "header":
            np.testing.assert_equal(getattr(back, name), getattr(start, name), err_msg=name)


@VERSIONS
@settings(max_examples=40)
@given(data=st.data())
def test_frame_comes_back(version: StreamVersion, data: st.DataObject) -> None:
    frame = data.draw(frames(version))
    start = data.draw(starts(version))
    assert decode(ENCODERS[version].image(start, frame), frame.received_s) == frame


@VERSIONS
@settings(max_examples=40)
@given(series=series_ids, name=names)
def test_end_comes_back(version: StreamVersion, series: int, name: str) -> None:
    end = SeriesEnd(series, name if version == "v2" else "")
    assert decode(ENCODERS[version].end(end), 0.0) == end


@VERSIONS
@settings(max_examples=40)
@given(
    pixels=st.sampled_from(list(PIXEL_TYPES.values())).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=2, max_dims=2, max_side=90))
    )
)
def test_compressed_pixels_come_back(version: StreamVersion, pixels: np.ndarray) -> None:
    frame = Frame(1, 0, pixels.shape, pixels.dtype, "bslz4", compress_bslz4(pixels))
    back = decode(ENCODERS[version].image(SeriesStart(1), frame), 0.0)
    assert isinstance(back, Frame)
    out = np.empty_like(pixels)
    decode_into(back, out)
    np.testing.assert_array_equal(out, pixels)
