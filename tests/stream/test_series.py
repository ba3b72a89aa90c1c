"""The series table as a table of scenarios: what comes in at which second, what goes out, what is counted."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ringwatch.intervals import MAX_INTERVALS, IntervalSet
from ringwatch.messages import Fates, Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream.decode import Decoded
from ringwatch.stream.series import SeriesTable
from ringwatch.stream.v1 import HeaderContinuation

U2 = np.dtype(np.uint16)
U4 = np.dtype(np.uint32)


def start(series: int = 1, unique_id: str = "", expected: int | None = None, **more: Any) -> SeriesStart:
    return replace(SeriesStart(series, unique_id, {"detector": "x"}, frames_expected=expected), **more)


def frame(number: int, series: int = 1, unique_id: str = "", shape: tuple[int, int] = (2, 3)) -> Frame:
    return Frame(series, number, shape, U2, "none", bytes(12), unique_id)


class Played:
    """A table, and everything that came out of it."""

    def __init__(self, *, late_s: float = 1.0, end_timeout_s: float = 10.0) -> None:
        self.table = SeriesTable(late_s, end_timeout_s)
        self.out: list[StreamMessage] = []

    def feed(self, *messages: Decoded, at_s: float = 0.0) -> "Played":
        for message in messages:
            self.out += self.table.feed(message, at_s)
        return self

    def tick(self, at_s: float) -> "Played":
        self.out += self.table.tick(at_s)
        return self

    @property
    def story(self) -> list[str]:
        """In words: "start 1", "joined 1", a frame's number, "end 1 timeout"."""
        return [_word(message) for message in self.out]

    @property
    def starts(self) -> list[SeriesStart]:
        return [message for message in self.out if isinstance(message, SeriesStart)]

    @property
    def ends(self) -> list[SeriesEnd]:
        return [message for message in self.out if isinstance(message, SeriesEnd)]

    def fates(self, position: int = 0) -> Fates:
        return self.starts[position].fates


def _word(message: StreamMessage) -> str:
    match message:
        case SeriesStart():
            return f"{'joined' if message.joined else 'start'} {message.series}"
        case Frame():
            return str(message.frame)
        case SeriesEnd():
            return f"end {message.series} {message.reason}"


# ------------------------------------------------------------------------------------------------------ after a crash


@pytest.mark.parametrize("unique_id", ["", "01ABC"], ids=["v1", "v2"])
def test_a_resumed_series_takes_the_frames_that_are_wanted_and_lists_the_rest(unique_id: str) -> None:
    played, saved = Played(), start(1, "01ABC", shape=(2, 3), dtype=U2, fates=Fates(4, 3, duplicate=1))
    played.out += played.table.resume(saved, IntervalSet.of([(0, 2)]), 0.0)
    played.feed(frame(2, 1, unique_id), frame(5, 1, unique_id), frame(4, 1, unique_id), at_s=1.0)
    played.feed(start(1, unique_id), SeriesEnd(1, unique_id), at_s=2.0).tick(3.5)
    assert played.story == ["start 1", "5", "4", "end 1 end"]
    assert played.ends[0].missing == ((3, 3),)
    assert played.fates() == Fates(7, 3, duplicate=2, missing=1)


def test_after_a_crash_a_number_that_begins_again_is_another_series() -> None:
    """Numbers of v1 begin at 1 when the detector is switched on; a header that was heard before the crash is gone."""
    played = Played()
    played.out += played.table.resume(start(1, "made up"), IntervalSet.of([(0, 2)]), 0.0)
    played.feed(start(1), frame(0), at_s=1.0)
    assert played.story == ["start 1", "end 1 abandoned", "start 1", "0"]


def test_a_resumed_series_of_which_nothing_comes_is_over() -> None:
    played = Played()
    played.out += played.table.resume(start(1, "01ABC"), IntervalSet.of([(0, 2)]), 0.0)
    assert played.tick(9.9).tick(10.0).story == ["start 1", "end 1 timeout"]


def test_a_resumed_series_is_over_when_the_next_one_starts() -> None:
    played = Played()
    played.out += played.table.resume(start(1, "01ABC"), IntervalSet.of([(0, 2)]), 0.0)
    assert played.feed(start(2, "02ABC"), at_s=1.0).story == ["start 1", "end 1 abandoned", "start 2"]


# ------------------------------------------------------------------------------------------- a series as it should be


