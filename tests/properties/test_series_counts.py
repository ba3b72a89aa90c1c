"""Whatever comes in whatever order: one series at a time goes out, each frame once, and every frame is counted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringwatch.messages import Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream.series import SeriesTable
from ringwatch.stream.v1 import HeaderContinuation

U2 = np.dtype(np.uint16)
SERIES = st.integers(1, 3)
NAMES = st.sampled_from(["", "A", "B"])
HEADERS: st.SearchStrategy[dict[str, str]] = st.sampled_from([{}, {"header_detail": "basic"}])

STARTS = st.builds(
    SeriesStart,
    SERIES,
    NAMES,
    HEADERS,
    frames_expected=st.none() | st.integers(1, 6),
    frame_time_s=st.none() | st.just(4.0),
)
FRAMES = st.builds(
    lambda series, name, number, rows: Frame(series, number, (rows, 2), U2, "none", b"", name),
    SERIES, NAMES, st.integers(0, 8), st.sampled_from([3, 3, 3, 4]),
)  # fmt: skip
ENDS = st.builds(SeriesEnd, SERIES, NAMES)
CONTINUATIONS = st.builds(lambda n: HeaderContinuation({"nimages": n}, {"frames_expected": n}), st.integers(1, 6))
MALFORMED = st.sampled_from(["json", "cbor"])
EVENTS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0, 11.0]), FRAMES | FRAMES | STARTS | ENDS | CONTINUATIONS | MALFORMED),
    max_size=40,
)


def played(events: list[tuple[float, object]]) -> tuple[SeriesTable, list[StreamMessage], int]:
    """Table, what came out, and the number of frames and unreadable messages that came in; odd frames are skipped."""
    table, now_s, n_received = SeriesTable(), 0.0, 0
    out: list[StreamMessage] = []
    for pause_s, event in events:
        now_s += pause_s
        new = table.tick(now_s)
        if isinstance(event, str):
            table.malformed(event)
        else:
            new += table.feed(event, now_s)
        for message in new:
            if isinstance(message, Frame) and message.frame % 2:
                table.skipped(message)
        out += new
        n_received += isinstance(event, str | Frame)
    return table, out + table.close(), n_received


@given(EVENTS)
def test_one_series_at_a_time_each_frame_once_all_of_one_kind(events: list[tuple[float, object]]) -> None:
    _, out, _ = played(events)
    current: SeriesStart | None = None
    seen: set[int] = set()
    kinds: set[tuple[int, int]] = set()
    for message in out:
        if isinstance(message, SeriesStart):
            assert current is None
            assert message.unique_id
            current, seen, kinds = message, set(), set()
            continue
        assert current is not None
        assert (message.series, message.unique_id) == (current.series, current.unique_id)
        if isinstance(message, SeriesEnd):
            assert not seen.intersection(n for first, last in message.missing for n in range(first, last + 1))
            current = None
        else:
            assert message.frame not in seen
            seen.add(message.frame)
            kinds.add(message.shape)
            assert len(kinds) == 1
    assert current is None


@given(EVENTS)
def test_received_is_the_sum_of_all_fates(events: list[tuple[float, object]]) -> None:
    table, out, n_received = played(events)
    assert table.stray.received == table.stray.settled
    all_fates = [table.stray]
    for message in out:
        if isinstance(message, SeriesStart):
            all_fates.append(message.fates)
        elif isinstance(message, Frame) and message.frame % 2 == 0:
            all_fates[-1].reduced += 1
    assert all(fates.received == fates.settled for fates in all_fates)
    assert sum(fates.received for fates in all_fates) == n_received
