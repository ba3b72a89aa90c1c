import time
from contextlib import ExitStack

import numpy as np
import pytest
import zmq

from ringwatch import wire
from ringwatch.errors import PublishError
from ringwatch.publish.zeromq import ZeroMQPublisher


@pytest.fixture
def publisher():
    publisher = ZeroMQPublisher("tcp://127.0.0.1:*")
    publisher.open()
    yield publisher
    publisher.close()


@pytest.fixture
def subscriber(publisher):
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())

        def subscribe(*topics, **options):
            socket = stack.enter_context(context.socket(zmq.SUB))
            for name, value in {"linger": 0, "rcvtimeo": 2000, **options}.items():
                setattr(socket, name, value)
            for topic in topics or ("",):
                socket.subscribe(topic)
            socket.connect(publisher.endpoint)
            return socket

        yield subscribe


def receive(socket, n):
    messages = []
    for _ in range(n):
        topic, body = socket.recv_multipart()
        message = wire.decode(body)
        assert topic.decode() == message["type"]
        messages.append((message["type"], message["seq"]))
    return messages


def silent(socket):
    return not socket.poll(150)


ALL = ["series", "frames", "snapshot", "profile", "decision", "status"]
LAST = [(topic, 1) for topic in ALL if topic != "frames"]


@pytest.fixture
def first(publisher, subscriber, results):
    """A subscriber to everything that is there from the beginning, and has seen one message of each topic."""
    socket = subscriber()
    publisher.publish(results.event())
    receive(socket, 1)
    for result in (results.rows(), results.snapshot(), results.profile(), results.decision(), results.status()):
        publisher.publish(result)
    receive(socket, 5)
    return socket


def test_a_late_subscriber_gets_the_last_of_each_topic_and_only_it(subscriber, first):
    second = subscriber()
    assert receive(second, 5) == LAST
    third = subscriber("s")
    assert receive(third, 3) == [("series", 1), ("snapshot", 1), ("status", 1)]
    assert silent(first)
    assert silent(second)
    assert silent(third)


def test_a_subscriber_of_other_topics_sees_nothing_of_a_replay(publisher, subscriber, first, results):
    frames = subscriber("frames")
    while not frames.poll(10):
        publisher.publish(results.rows())
    while frames.poll(100):
        frames.recv_multipart()
    assert receive(subscriber("status"), 1) == [("status", 1)]
    assert receive(subscriber(), 5) == LAST
    assert silent(frames)


def test_live_messages_follow_the_replay_and_every_topic_counts_for_itself(publisher, subscriber, first, results):
    socket = subscriber()
    assert receive(socket, 5) == LAST
    for result in (results.event(), results.rows(), results.snapshot(), results.profile(), results.decision()):
        publisher.publish(result)
    publisher.publish(results.status())
    assert receive(socket, 6) == receive(first, 6) == [(topic, 2) for topic in ALL]


def test_profiles_are_kept_by_kind_and_source(publisher, subscriber, first, results):
    for source in ("accumulated", "union"):
        publisher.publish(results.profile(source=source))
    receive(first, 2)
    assert receive(subscriber("profile"), 2) == [("profile", 2), ("profile", 3)]


def test_profiles_of_frames_come_while_somebody_named_them(publisher, subscriber, first, results):
    """And not to those who want everything: that would be megabytes each second."""
    publisher.publish(results.profiled())
    assert receive(first, 1) == [("frames", 2)]
    assert silent(first)
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe("frame_profiles")
        socket.connect(publisher.endpoint)
        while not socket.poll(20):
            publisher.publish(results.profiled(5, 2))
        message = wire.decode(socket.recv_multipart()[1])
        assert (message["type"], message["series"], message["kind"]) == ("frame_profiles", 17, "mean")
        assert message["frame"].tolist() == [5, 6]
        assert message["intensity"].dtype == np.float32
        assert np.array_equal(message["sem"], -message["intensity"])
        assert "sums" not in message
    while publisher._profiles_wanted.is_set():  # it has left: the publisher is told
        time.sleep(0.01)
    second = subscriber("frame_profiles")
    third = subscriber("frame_profiles")
    while not (second.poll(20) and third.poll(20)):
        publisher.publish(results.profiled())
    third.unsubscribe("frame_profiles")
    while second.poll(50):
        second.recv_multipart()
    publisher.publish(results.profiled())
    assert second.poll(2000), "one of two is still there"
    second.unsubscribe("frame_profiles")
    while publisher._profiles_wanted.is_set():
        time.sleep(0.01)


def test_rows_without_profiles_have_none(publisher, subscriber, results):
    socket = subscriber("frame")
    while not socket.poll(20):
        publisher.publish(results.rows())
    assert socket.recv_multipart()[0] == b"frames"


def test_after_unsubscribing_nothing_comes(publisher, subscriber, first, results):
    socket = subscriber("status", "snapshot")
    assert sorted(receive(socket, 2)) == [("snapshot", 1), ("status", 1)]
    socket.unsubscribe("status")
    publisher.publish(results.snapshot())
    receive(socket, 1)
    publisher.publish(results.status())
    assert silent(socket)


def test_a_subscriber_that_never_reads_blocks_nobody(publisher, subscriber, results):
    stuck = subscriber("series", "frames", rcvhwm=1, rcvbuf=4096)
    publisher.publish(results.event())
    receive(stuck, 1)
    reader = subscriber("status")
    publisher.publish(results.status())
    receive(reader, 1)
    rows = results.rows(0, 2000)
    begin = time.monotonic()
    for _ in range(3000):
        publisher.publish(rows)
    publisher.publish(results.status())
    assert receive(reader, 1) == [("status", 2)]
    assert time.monotonic() - begin < 5


def test_strange_requests_of_a_subscriber_are_survived(publisher, subscriber, first):
    with zmq.Context() as context, context.socket(zmq.XSUB) as strange:
        strange.linger = 0
        strange.connect(publisher.endpoint)
        for request in (b"", b"\2hello", b"\0never subscribed", b"\1" + bytes(200), b"\1" + bytes(100_000)):
            strange.send(request)
        assert receive(subscriber(), 5) == LAST


def test_many_subscribers_come_and_go_while_it_publishes(publisher, subscriber, first, results):
    for _ in range(20):
        sockets = [subscriber(), subscriber("series"), subscriber("snapshot")]
        publisher.publish(results.snapshot())
        for socket in sockets:
            socket.close()
    assert receive(subscriber("series"), 1) == [("series", 1)]


def test_final_results_are_not_for_sockets(publisher, first, results):
    publisher.publish(results.result())
    publisher.publish(results.status())
    assert receive(first, 1) == [("status", 2)]


def test_the_last_message_leaves_before_it_closes(publisher, first, results):
    publisher.publish(results.event("end"))
    publisher.close()
    assert receive(first, 1) == [("series", 2)]


def test_a_taken_endpoint_is_said(publisher):
    second = ZeroMQPublisher(publisher.endpoint)
    with pytest.raises(PublishError, match=r"cannot publish on tcp://127\.0\.0\.1:\d+: Address already in use"):
        second.open()
    second.close()


def test_it_opens_again_after_closing_and_refuses_in_between(results):
    publisher = ZeroMQPublisher("tcp://127.0.0.1:*")
    with pytest.raises(PublishError, match="closed"):
        publisher.publish(results.status())
    publisher.open()
    endpoint = publisher.endpoint
    publisher.close()
    again = ZeroMQPublisher(endpoint)
    again.open()
    again.close()