@pytest.mark.parametrize("unique_id", ["", "01ABC"], ids=["v1", "v2"])
def test_a_series_goes_through_and_ends_after_the_late_frames_had_their_time(unique_id: str) -> None:
    played = Played().feed(start(1, unique_id), frame(0, 1, unique_id), frame(1, 1, unique_id))
    played.feed(SeriesEnd(1, unique_id), at_s=5.0).tick(5.9)
    assert played.story == ["start 1", "0", "1"]
    played.feed(frame(2, 1, unique_id), at_s=5.95).tick(6.0)
    assert played.story == ["start 1", "0", "1", "2", "end 1 end"]
    assert played.fates() == Fates(received=3)


def test_all_messages_of_a_series_carry_its_unique_id() -> None:
    played = Played().feed(start(), frame(0), SeriesEnd(1)).tick(9.0).feed(start(1), at_s=9.0)
    first, second = (message.unique_id for message in played.starts)
    assert {message.unique_id for message in played.out[:3]} == {first}
    assert first != second
    assert len(first) == 32
    assert {m.unique_id for m in Played().feed(start(1, "01"), frame(0, 1, "01")).out} == {"01"}


def test_a_complete_series_ends_with_its_end_message() -> None:
    played = Played().feed(start(expected=2), frame(1), frame(0), SeriesEnd(1))
    assert played.story == ["start 1", "1", "0", "end 1 end"]
    assert played.ends[0].missing == ()


def test_frames_in_any_order_are_the_same_series() -> None:
    played = Played().feed(start(), *(frame(number) for number in (5, 3, 0, 4)))
    assert played.story[1:] == ["5", "3", "0", "4"]
    assert played.fates() == Fates(received=4, missing=2)


# ----------------------------------------------------------------------------------------------- starts (decision 19)


def test_a_start_while_running_abandons_the_old_series() -> None:
    played = Played().feed(start(1), frame(0), start(2), frame(0, 2))
    assert played.story == ["start 1", "0", "end 1 abandoned", "start 2", "0"]


def test_a_start_after_the_end_message_ends_the_old_series_properly() -> None:
    played = Played().feed(start(1), frame(0), SeriesEnd(1), start(2))
    assert played.story == ["start 1", "0", "end 1 end", "start 2"]


def test_in_v1_the_same_number_after_the_end_is_a_new_series() -> None:
    played = Played().feed(start(1), frame(0), SeriesEnd(1), start(1), frame(0))
    assert played.story == ["start 1", "0", "end 1 end", "start 1", "0"]


@pytest.mark.parametrize("unique_id", ["", "01ABC"], ids=["v1", "v2"])
def test_a_duplicate_start_is_ignored(unique_id: str) -> None:
    played = Played().feed(start(1, unique_id), frame(0, 1, unique_id), start(1, unique_id), frame(1, 1, unique_id))
    assert played.story == ["start 1", "0", "1"]


def test_in_v2_a_duplicate_start_is_ignored_after_the_end_message_too() -> None:
    assert Played().feed(start(1, "A"), SeriesEnd(1, "A"), start(1, "A")).story == ["start 1"]


def test_in_v2_the_same_number_with_another_name_is_another_series() -> None:
    played = Played().feed(start(1, "A"), frame(0, 1, "A"), start(1, "B"))
    assert played.story == ["start 1", "0", "end 1 abandoned", "start 1"]


def test_an_image_without_start_joins_the_series() -> None:
    played = Played().feed(frame(7), frame(8), SeriesEnd(1)).tick(2.0)
    assert played.story == ["joined 1", "7", "8", "end 1 end"]
    assert (played.starts[0].shape, played.starts[0].dtype) == ((2, 3), U2)
    assert played.ends[0].missing == ((0, 6),)


def test_the_start_of_a_series_that_was_joined_comes_too_late() -> None:
    assert Played().feed(frame(7, 1, "A"), start(1, "A"), frame(8, 1, "A")).story == ["joined 1", "7", "8"]


def test_after_an_end_message_the_next_series_can_be_joined_at_once() -> None:
    played = Played().feed(start(1), frame(0), SeriesEnd(1), frame(0, 2))
    assert played.story == ["start 1", "0", "end 1 end", "joined 2", "0"]


# ------------------------------------------------------------------------------------------ the header in two messages

HALF = SeriesStart(1, header={"header_detail": "basic"})
REST = HeaderContinuation({"nimages": 2}, {"frames_expected": 2, "shape": (2, 3)})


def test_a_header_in_two_messages_becomes_one_start() -> None:
    played = Played().feed(HALF)
    assert played.story == []
    played.feed(REST, frame(0))
    assert played.story == ["start 1", "0"]
    assert played.starts[0].header == {"header_detail": "basic", "nimages": 2}
    assert (played.starts[0].shape, played.starts[0].frames_expected) == ((2, 3), 2)
    assert played.fates() == Fates(received=1)
    assert played.feed(frame(1), SeriesEnd(1)).story[-1] == "end 1 end"


