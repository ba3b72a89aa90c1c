import threading
import time
from collections.abc import Callable

import numpy as np

from ringwatch.clock import SystemClock
from ringwatch.messages import Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream.queue import HEADER_BYTES, IDLE_S, MESSAGE_BYTES, FrameQueue, Policy

CLOCK = SystemClock()
FRAME_BYTES = 1000
LONG_S = 30.0


def frame(number: int, *, age_s: float = 0.0) -> Frame:
    dtype = np.dtype(np.uint8)
    return Frame(1, number, (1, FRAME_BYTES), dtype, "none", bytes(FRAME_BYTES), "A", CLOCK.monotonic_s() - age_s)


def queue_of(n_frames: int, policy: Policy = "skip") -> FrameQueue:
    """Room for so many frames, a start and an end."""
    return FrameQueue(n_frames * (FRAME_BYTES + MESSAGE_BYTES) + HEADER_BYTES + MESSAGE_BYTES, policy, CLOCK)


def numbers(messages: list[StreamMessage]) -> list[int | str]:
    return [m.frame if isinstance(m, Frame) else type(m).__name__ for m in messages]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# ------------------------------------------------------------------------------------------------------------ batches


def test_a_full_batch_is_given_at_once() -> None:
    queue = queue_of(100)
    for number in range(5):
        queue.put(frame(number))
    assert numbers(queue.get_batch(2, LONG_S)) == [0, 1]
    assert numbers(queue.get_batch(2, LONG_S)) == [2, 3]


def test_starts_and_ends_come_alone_and_in_order() -> None:
    queue = queue_of(100)
    for message in (SeriesStart(1), frame(0), frame(1), SeriesEnd(1), SeriesStart(2), frame(2), SeriesEnd(2)):
        queue.put(message)
    batches = [numbers(queue.get_batch(8, LONG_S)) for _ in range(6)]
    assert batches == [["SeriesStart"], [0, 1], ["SeriesEnd"], ["SeriesStart"], [2], ["SeriesEnd"]]


def test_a_partial_batch_is_given_when_its_oldest_frame_is_old_enough() -> None:
    queue = queue_of(100)
    queue.put(frame(0, age_s=0.98))
    queue.put(frame(1))
    before_s = CLOCK.monotonic_s()
    assert numbers(queue.get_batch(8, 1.0)) == [0, 1]
    assert 0.01 < CLOCK.monotonic_s() - before_s < 0.8


def test_a_frame_that_waited_long_enough_is_given_at_once() -> None:
    queue = queue_of(100)
    queue.put(frame(0, age_s=1.0))
    before_s = CLOCK.monotonic_s()
    assert numbers(queue.get_batch(8, 0.9)) == [0]
    assert CLOCK.monotonic_s() - before_s < 0.5


def test_a_frame_that_completes_the_batch_wakes_the_reduction() -> None:
    queue = queue_of(100)
    queue.put(frame(0))
    thread = in_thread(lambda: queue.put(frame(1)))
    assert numbers(queue.get_batch(2, LONG_S)) == [0, 1]
    thread.join()


def test_an_empty_queue_is_waited_for_but_never_spun_on() -> None:
    before_s, before_cpu_s = CLOCK.monotonic_s(), time.thread_time()
    assert queue_of(1).get_batch(8, 0.0) == []
    assert CLOCK.monotonic_s() - before_s >= IDLE_S
    assert time.thread_time() - before_cpu_s < IDLE_S / 2


def test_a_closed_queue_gives_what_it_has_and_then_nothing() -> None:
    queue = queue_of(100)
    queue.put(frame(0))
    queue.close()
    assert not queue.finished
    assert numbers(queue.get_batch(8, LONG_S)) == [0]
    assert queue.finished
    assert queue.get_batch(8, LONG_S) == []


def test_closing_wakes_the_reduction() -> None:
    queue = queue_of(1)
    thread = in_thread(queue.close)
    assert queue.get_batch(8, LONG_S) == []
    thread.join()


