"""Frames that cannot be decoded leave no hole and no trace but a count; what fills the gaps is found."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from ringwatch.errors import MalformedMessage
from ringwatch.messages import Fates, Frame
from ringwatch.reduction.slots import SlotFiller, gap_dummy

U1 = np.dtype(np.uint8)


def decode_into(frame: Frame, out: np.ndarray) -> None:
    """Fills the slot with the frame's first byte; 255 is what cannot be decoded, and leaves something behind."""
    out[:] = frame.data[0]
    if frame.data[0] == 255:
        raise MalformedMessage("lz4", "on purpose")


@pytest.fixture
def filler() -> Iterator[SlotFiller]:
    filler = SlotFiller(decode_into, threads=2)
    yield filler
    filler.close()


def frames(values: list[int]) -> list[Frame]:
    """Frames numbered from 10 on."""
    return [Frame(1, 10 + i, (2, 3), U1, "none", bytes([value])) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "kept"),
    [([1, 2, 3], [10, 11, 12]), ([1, 255, 3, 4, 255, 6], [10, 12, 13, 15]), ([255, 2], [11]), ([255, 255], [])],
)
def test_frames_that_cannot_be_decoded_are_left_out_and_counted(
    filler: SlotFiller, values: list[int], kept: list[int]
) -> None:
    slots, fates = np.zeros((8, 2, 3), U1), Fates()
    assert [frame.frame for frame in filler.begin(frames(values), slots, 0, fates).finish()] == kept
    assert [slot.tolist() for slot in slots[: len(kept)]] == [[[values[k - 10]] * 3] * 2 for k in kept]
    assert fates.malformed == Counter({"lz4": values.count(255)} if 255 in values else {})


GAPS = np.zeros((10, 10), np.bool_)
GAPS[:, :5] = True


@pytest.mark.parametrize(
    ("odd_ones", "fill", "expected"),
    [(0, 65535, 65535), (4, 7, 7), (5, 7, None), (0, 0, None)],
    ids=["all", "more than 90 %", "90 %", "zero"],
)
def test_gaps_tell_their_dummy_but_zero_is_none(odd_ones: int, fill: int, expected: int | None) -> None:
    frame = np.full((10, 10), 3, np.uint16)
    frame[GAPS] = fill
    frame[:odd_ones, 0] = 1000
    assert gap_dummy(frame, GAPS) == expected


def test_a_negative_fill_and_a_detector_without_gaps_tell_nothing() -> None:
    assert gap_dummy(np.full((10, 10), -1, np.int32), GAPS) is None
    assert gap_dummy(np.full((10, 10), 7, np.int32), np.zeros_like(GAPS)) is None
