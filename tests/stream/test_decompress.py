import ctypes
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters with HDF5
import lz4.block
import numpy as np
import pytest
from wire import Pixels, bslz4, lz4_bare, lz4hdf5, pixels

from ringwatch.errors import MalformedMessage
from ringwatch.messages import Codec, Frame
from ringwatch.stream import decompress
from ringwatch.stream.decompress import decode_into

ENCODERS = {"none": lambda image: image.tobytes(), "lz4": lz4_bare, "lz4hdf5": lz4hdf5, "bslz4": bslz4}
CODECS: list[Codec] = ["none", "lz4", "lz4hdf5", "bslz4"]


def decoded(image: Pixels, codec: Codec, data: bytes | memoryview, *, big_endian: bool = False) -> Pixels:
    native = image.dtype.newbyteorder("=")
    out = np.full(image.shape, 77, native)
    decode_into(Frame(1, 0, image.shape, native, codec, data, big_endian=big_endian), out)
    return out


@pytest.fixture(params=["exported", "documented"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The C function of the wheel, and what stands in for it."""
    if request.param == "documented":
        monkeypatch.setattr(decompress, "_decompress", decompress._documented)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shape", [(61, 67), (1, 8), (3, 3), (128, 64), (1, 1)])
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "i1", "<i2", "<i4"])
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_type_and_awkward_shape_gives_the_pixels_back(
    codec: Codec, dtype: str, shape: tuple[int, int]
) -> None:
    image = pixels(shape, dtype)
    np.testing.assert_array_equal(decoded(image, codec, memoryview(ENCODERS[codec](image))), image)


@pytest.mark.parametrize("dtype", [">u2", ">u4", ">i4"])
@pytest.mark.parametrize("codec", CODECS)
def test_big_endian_samples_are_swapped(codec: Codec, dtype: str) -> None:
    image = pixels(dtype=dtype)
    np.testing.assert_array_equal(decoded(image, codec, ENCODERS[codec](image), big_endian=True), image)


def test_all_four_bslz4_headers_give_the_same_pixels() -> None:
    image = pixels(dtype="<u4")
    real = bslz4(image)
    for chunk in (real, real[12:], bytes(12) + real[12:], real[:8] + bytes(4) + real[12:]):
        np.testing.assert_array_equal(decoded(image, "bslz4", chunk), image)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("codec", ["lz4", "lz4hdf5", "bslz4"])
def test_garbage_inside_a_sound_structure_is_malformed(codec: Codec) -> None:
    image = pixels()
    data = bytearray(ENCODERS[codec](image))
    data[20:60] = b"\xff" * 40
    with pytest.raises(MalformedMessage) as caught:
        decoded(image, codec, bytes(data))
    assert caught.value.reason == "lz4"


@pytest.mark.usefixtures("either_way")
def test_an_lz4_block_of_another_size_is_malformed() -> None:
    image = pixels()
    with pytest.raises(MalformedMessage, match="lz4"):
        decoded(image, "lz4", lz4.block.compress(image.tobytes()[:-2], store_size=False))


@pytest.mark.parametrize("codec", CODECS)
def test_no_data_is_malformed(codec: Codec) -> None:
    with pytest.raises(MalformedMessage):
        decoded(pixels(), codec, b"")


def test_raw_data_must_have_the_exact_size() -> None:
    image = pixels()
    for data in (image.tobytes()[:-1], image.tobytes() + b"\0"):
        with pytest.raises(MalformedMessage, match="size"):
            decoded(image, "none", data)


@pytest.mark.parametrize("slot", [np.empty((61, 66), "u2"), np.empty((61, 67), "u4"), np.empty((61, 67), ">u2")])
def test_a_frame_that_does_not_fit_its_slot_is_malformed(slot: Pixels) -> None:
    with pytest.raises(MalformedMessage, match="slot"):
        decode_into(Frame(1, 0, (61, 67), np.dtype("u2"), "none", pixels().tobytes()), slot)


def test_a_slot_that_c_cannot_write_to_is_the_callers_mistake() -> None:
    for slot in (np.empty((67, 61), "u2").T, np.frombuffer(bytes(61 * 67 * 2), "u2").reshape(61, 67)):
        with pytest.raises(ValueError, match="C-contiguous"):
            decode_into(Frame(1, 0, (61, 67), np.dtype("u2"), "none", pixels().tobytes()), slot)


def test_the_exported_function_is_used_only_where_it_agrees_with_the_documented_one() -> None:
    assert decompress._decompress is not decompress._documented
    assert decompress._agrees(decompress._decompress)
    assert not decompress._agrees(lambda _codec, _data, out: bool(out.size))
    with pytest.raises(AttributeError):
        decompress._exported(ctypes.CDLL(None))


def test_lima_chunks_decode_to_what_hdf5_reads(shared_data: Path) -> None:
    with h5py.File(shared_data / "id11_dac.h5") as file:
        dataset = file["/entry/data/data"]
        _, chunk = dataset.id.read_direct_chunk((5, 0, 0))
        image = dataset[5]
    assert chunk[8:12] == bytes(4)
    np.testing.assert_array_equal(decoded(image, "bslz4", chunk), image)
