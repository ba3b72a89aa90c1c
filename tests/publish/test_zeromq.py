import time
from contextlib import ExitStack

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


def publish_all(publisher, results):
    for result in (results.event(), results.rows(), results.snapshot(), results.profile(), results.status()):
        publisher.publish(result)


LAST = [("series", 1), ("snapshot", 1), ("profile", 1), ("status", 1)]


def test_a_late_subscriber_gets_the_last_of_each_topic_and_only_it(publisher, subscriber, results):
    publish_all(publisher, results)
    first = subscriber()
    assert receive(first, 4) == LAST
    second = subscriber()
    assert receive(second, 4) == LAST
    assert silent(first)
    assert silent(second)


def test_a_subscriber_of_other_topics_sees_nothing_of_a_replay(publisher, subscriber, results):
    frames, status = subscriber("frames"), subscriber("status")
    publisher.publish(results.status())
    assert receive(status, 1) == [("status", 1)]
    publish_all(publisher, results)
    assert receive(frames, 1) == [("frames", 1)]
    assert receive(status, 1) == [("status", 2)]
    late = subscriber("s")
    assert sorted(receive(late, 3)) == [("series", 1), ("snapshot", 1), ("status", 2)]
    assert silent(frames)
    assert silent(status)


def test_live_messages_follow_the_replay_and_every_topic_counts_for_itself(publisher, subscriber, results):
    publish_all(publisher, results)
    socket = subscriber()
    assert receive(socket, 4) == LAST
    publish_all(publisher, results)
    expected = [("series", 2), ("frames", 2), ("snapshot", 2), ("profile", 2), ("status", 2)]
    assert receive(socket, 5) == expected


def test_profiles_are_kept_by_kind_and_source(publisher, subscriber, results):
    for source in ("union", "accumulated", "union"):
        publisher.publish(results.profile(source=source))
    assert receive(subscriber("profile"), 2) == [("profile", 2), ("profile", 3)]


def test_after_unsubscribing_nothing_comes(publisher, subscriber, results):
    socket = subscriber("status", "snapshot")
    publisher.publish(results.status())
    receive(socket, 1)
    socket.unsubscribe("status")
    publisher.publish(results.snapshot())
    receive(socket, 1)
    publisher.publish(results.status())
    assert silent(socket)


def test_a_subscriber_that_never_reads_blocks_nobody(publisher, subscriber, results):
    subscriber(rcvhwm=1, rcvbuf=4096)
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


def test_strange_requests_of_a_subscriber_are_survived(publisher, subscriber, results):
    with zmq.Context() as context, context.socket(zmq.XSUB) as strange:
        strange.linger = 0
        strange.connect(publisher.endpoint)
        for request in (b"", b"\2hello", b"\0never subscribed", b"\1" + bytes(200), b"\1" + bytes(100_000)):
            strange.send(request)
        publish_all(publisher, results)
        assert receive(subscriber(), 4) == LAST


def test_many_subscribers_come_and_go_while_it_publishes(publisher, subscriber, results):
    publisher.publish(results.event())
    for _ in range(20):
        sockets = [subscriber(), subscriber("series"), subscriber("snapshot")]
        publisher.publish(results.snapshot())
        for socket in sockets:
            socket.close()
    assert receive(subscriber("series"), 1) == [("series", 1)]


def test_final_results_are_not_for_sockets(publisher, subscriber, results):
    publisher.publish(results.result())
    publisher.publish(results.status())
    assert receive(subscriber(), 1) == [("status", 1)]


def test_the_last_message_leaves_before_it_closes(publisher, subscriber, results):
    socket = subscriber()
    publisher.publish(results.status())
    receive(socket, 1)
    publisher.publish(results.event("end"))
    publisher.close()
    assert receive(socket, 1) == [("series", 1)]


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
