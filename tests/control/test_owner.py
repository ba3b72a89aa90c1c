"""Owners of a detector that are told over HTTP or by a program, and are then watched."""

import json
import socket
import sys
import time
from pathlib import Path

import pytest
from tests.control.conftest import Still, Stream, plain, raw_server, request

from ringwatch.clock import SystemClock
from ringwatch.config import StopConfig
from ringwatch.control import owner
from ringwatch.control.actuators import actuator
from ringwatch.control.command import Command
from ringwatch.control.order import Order
from ringwatch.control.owner import Owner, has_ended
from ringwatch.control.webhook import Webhook
from ringwatch.errors import ControlError, NoAnswer

CLOCK = SystemClock()


class Listens:
    """Somebody who obeys, fails, or keeps silent."""

    via, whom = "http", "bliss"

    def __init__(self, stream: Stream, problem: ControlError | None = None, *, obeys: bool = True) -> None:
        self._stream, self._problem, self._obeys = stream, problem, obeys
        self.told = 0

    def deliver(self, order: Order) -> str:
        self.told += 1
        if self._obeys:
            self._stream.end()
        if self._problem is not None:
            raise self._problem
        return "bliss was told."


# -------------------------------------------------------------------------------------------------------- watching


def test_who_obeys_is_believed_once_the_series_is_over(stream: Stream, order: Order, steps: list[str]) -> None:
    assert Owner(Listens(stream), 5.0, CLOCK).stop(order, steps.append) == "series over"
    assert steps == ["bliss was told."]


def test_who_says_yes_and_goes_on_has_failed(stream: Stream, order: Order, steps: list[str]) -> None:
    listens = Listens(stream, obeys=False)
    with pytest.raises(ControlError, match="it is still acquiring"):
        Owner(listens, 0.2, CLOCK).stop(order, steps.append)
    assert listens.told == 1


def test_who_obeys_without_an_answer_has_not_failed(stream: Stream, order: Order, steps: list[str]) -> None:
    listens = Listens(stream, NoAnswer("bliss did not answer in time"))
    assert Owner(listens, 5.0, CLOCK).stop(order, steps.append) == "series over"
    assert steps == ["bliss did not answer in time; it may obey nevertheless."]


def test_who_refuses_is_said_at_once(stream: Stream, order: Order, steps: list[str]) -> None:
    begin_s = time.monotonic()
    with pytest.raises(ControlError, match="500"):
        Owner(Listens(stream, ControlError("it answered 500"), obeys=False), 60.0, CLOCK).stop(order, steps.append)
    assert time.monotonic() - begin_s < 5


def test_a_lost_end_message_is_no_failure_where_no_frame_comes(monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    monkeypatch.setattr(owner, "_LEAST_SILENCE_S", 0.1)
    silent = Order(order.origin, 232, "", Still())
    assert has_ended(silent, 0.3, CLOCK)
    assert not has_ended(order, 0.3, CLOCK)


def test_another_series_means_that_this_one_is_over(stream: Stream, order: Order) -> None:
    assert order.course == "running"
    stream.next_series()
    assert order.course == "replaced"
    assert has_ended(order, 60.0, CLOCK)


# --------------------------------------------------------------------------------------------------------- webhook


def test_the_order_is_posted_as_json(order: Order) -> None:
    got: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        got.append(request(connection))
        connection.sendall(plain(b"thanks", "202 Accepted"))

    with raw_server(answer) as url:
        assert Webhook(f"{url}/stop?detector=eiger", 5.0).deliver(order) == "127.0.0.1 was told."
    head, _, body = got[0].partition(b"\r\n\r\n")
    assert len(got) == 1
    assert head.startswith(b"POST /stop?detector=eiger HTTP/1.1\r\n")
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body) == {
        "series": 17,
        "unique_id": "s17",
        "sample": "LaB6",
        "n_frames": 232,
        "sentence": 'Good enough: "1.9 %".',
        "metric": "spottiness_rings",
        "value": 0.019,
        "high": None,
        "target": 0.02,
    }


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (plain(b"no", "500 Oh"), "answered 500"),
        (plain(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), "answered 302"),
        (b"nonsense\r\n\r\n", "could not be reached"),
        (b"", "could not be reached"),
        (plain(bytes(100_000)), "more than 65536 bytes"),
        (plain(b"x" * 9, head="Content-Encoding: gzip\r\n"), ""),
    ],
)
def test_only_a_plain_success_counts(order: Order, answer: bytes, said: str) -> None:
    def reply(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(answer)

    with raw_server(reply) as url:
        if said:
            with pytest.raises(ControlError, match=said):
                Webhook(url, 5.0).deliver(order)
        else:
            Webhook(url, 5.0).deliver(order)


def test_silence_and_dripping_are_no_answer(order: Order) -> None:
    def drip(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)

    def keep_silent(connection: socket.socket) -> None:
        request(connection)
        connection.recv(1)

    for behaviour in (drip, keep_silent):
        begin_s = time.monotonic()
        with raw_server(behaviour) as url, pytest.raises(NoAnswer, match="did not answer in time"):
            Webhook(url, 0.3).deliver(order)
        assert time.monotonic() - begin_s < 4


def test_a_host_that_is_away_is_named(order: Order) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ControlError, match=f"http://127.0.0.1:{port}/ could not be reached"):
        Webhook(f"http://127.0.0.1:{port}/", 2.0).deliver(order)