# ------------------------------------------------------------------------------------------------------------ policies


def test_skip_drops_the_oldest_frames_and_keeps_starts_and_ends() -> None:
    queue = queue_of(3)
    messages = (SeriesStart(1), frame(0), frame(1), frame(2), frame(3), SeriesEnd(1), frame(4), frame(5))
    dropped = [numbers(list(queue.put(message))) for message in messages]
    assert dropped == [[], [], [], [], [0], [], [1], [2]]
    batches = [numbers(queue.get_batch(8, 0.0)) for _ in range(4)]
    assert batches == [["SeriesStart"], [3], ["SeriesEnd"], [4, 5]]


def test_a_frame_larger_than_the_queue_is_kept_while_it_is_the_newest() -> None:
    queue = FrameQueue(10, "skip", CLOCK)
    assert queue.put(frame(0)) == []
    assert queue.wait_for_room(0.0)
    assert numbers(list(queue.put(frame(1)))) == [0]
    assert numbers(queue.get_batch(8, 0.0)) == [1]


def test_skip_always_has_room_for_frames() -> None:
    queue = queue_of(2)
    for number in range(50):
        assert queue.wait_for_room(0.0)
        queue.put(frame(number))
    assert queue.backlog_bytes <= 2 * (FRAME_BYTES + MESSAGE_BYTES) + HEADER_BYTES + MESSAGE_BYTES


def test_a_flood_of_starts_has_to_wait_whatever_the_policy() -> None:
    mask = np.zeros((100, 100), np.bool_)
    queue = FrameQueue(5 * (HEADER_BYTES + mask.nbytes), "skip", CLOCK)
    n_put = 0
    while queue.wait_for_room(0.0):
        queue.put(SeriesStart(n_put, pixel_mask=mask))
        n_put += 1
    assert n_put == 5


def test_block_has_room_again_when_the_reduction_has_taken_something() -> None:
    queue = FrameQueue(2 * (FRAME_BYTES + MESSAGE_BYTES), "block", CLOCK)
    for number in range(2):
        assert queue.wait_for_room(0.0)
        assert queue.put(frame(number)) == []
    assert not queue.wait_for_room(0.01)
    thread = in_thread(lambda: queue.get_batch(1, LONG_S))
    assert queue.wait_for_room(LONG_S)
    thread.join()


def test_at_shutdown_frames_are_given_back_and_starts_and_ends_stay() -> None:
    queue = queue_of(100)
    for message in (SeriesStart(1), frame(0), SeriesEnd(1), frame(1)):
        queue.put(message)
    assert numbers(list(queue.drop_frames())) == [0, 1]
    assert queue.backlog_bytes == HEADER_BYTES + MESSAGE_BYTES
    assert [numbers(queue.get_batch(8, 0.0)) for _ in range(2)] == [["SeriesStart"], ["SeriesEnd"]]


# -------------------------------------------------------------------------------------------------------------- gauges


def test_gauges_follow_what_waits() -> None:
    queue = queue_of(100)
    assert queue.backlog_bytes == 0
    queue.put(SeriesStart(1))
    queue.put(frame(0, age_s=2.0))
    queue.put(frame(1))
    assert queue.backlog_bytes == HEADER_BYTES + 2 * (FRAME_BYTES + MESSAGE_BYTES)
    queue.get_batch(8, 0.0)
    queue.get_batch(8, 0.0)
    assert queue.backlog_bytes == 0


def test_a_full_batch_is_taken_only_where_it_waits_already() -> None:
    queue = queue_of(100)
    for number in range(3):
        queue.put(frame(number))
    assert queue.take_full_batch(4) == []
    assert numbers([*queue.take_full_batch(2)]) == [0, 1]
    queue.put(SeriesEnd(1))
    queue.put(frame(3))
    assert queue.take_full_batch(2) == []
