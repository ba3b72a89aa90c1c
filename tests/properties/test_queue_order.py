"""Whatever is put and taken: order is kept, starts and ends survive, memory is bounded, no frame is lost unseen."""

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringwatch.clock import SystemClock
from ringwatch.messages import Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream.queue import HEADER_BYTES, MESSAGE_BYTES, FrameQueue

FRAME_BYTES = 500
LIMIT = 4 * (FRAME_BYTES + MESSAGE_BYTES)
U1 = np.dtype(np.uint8)

KINDS = st.lists(st.sampled_from(["frame", "frame", "frame", "start", "end", "take"]), max_size=60)


def message(kind: str, number: int) -> StreamMessage:
    if kind == "start":
        return SeriesStart(number)
    return SeriesEnd(number) if kind == "end" else Frame(1, number, (1, 1), U1, "none", bytes(FRAME_BYTES))


@given(KINDS, st.integers(1, 4))
def test_what_goes_in_comes_out_in_order_or_is_told_as_dropped(kinds: list[str], max_frames: int) -> None:
    queue = FrameQueue(LIMIT, "skip", SystemClock())
    put: list[StreamMessage] = []
    taken: list[StreamMessage] = []
    dropped: list[Frame] = []
    n_waiting = 0
    for number, kind in enumerate(kinds):
        if kind == "take" and n_waiting:
            batch = queue.get_batch(max_frames, 0.0)
            assert 0 < len(batch) <= max_frames
            assert len(list(groupby(batch, key=type))) == 1
            assert len(batch) == 1 or isinstance(batch[0], Frame)
            taken += batch
            n_waiting -= len(batch)
        elif kind != "take":
            put.append(message(kind, number))
            lost = queue.put(put[-1])
            dropped += lost
            n_waiting += 1 - len(lost)
    queue.close()
    while not queue.finished:
        taken += queue.get_batch(max_frames, 0.0)
    assert queue.backlog_bytes == 0
    assert taken == [m for m in put if m not in dropped]
    assert dropped == sorted(dropped, key=lambda frame: frame.frame)


@given(KINDS)
def test_frames_never_take_more_than_the_limit(kinds: list[str]) -> None:
    queue = FrameQueue(LIMIT, "skip", SystemClock())
    others = 0
    for number, kind in enumerate(kinds):
        queue.put(message(kind, number))
        others += {"start": HEADER_BYTES, "end": MESSAGE_BYTES}.get(kind, 0)
        assert queue.backlog_bytes <= max(LIMIT, others + FRAME_BYTES + MESSAGE_BYTES)
