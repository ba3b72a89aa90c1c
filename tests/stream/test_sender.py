"""A sender is a detector with patience: header when somebody listens, frames on time, an end in any case."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import cbor2
import numpy as np
import pytest
import zmq

from ringwatch.errors import StreamError
from ringwatch.messages import SeriesStart
from ringwatch.stream.encode import Encoded, StreamVersion
from ringwatch.stream.sender import Sender, SendReport

BIND = "tcp://127.0.0.1:*"
START = SeriesStart(7, shape=(1, 1), dtype=np.dtype(np.uint8))


def ones(n: int) -> Iterator[tuple[int, Encoded]]:
    return ((number, ("none", b"\x01")) for number in range(n))


def endless() -> Iterator[tuple[int, Encoded]]:
    return ((number, ("none", b"\x01")) for number in count())


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def receiver() -> Iterator[Callable[[str], "zmq.Socket[bytes]"]]:
    sockets: list[zmq.Socket[bytes]] = []

    def connect(endpoint: str) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        socket.set_hwm(4)
        socket.connect(endpoint)
        sockets.append(socket)
        return socket

    yield connect
    for socket in sockets:
        socket.close(linger=0)


Connect = Callable[[str], "zmq.Socket[bytes]"]


def test_v1_series_arrives_whole_and_in_order(thread: ThreadPoolExecutor, receiver: Connect) -> None:
    with Sender(BIND, "v1", "basic") as sender:
        sent: Future[SendReport] = thread.submit(sender.send, START, ones(20))
        socket = receiver(sender.endpoint)
        messages = [socket.recv_multipart() for _ in range(22)]
    heads = [json.loads(parts[0]) for parts in messages]
    assert [head["htype"] for head in heads] == ["dheader-1.0", *["dimage-1.0"] * 20, "dseries_end-1.0"]
    assert [head["frame"] for head in heads[1:-1]] == list(range(20))
    assert {head["series"] for head in heads} == {7}
    assert "arm_date" in json.loads(messages[0][1])
    assert (sent.result().frames, sent.result().size_bytes, sent.result().stopped) == (20, 20, False)


def test_v2_series_has_one_unique_id_and_date(thread: ThreadPoolExecutor, receiver: Connect) -> None:
    with Sender(BIND, "v2") as sender:
        thread.submit(sender.send, START, ones(3))
        socket = receiver(sender.endpoint)
        first, *images, end = (cbor2.loads(socket.recv()) for _ in range(5))
        again = thread.submit(sender.send, START, ones(0))
        second = cbor2.loads(socket.recv())
        again.result()
    unique_id = first["series_unique_id"]
    assert {message["series_unique_id"] for message in (*images, end)} == {unique_id}
    assert {message["series_date"] for message in images} == {first["arm_date"]}
    assert len(unique_id) == 26
    assert second["series_unique_id"] != unique_id


def test_a_unique_id_begins_with_the_time_in_milliseconds(thread: ThreadPoolExecutor, receiver: Connect) -> None:
    class Then:
        def time_ns(self) -> int:
            return 1469918176385 * 1_000_000

        def monotonic_s(self) -> float:
            return 0.0

    with Sender(BIND, clock=Then()) as sender:
        thread.submit(sender.send, START, ones(0))
        start = cbor2.loads(receiver(sender.endpoint).recv())
    assert start["series_unique_id"].startswith("01ARYZ6S41")  # the example of the ULID specification
    assert start["arm_date"].isoformat() == "2016-07-30T22:36:16.385000+00:00"


def test_nothing_is_drawn_before_a_receiver_is_there() -> None:
    frames = ones(3)
    with Sender(BIND, peer_timeout_s=0.05) as sender, pytest.raises(StreamError, match="no receiver took anything"):
        sender.send(START, frames)
    assert next(frames)[0] == 0


def test_a_receiver_that_takes_nothing_is_not_waited_for_forever(receiver: Connect) -> None:
    big: Iterator[tuple[int, Encoded]] = ((number, ("none", bytes(1 << 20))) for number in range(1000))
    with Sender(BIND, peer_timeout_s=0.3) as sender:
        socket = receiver(sender.endpoint)
        with pytest.raises(StreamError):
            sender.send(START, big)
        socket.close(linger=0)


def test_frames_keep_their_schedule(thread: ThreadPoolExecutor, receiver: Connect) -> None:
    with Sender(BIND) as sender:
        sent = thread.submit(sender.send, START, ones(21), 100.0)
        socket = receiver(sender.endpoint)
        for _ in range(23):
            socket.recv()
        report = sent.result()
    assert 0.2 <= report.seconds < 1
    assert 0 < report.late_mean_s <= report.late_max_s < 1


def test_a_late_frame_is_reported_and_does_not_shift_the_others(thread: ThreadPoolExecutor, receiver: Connect) -> None:
    slow = threading.Event()

    def frames() -> Iterator[tuple[int, Encoded]]:
        for number, encoded in ones(21):
            if number == 1:
                slow.wait(0.2)  # as long as all frames together should take
            yield number, encoded

    with Sender(BIND) as sender:
        sent = thread.submit(sender.send, START, frames(), 100.0)
        socket = receiver(sender.endpoint)
        for _ in range(23):
            socket.recv()
        report = sent.result()
    assert report.late_max_s >= 0.18
    assert report.seconds < 0.35


def test_a_stop_ends_the_series_with_its_end_message(thread: ThreadPoolExecutor, receiver: Connect) -> None:
    with Sender(BIND) as sender:
        sent = thread.submit(sender.send, START, endless(), 1000.0)
        socket = receiver(sender.endpoint)
        for _ in range(5):
            socket.recv()
        sender.stop.set()
        kinds = [cbor2.loads(socket.recv())["type"] for _ in range(sent.result().frames + 2 - 5)]
        report = sent.result()
    assert report.stopped
    assert report.frames >= 4
    assert kinds[-1] == "end"
    assert set(kinds[:-1]) <= {"image"}


def test_a_stop_interrupts_waiting_for_a_receiver_and_for_a_frame(
    thread: ThreadPoolExecutor, receiver: Connect
) -> None:
    with Sender(BIND) as sender:
        sender.stop.set()
        assert sender.send(START, ones(3)).frames == 0
        sender.stop.clear()
        sent = thread.submit(sender.send, START, ones(3), 0.01)
        socket = receiver(sender.endpoint)
        socket.recv()
        socket.recv()
        sender.stop.set()
        assert sent.result(2).frames == 1


def test_progress_is_told_first_now_and_then_and_last(thread: ThreadPoolExecutor, receiver: Connect) -> None:
    told: list[tuple[int, float]] = []
    with Sender(BIND) as sender:
        thread.submit(sender.send, START, ones(31), 100.0, lambda sent, late_s: told.append((sent, late_s)))
        socket = receiver(sender.endpoint)
        for _ in range(33):
            socket.recv()
    assert told[0] == (0, 0.0)
    thread.shutdown()
    assert told[-1][0] == 31
    assert 3 <= len(told) < 8


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_shape_and_type_must_be_known(version: StreamVersion, receiver: Connect) -> None:
    with Sender(BIND, version) as sender:
        receiver(sender.endpoint)
        with pytest.raises(ValueError, match="shape and type"):
            sender.send(SeriesStart(1), ones(1))