@pytest.mark.parametrize(
    ("then", "story"),
    [
        ([frame(0), REST], ["start 1", "0"]),
        ([SeriesEnd(1), REST], ["start 1"]),
        ([start(2), REST], ["start 1", "end 1 abandoned", "start 2"]),
    ],
    ids=["frame", "end", "next start"],
)
def test_the_first_half_goes_alone_if_the_second_never_comes(then: list[Decoded], story: list[str]) -> None:
    assert Played().feed(HALF, *then).story == story


def test_second_halves_out_of_place_are_ignored() -> None:
    assert Played().feed(REST, start(1), REST, frame(0), REST).story == ["start 1", "0"]


def test_a_header_that_announces_no_detail_waits_for_none() -> None:
    assert Played().feed(SeriesStart(1, header={"header_detail": "none"})).story == ["start 1"]


# ------------------------------------------------------------------------------------------------- ends (decision 19)


def test_a_lost_end_after_all_frames_closes_the_series_as_complete() -> None:
    played = Played().feed(start(expected=2), frame(0), frame(1), at_s=3.0).tick(3.9)
    assert played.story == ["start 1", "0", "1"]
    assert played.tick(4.0).story[-1] == "end 1 complete"


@pytest.mark.parametrize(
    ("frame_time_s", "end_timeout_s", "silence_s"),
    [
        (None, 10.0, 10.0),
        (1.0, 10.0, 10.0),
        (4.0, 10.0, 20.0),
        (4.0, 30.0, 30.0),
        (None, 3.0, 3.0),
        (1e300, 3.0, 86400.0),
    ],
)
def test_silence_closes_a_series(frame_time_s: float | None, end_timeout_s: float, silence_s: float) -> None:
    played = Played(end_timeout_s=end_timeout_s).feed(start(frame_time_s=frame_time_s), frame(0), at_s=100.0)
    played.feed(frame(0), at_s=101.0)
    assert played.tick(101.0 + silence_s - 0.01).story == ["start 1", "0"]
    assert played.tick(101.0 + silence_s).story[-1] == "end 1 timeout"


def test_before_the_first_frame_silence_is_waiting_for_the_trigger() -> None:
    played = Played().feed(start(1)).tick(3600.0).feed(frame(0), at_s=3601.0)
    assert played.story == ["start 1", "0"]


def test_a_series_that_never_began_gives_way_to_the_frames_of_another() -> None:
    played = Played().feed(start(1)).feed(frame(0, 2), at_s=5.0).feed(frame(1, 2), at_s=10.0)
    assert played.story == ["start 1", "end 1 timeout", "joined 2", "1"]
    assert played.fates(0) == Fates(received=1, foreign=1)


def test_foreign_frames_do_not_keep_a_silent_series_open() -> None:
    played = Played().feed(start(1), frame(0))
    played.feed(frame(0, 2), at_s=9.0).feed(frame(1, 2), at_s=10.0)
    assert played.story == ["start 1", "0", "end 1 timeout", "joined 2", "1"]


def test_a_series_closed_by_silence_is_joined_again_when_it_goes_on() -> None:
    played = Played().feed(start(1), frame(0)).tick(10.0).feed(frame(1), at_s=11.0)
    assert played.story == ["start 1", "0", "end 1 timeout", "joined 1", "1"]


def test_a_second_end_message_does_not_prolong_the_wait() -> None:
    played = Played().feed(start(1), frame(0), SeriesEnd(1)).feed(SeriesEnd(1), at_s=0.9)
    assert played.tick(1.0).story[-1] == "end 1 end"


def test_the_end_of_another_series_is_ignored() -> None:
    assert Played().feed(SeriesEnd(1), start(1, "A"), SeriesEnd(2), SeriesEnd(1, "B")).tick(50.0).story == ["start 1"]


def test_shutdown_closes_the_open_series_and_nothing_else() -> None:
    played = Played().feed(start(1), frame(0))
    assert [_word(m) for m in played.table.close()] == ["end 1 shutdown"]
    assert played.table.close() == []


# ------------------------------------------------------------------------------------------------ fates (decision 20)


def test_a_frame_twice_is_a_duplicate() -> None:
    played = Played().feed(start(), frame(3), frame(3))
    assert played.story == ["start 1", "3"]
    assert played.fates() == Fates(received=2, duplicate=1, missing=3)


