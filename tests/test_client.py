import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import zmq

from ringwatch import client, wire
from ringwatch.errors import MalformedMessage


@pytest.fixture
def publish():
    """Sends raw parts to everybody, again and again until somebody listens."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:*")
        socket.rcvtimeo = 2000

        def send(*messages):
            socket.recv()
            for parts in messages:
                socket.send_multipart(parts)

        send.endpoint = socket.last_endpoint.decode()
        send.socket = socket
        send.context = context
        yield send


def take(publish, messages, n, **arguments):
    sender = threading.Thread(target=publish, args=messages)
    sender.start()
    with closing(client.subscribe(publish.endpoint, timeout_s=2, **arguments)) as stream:
        got = [next(stream) for _ in range(n)]
    sender.join(2)
    return got


def message(topic, **fields):
    return [topic.encode(), wire.encode({"schema": 1, "type": topic, **fields})]


def test_messages_come_decoded_with_numpy_inside(publish):
    (got,) = take(publish, [message("frames", spottiness=np.array([0.1, np.nan]))], 1)
    assert got["type"] == "frames"
    assert np.array_equal(got["spottiness"], [0.1, np.nan], equal_nan=True)


@pytest.mark.parametrize("topics", ["status", ("status",)])
def test_only_the_topics_that_were_asked_for(publish, topics):
    sent = [message("frames"), message("status", fps=3.5)]
    assert take(publish, sent, 1, topics=topics) == [{"schema": 1, "type": "status", "fps": 3.5}]


def test_silence_is_an_error_that_names_the_endpoint(publish):
    stream = client.subscribe(publish.endpoint, timeout_s=0.05)
    with pytest.raises(TimeoutError, match=publish.endpoint):
        next(stream)


@pytest.mark.parametrize("parts", [[b"frames"], [b"frames", b"\xc1"], [b"frames", b"\x80", b""], [b"frames", b"\x80"]])
def test_what_is_not_ringwatch_is_refused(publish, parts):
    with pytest.raises(MalformedMessage):
        take(publish, [parts], 1)


def test_it_reconnects_when_the_daemon_comes_back(publish):
    with closing(client.subscribe(publish.endpoint, timeout_s=5)) as stream:
        sender = threading.Thread(target=publish, args=[message("status", fps=1.0)])
        sender.start()
        assert next(stream)["fps"] == 1.0
        sender.join(2)
        publish.socket.close()
        publish.context.term()  # returns once the port is free
        with zmq.Context() as context, context.socket(zmq.XPUB) as again:
            again.bind(publish.endpoint)
            sender = threading.Thread(target=lambda: (again.recv(), again.send_multipart(message("status", fps=2.0))))
            sender.start()
            assert next(stream)["fps"] == 2.0
            sender.join(2)


@pytest.fixture
def http():
    servers, asked = [], []

    def serve(body, status=200):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(status if self.path.startswith(("/api/latest", "/api/wait?")) else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append((server, threading.Thread(target=server.serve_forever, args=[0.02])))
        servers[-1][1].start()
        return f"http://127.0.0.1:{server.server_port}"

    serve.asked = asked
    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join(2)


def test_latest_reads_the_flat_facts(http):
    assert client.latest(http(b'{"frame": 412}')) == {"frame": 412}
    assert client.latest(http(b'{"frame": 412}') + "/") == {"frame": 412}


@pytest.mark.parametrize("body", [b"[1]", b"<html>", b"\xff"])
def test_latest_of_something_else_is_a_value_error(http, body):
    with pytest.raises(ValueError):  # noqa: PT011 - json, unicode and own errors alike
        client.latest(http(body))


def test_latest_without_a_daemon_is_an_os_error(http):
    with pytest.raises(OSError, match="500"):
        client.latest(http(b"", 500))
    with pytest.raises(ValueError, match="no http address"):
        client.latest("file:///etc/hostname")


def test_a_decision_is_waited_for(http):
    url = http(b'{"outcome": "stop", "frame": 412}')
    assert client.wait_for_decision(url, 3.5) == {"outcome": "stop", "frame": 412}
    assert client.wait_for_decision(url, 0, after="s 17")["outcome"] == "stop"
    assert http.asked == ["/api/wait?for=decision&timeout_s=3.5", "/api/wait?for=decision&timeout_s=0&after=s+17"]


def test_no_decision_in_time_is_an_error(http):
    with pytest.raises(TimeoutError, match=r"no decision from http://.* for 0\.5 s"):
        client.wait_for_decision(http(b'{"outcome": "timeout"}'), 0.5)
    for timeout_s in (-1, float("nan"), 3601):
        with pytest.raises(ValueError, match="not between 0 and 3600"):
            client.wait_for_decision(client.URL, timeout_s)
