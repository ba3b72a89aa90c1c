import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import zmq
from structlog.testing import capture_logs
from wire import array, bslz4, pixels, v1_end, v1_header, v1_image, v2_end, v2_image, v2_start

from ringwatch.clock import SystemClock
from ringwatch.errors import StreamError
from ringwatch.messages import Frame, SeriesEnd, SeriesStart, StreamMessage
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.queue import FrameQueue, Policy
from ringwatch.stream.receiver import Kind, Receiver
from ringwatch.stream.series import SeriesTable

IMAGE = pixels((512, 256), "<u4")
CHUNK = bslz4(IMAGE)
V1_SHAPE = {"x_pixels_in_detector": 256, "y_pixels_in_detector": 512}
V1 = [
    v1_header(**V1_SHAPE),
    *(v1_image(IMAGE, n, encoding="bs32-lz4<", blob=CHUNK) for n in range(5)),
    v1_end(),
]
V2 = [
    [v2_start(image_size_x=256, image_size_y=512)],
    *([v2_image({"threshold_1": array(IMAGE, ["bslz4", 4, CHUNK])}, n)] for n in range(5)),
    [v2_end()],
]


class WatchedQueue(FrameQueue):
    """Tells when it is full, and when the end of a series was put."""

    def __init__(self, memory_bytes: int, policy: Policy) -> None:
        super().__init__(memory_bytes, policy, SystemClock())
        self.is_full, self.has_end = threading.Event(), threading.Event()

    def put(self, message: StreamMessage) -> list[Frame]:
        dropped = super().put(message)
        if not self.wait_for_room(0.0):
            self.is_full.set()
        if isinstance(message, SeriesEnd):
            self.has_end.set()
        return dropped


class Line:
    """A detector's socket and the receiver that listens to it."""

    def __init__(self, policy: Policy = "skip", memory_bytes: int = 1 << 26, kind: Kind = "pull") -> None:
        self.context = zmq.Context()
        self.detector = self.context.socket(zmq.PUSH if kind == "pull" else zmq.XPUB)
        self.detector.setsockopt(zmq.LINGER, 0)
        if kind == "sub":
            self.detector.setsockopt(zmq.XPUB_VERBOSE, 1)  # each subscriber is told to the test
        port = self.detector.bind_to_random_port("tcp://127.0.0.1")
        self.table = SeriesTable(late_s=0.05)
        self.queue = WatchedQueue(memory_bytes, policy)
        self.died = threading.Event()
        self.receiver = Receiver(
            f"tcp://127.0.0.1:{port}", self.table, self.queue, SystemClock(), kind=kind, on_death=self.died.set
        )
        self.receiver.start()
        if kind == "sub":
            assert self.detector.recv() == b"\x01"  # subscribed, to everything

    def send(self, messages: list[list[bytes]]) -> None:
        for parts in messages:
            self.detector.send_multipart(parts)

    def messages_until(self, kind: type[StreamMessage]) -> list[StreamMessage]:
        taken: list[StreamMessage] = []
        deadline_s = SystemClock().monotonic_s() + 10.0
        while not (taken and isinstance(taken[-1], kind)):
            taken += self.queue.get_batch(8, 0.02)
            assert self.receiver.error is None
            assert SystemClock().monotonic_s() < deadline_s
        return taken

    def close(self) -> None:
        self.receiver.stop()
        self.receiver.join(2.0)
        self.context.destroy(linger=0)


@pytest.fixture
def line() -> Iterator[Line]:
    opened = Line()
    yield opened
    opened.close()


def frames_of(messages: list[StreamMessage]) -> list[Frame]:
    return [message for message in messages if isinstance(message, Frame)]


@pytest.mark.parametrize("stream", [V1, V2], ids=["v1", "v2"])
def test_a_series_arrives_whole(line: Line, stream: list[list[bytes]]) -> None:
    line.send(stream)
    messages = line.messages_until(SeriesEnd)
    assert isinstance(messages[0], SeriesStart)
    assert [f.frame for f in frames_of(messages)] == list(range(5))
    for frame in frames_of(messages):
        out = np.empty(frame.shape, frame.dtype)
        decode_into(frame, out)
        np.testing.assert_array_equal(out, IMAGE)


@pytest.mark.parametrize("stream", [V1, V2], ids=["v1", "v2"])
def test_a_publisher_is_subscribed_to_and_what_it_leaves_out_is_missing(stream: list[list[bytes]]) -> None:
    line = Line(kind="sub")
    line.send([stream[0], stream[2], stream[5], stream[6]])
    start, *frames, end = line.messages_until(SeriesEnd)
    line.close()
    assert isinstance(start, SeriesStart)
    assert [f.frame for f in frames_of(frames)] == [1, 4]
    assert isinstance(end, SeriesEnd)
    assert (end.missing, start.fates.missing, start.fates.received) == (((0, 0), (2, 3)), 3, 2)


