"""Frames wait for the readings of their beam monitor, for a time."""

import math
import threading

import numpy as np
import pytest
from tests.conftest import FakeClock

from ringwatch.errors import ControlError
from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.stream import monitored
from ringwatch.stream.monitored import MonitoredQueue
from ringwatch.stream.queue import FrameQueue

WAIT_S = 5.0


class Line:
    """A queue, and what waits behind it."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.queue = FrameQueue(1 << 20, "skip", clock)
        self.monitored = MonitoredQueue(self.queue, WAIT_S, clock)

    def put(self, *numbers: int, series: int = 1) -> None:
        for number in numbers:
            self.queue.put(Frame(series, number, (1, 8), np.dtype(np.uint8), "none", bytes(8), "A", self.clock.now_s))

    def take(self, max_frames: int = 8) -> list[tuple[int, float]]:
        batch = self.monitored.get_batch(max_frames, 0.0)
        return [(message.frame, message.i0) for message in batch if isinstance(message, Frame)]


@pytest.fixture
def line(clock: FakeClock) -> Line:
    return Line(clock)


def test_frames_get_the_readings_that_came_before_them(line: Line) -> None:
    line.monitored.tell(1, 0, [10.0, 11.0, 12.0])
    line.put(0, 1)
    assert line.take() == [(0, 10.0), (1, 11.0)]
    line.put(2)
    assert line.take() == [(2, 12.0)]


def test_a_frame_waits_for_its_reading_and_keeps_the_order(line: Line) -> None:
    line.put(0, 1, 2)
    line.monitored.tell(1, 1, [11.0])
    assert line.take() == []
    assert not line.monitored.finished
    teller = threading.Timer(0.02, line.monitored.tell, (1, 0, [10.0]))
    teller.start()
    assert line.take() == [(0, 10.0), (1, 11.0)]
    teller.join()
    assert line.take() == []
    line.monitored.tell(1, 2, [12.0])
    assert line.take() == [(2, 12.0)]


def test_a_frame_that_waited_long_enough_goes_without(line: Line) -> None:
    line.put(0)
    line.clock.advance(3.0)
    line.put(1)
    assert line.take() == []
    line.clock.advance(3.0)
    ((number, reading),) = line.take()
    assert (number, math.isnan(reading)) == (0, True)
    line.monitored.tell(1, 1, [11.0])
    assert line.take() == [(1, 11.0)]


def test_a_failed_reading_is_not_waited_for(line: Line) -> None:
    line.put(0)
    line.monitored.tell(1, 0, [math.nan])
    ((_, reading),) = line.take()
    assert math.isnan(reading)


def test_readings_of_another_series_are_not_taken(line: Line) -> None:
    line.put(0, series=2)
    line.monitored.tell(1, 0, [10.0])
    assert line.take() == []
    line.monitored.tell(2, 0, [20.0])
    assert line.take() == [(0, 20.0)]


def test_starts_and_ends_pass_and_a_series_number_may_come_again(line: Line) -> None:
    line.monitored.tell(1, 0, [10.0, 11.0])
    line.queue.put(SeriesStart(1))
    line.put(0)
    for message in (SeriesEnd(1), SeriesStart(1)):
        line.queue.put(message)
    line.put(1)
    assert line.monitored.get_batch(8, 0.0) == [SeriesStart(1)]
    assert line.take(1) == [(0, 10.0)]
    assert line.monitored.get_batch(8, 0.0) == [SeriesEnd(1)]
    with pytest.raises(ControlError, match="series 1 is over"):
        line.monitored.tell(1, 1, [11.0])
    assert line.monitored.get_batch(8, 0.0) == [SeriesStart(1)]
    assert line.take() == [], "what was said of the series before is forgotten"
    line.monitored.tell(1, 1, [12.0])
    assert line.take() == [(1, 12.0)]


def test_no_batch_is_larger_than_asked_for_and_none_is_taken_ahead(line: Line) -> None:
    line.put(*range(8))
    line.monitored.tell(1, 0, [1.0] * 8)
    assert len(line.take(8)) == 8
    line.put(*range(8, 16))
    assert line.monitored.take_full_batch(8) == []


def test_once_the_stream_is_closed_nothing_is_waited_for(line: Line) -> None:
    line.put(0)
    assert line.take() == []
    line.queue.close()
    assert [number for number, _ in line.take()] == [0]
    assert line.monitored.finished


def test_readings_that_no_frame_takes_do_not_pile_up(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitored, "MAX_READINGS", 100)
    for series in range(10):
        line.monitored.tell(series, 0, [1.0] * 50)
    assert len(line.monitored._readings) == 100
    line.put(0, series=9)
    assert line.take() == [(0, 1.0)]