@pytest.mark.parametrize("other", [frame(1, shape=(3, 2)), replace(frame(1), dtype=U4)], ids=["shape", "type"])
def test_another_shape_or_type_inside_a_series_is_malformed(other: Frame) -> None:
    played = Played().feed(start(), frame(0), other, frame(1))
    assert played.story == ["start 1", "0", "1"]
    assert played.fates() == Fates(received=3, malformed=Counter(changed=1))


def test_a_first_frame_that_contradicts_the_header_does_not_decide_for_the_others() -> None:
    played = Played().feed(start(shape=(2, 3)), frame(0, shape=(3, 2)), frame(0), frame(1))
    assert played.story == ["start 1", "0", "1"]
    assert played.fates() == Fates(received=3, malformed=Counter(changed=1))


def test_another_shape_or_type_in_the_next_series_is_none_of_our_business() -> None:
    played = Played().feed(start(1), frame(0), start(2), frame(0, 2, shape=(9, 9)))
    assert played.story[-1] == "0"
    assert played.fates(1).malformed.total() == 0


@pytest.mark.parametrize("other", [frame(1, 2), frame(1, 1, "B")], ids=["number", "name"])
def test_frames_of_another_series_are_foreign(other: Frame) -> None:
    played = Played().feed(start(1, "A"), frame(0, 1, "A"), other)
    assert played.story == ["start 1", "0"]
    assert played.fates() == Fates(received=2, foreign=1)


def test_stale_frames_of_an_abandoned_series_are_foreign_to_the_next() -> None:
    played = Played().feed(start(1), frame(0), start(2), frame(1, 1), frame(0, 2))
    assert played.story[2:] == ["end 1 abandoned", "start 2", "0"]
    assert played.fates(1) == Fates(received=2, foreign=1)


def test_frames_after_a_series_was_closed_are_late() -> None:
    played = Played().feed(start(1), frame(0), SeriesEnd(1)).tick(1.0).feed(frame(1), at_s=1.1)
    assert played.story == ["start 1", "0", "end 1 end"]
    assert played.fates() == Fates(received=2, late=1)


def test_a_series_is_closed_when_its_end_came_not_when_its_last_frame_did() -> None:
    played = Played().feed(start(1), frame(0)).feed(SeriesEnd(1), at_s=9.0).tick(10.0).feed(frame(1), at_s=12.0)
    assert played.story == ["start 1", "0", "end 1 end"]
    assert played.fates() == Fates(received=2, late=1)


def test_long_after_a_series_was_closed_its_number_means_another() -> None:
    played = Played().feed(start(1), frame(0), SeriesEnd(1)).tick(1.0).feed(frame(0), at_s=100.0)
    assert played.story[-2:] == ["joined 1", "0"]


def test_malformed_messages_are_counted_by_reason_and_without_a_series_as_stray() -> None:
    played = Played()
    played.table.malformed("json")
    played.feed(start())
    for reason in ("json", "cbor", "json"):
        played.table.malformed(reason)
    assert played.table.stray == Fates(received=1, malformed=Counter(json=1))
    assert played.fates() == Fates(received=3, malformed=Counter(json=2, cbor=1))


def test_skipped_frames_are_counted_in_their_own_series_even_after_it_was_closed() -> None:
    played = Played().feed(start(1), frame(0), start(2), frame(0, 2))
    for message in played.out:
        if isinstance(message, Frame):
            played.table.skipped(message)
    assert played.fates(0) == played.fates(1) == Fates(received=1, skipped=1)


def test_missing_frames_are_told_as_intervals_below_the_last_one_that_came() -> None:
    """A series stopped early has fewer frames than were announced, and misses none of them."""
    played = Played().feed(start(expected=10), *(frame(n) for n in (1, 2, 5, 7)), SeriesEnd(1)).tick(1.0)
    assert played.fates().missing == 4
    assert played.ends[0].missing == ((0, 0), (3, 4), (6, 6))


def test_of_many_gaps_the_first_thousand_are_told() -> None:
    played = Played().feed(start(), *(frame(2 * n) for n in range(2000)), SeriesEnd(1)).tick(1.0)
    assert played.fates().missing == 1999
    assert played.ends[0].missing == tuple((2 * n + 1, 2 * n + 1) for n in range(1000))


def test_numbers_scattered_without_end_are_refused_instead_of_remembered() -> None:
    played = Played().feed(start())
    for number in range(MAX_INTERVALS + 2):
        played.table.feed(frame(2 * number), 0.0)
    assert played.fates().malformed == Counter(scattered=2)
    assert played.feed(frame(1)).story[-1] == "1"