def test_two_subscribers_take_nothing_from_each_other() -> None:
    line = Line(kind="sub")
    other = line.context.socket(zmq.SUB)
    other.subscribe(b"")
    other.connect(line.detector.get_string(zmq.LAST_ENDPOINT))
    assert line.detector.poll(5000)
    line.send(V2)
    assert len(frames_of(line.messages_until(SeriesEnd))) == 5
    assert [other.recv_multipart() for _ in V2] == V2
    line.close()


def test_both_protocols_on_one_socket(line: Line) -> None:
    line.send(V1)
    first = line.messages_until(SeriesEnd)
    line.send(V2)
    assert len(frames_of(first)) == len(frames_of(line.messages_until(SeriesEnd))) == 5


def test_hostile_messages_are_counted_and_what_follows_is_received(line: Line) -> None:
    hostile = [
        [b""],
        [b"{"],
        [b"\xd9\xd9\xf7\xff"],
        [b"x"] * 40,
        v1_image(IMAGE, 1 << 60),
        v1_image(IMAGE, type="float64"),
    ]
    line.send([V1[0], *hostile, *V1[1:]])
    messages = line.messages_until(SeriesEnd)
    assert isinstance(messages[0], SeriesStart)
    assert [f.frame for f in frames_of(messages)] == list(range(5))
    fates = messages[0].fates
    assert fates.malformed == {"protocol": 1, "json": 1, "cbor": 1, "parts": 1, "fields": 1, "unsupported": 1}
    assert fates.received == 5 + 6


def test_a_flood_of_bad_messages_does_not_flood_the_log(line: Line) -> None:
    with capture_logs() as logs:
        line.send([V1[0], *[[b"{"]] * 200, *V1[1:]])
        messages = line.messages_until(SeriesEnd)
    assert isinstance(messages[0], SeriesStart)
    assert messages[0].fates.malformed == {"json": 200}
    assert 1 <= len(logs) <= 3
    assert logs[0]["reason"] == "json"


def test_a_lost_end_is_noticed_while_nothing_arrives(line: Line) -> None:
    line.send([v1_header(nimages=5, ntrigger=1, **V1_SHAPE), *V1[1:-1]])
    end = line.messages_until(SeriesEnd)[-1]
    assert isinstance(end, SeriesEnd)
    assert end.reason == "complete"


def test_frames_outlive_the_socket_they_came_from(line: Line) -> None:
    line.send(V1)
    frames = frames_of(line.messages_until(SeriesEnd))
    line.close()
    gc.collect()
    assert all(bytes(frame.data) == CHUNK for frame in frames)


def test_stopping_closes_the_series_and_the_queue_quickly(line: Line) -> None:
    line.send(V1[:3])
    line.messages_until(Frame)
    line.receiver.stop()
    line.receiver.join(0.5)
    end = line.messages_until(SeriesEnd)[-1]
    assert isinstance(end, SeriesEnd)
    assert end.reason == "shutdown"
    assert line.queue.finished


MANY = [v1_header(detail="none"), *(v1_image(IMAGE, n, encoding="bs32-lz4<", blob=CHUNK) for n in range(50)), v1_end()]


def test_under_skip_the_newest_frames_survive_and_the_others_are_counted() -> None:
    line = Line("skip", memory_bytes=4 * len(CHUNK))
    line.send(MANY)
    assert line.queue.has_end.wait(5.0)
    messages = line.messages_until(SeriesEnd)
    line.close()
    assert isinstance(messages[0], SeriesStart)
    kept = [f.frame for f in frames_of(messages)]
    assert 0 < len(kept) < 5
    assert kept == list(range(50 - len(kept), 50))
    assert messages[0].fates.skipped == 50 - len(kept)


def test_under_block_nothing_is_lost_while_the_reduction_stands_still() -> None:
    line = Line("block", memory_bytes=4 * len(CHUNK))
    line.send(MANY)
    assert line.queue.is_full.wait(5.0)
    assert line.queue.backlog_bytes < 6 * len(CHUNK)
    messages = line.messages_until(SeriesEnd)
    line.close()
    assert [f.frame for f in frames_of(messages)] == list(range(50))


def test_an_endpoint_that_is_none_is_refused_at_once() -> None:
    queue = FrameQueue(1 << 20, "skip", SystemClock())
    with pytest.raises(StreamError, match="nowhere"):
        Receiver("nowhere", SeriesTable(), queue, SystemClock()).start()


@pytest.mark.logs_errors
def test_the_death_of_the_thread_is_told_to_the_owner(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_now_s: float) -> list[StreamMessage]:
        raise ZeroDivisionError

    monkeypatch.setattr(line.table, "tick", broken)
    assert line.died.wait(2.0)
    line.receiver.join(2.0)
    assert isinstance(line.receiver.error, ZeroDivisionError)
    assert line.queue.finished