def test_no_proxy_of_the_environment_is_used(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    def reply(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(plain(b""))

    with raw_server(reply) as url:
        Webhook(url, 5.0).deliver(order)


# --------------------------------------------------------------------------------------------------------- command


def script(folder: Path, text: str) -> list[str]:
    path = folder / "stop_scan.py"
    path.write_text(text)
    return [sys.executable, str(path), "--detector", "eiger 1"]


def test_a_program_gets_the_order_and_the_arguments(order: Order, tmp_path: Path) -> None:
    text = (
        "import json, os, pathlib, sys\n"
        f"pathlib.Path({str(tmp_path)!r}, 'got').write_text(json.dumps("
        "[sys.argv[1:], json.load(sys.stdin)['n_frames'], os.environ['RINGWATCH_SERIES'], os.environ['HOME']]))"
    )
    assert Command(script(tmp_path, text), 30.0).deliver(order).endswith(" ended with 0.")
    assert json.loads((tmp_path / "got").read_text())[:3] == [["--detector", "eiger 1"], 232, "17"]


def test_a_program_that_fails_is_told_with_its_last_words(order: Order, tmp_path: Path) -> None:
    text = "import sys; sys.stderr.write('x' * 10**6 + '\\nno such\\x1b[31m scan\\n'); sys.exit(3)"
    with pytest.raises(ControlError, match=r"it ended with 3: x+ no such \[31m scan$") as caught:
        Command(script(tmp_path, text), 30.0).deliver(order)
    assert len(str(caught.value)) < 400


def test_a_program_that_never_reads_is_no_trouble(order: Order, tmp_path: Path) -> None:
    Command(script(tmp_path, "import os; os.close(0)"), 30.0).deliver(order)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_program_that_hangs_is_killed_with_its_children(order: Order, tmp_path: Path) -> None:
    child = "import os, time\nopen({0!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    pid = tmp_path / "pid"
    text = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child.format(str(pid))!r}])\n"
    text += f"import os\nwhile not os.path.exists({str(pid)!r}): time.sleep(.01)\ntime.sleep(600)"
    with pytest.raises(ControlError, match=r"it took more than 2 s and was killed"):
        Command(script(tmp_path, text), 2.0).deliver(order)
    deadline_s = time.monotonic() + 10
    while pid.exists() and _runs(pid.read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_program_that_is_killed_says_so(order: Order, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="was killed by signal 15"):
        Command(script(tmp_path, "import os; os.kill(os.getpid(), 15)"), 30.0).deliver(order)


def test_a_program_that_is_not_there_is_named(order: Order) -> None:
    with pytest.raises(ControlError, match="could not be started: No such file"):
        Command(["/no/such/stop_scan"], 1.0).deliver(order)
    assert Command(["/no/such/stop_scan"], 1.0).whom == "stop_scan"


# ---------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("keys", "whom"),
    [
        ({"via": "simplon", "url": "http://10.1.2.3/"}, "the detector"),
        ({"via": "http", "url": "https://bliss.example:9000/stop"}, "bliss.example"),
        ({"via": "command", "command": ["/usr/bin/stop_scan", "-x"]}, "stop_scan"),
    ],
)
def test_the_configuration_says_who_is_told(keys: dict[str, object], whom: str) -> None:
    made = actuator(StopConfig(metric="excess", target=0.01, **keys), CLOCK)  # type: ignore[arg-type]
    assert made is not None
    assert (made.via, made.whom) == (keys["via"], whom)


def test_by_default_nobody_is_told() -> None:
    assert actuator(StopConfig(metric="excess", target=0.01), CLOCK) is None
