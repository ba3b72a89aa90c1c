"""Commands to a detector's control unit: the simulated one with each of its faults, and servers that are hostile."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest
from tests.control.conftest import ORIGIN, PATIENCE_S, Still, Stream, plain, raw_server, request

from ringwatch.clock import SystemClock
from ringwatch.control import owner, simplon
from ringwatch.control.order import Order
from ringwatch.control.simplon import Simplon
from ringwatch.errors import ControlError, StreamError
from ringwatch.stream import control_unit
from ringwatch.stream.control_unit import ControlUnit
from ringwatch.stream.faults import Fault

Detector = Callable[..., AbstractContextManager[ControlUnit]]


@pytest.fixture
def detector(stream: Stream) -> Detector:
    """A detector that acquires until it is stopped."""

    @contextmanager
    def opened(*faults: Fault) -> Iterator[ControlUnit]:
        stop, done = threading.Event(), threading.Event()
        unit = ControlUnit(stop, faults=frozenset(faults))

        def acquire() -> None:
            with unit.acquiring():
                while not (stop.wait(0.01) or done.is_set()):
                    pass
                if "end-lost" not in faults:
                    stream.end()

        thread = threading.Thread(target=acquire)
        with unit.serving():
            thread.start()
            while unit._state == "idle":
                time.sleep(0.001)
            try:
                yield unit
            finally:
                done.set()
                thread.join(PATIENCE_S)

    return opened


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are long enough for this machine to answer, and no longer."""
    monkeypatch.setattr(simplon, "_WAIT_S", 0.3)
    monkeypatch.setattr(owner, "_LEAST_SILENCE_S", 0.1)


@pytest.fixture
def _hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for never comes."""
    monkeypatch.setattr(simplon, "_WAIT_S", 0.05)


def brief(order: Order, stream: Stream) -> Order:
    """Without time for a last image."""
    return Order(order.origin, order.n_frames, order.sentence, stream, {}, 0.0)


@pytest.fixture
def actuator() -> Callable[[ControlUnit], Simplon]:
    return lambda unit: Simplon(unit.url, 20.0, SystemClock())


def test_a_detector_is_cancelled_disarmed_and_seen_idle(
    detector: Detector, order: Order, actuator: Callable[[ControlUnit], Simplon], steps: list[str]
) -> None:
    with detector() as unit:
        assert actuator(unit).stop(order, steps.append) == "detector idle"
        assert unit.commands == ["cancel", "disarm"]
    assert steps == []


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("faults", "commands", "told"),
    [
        (("cancel-refused",), ["cancel", "disarm"], ["The detector did not take cancel: "]),
        (("cancel-ignored",), ["cancel", "disarm"], []),
        (("end-lost",), ["cancel", "disarm"], []),
        (
            ("cancel-refused", "disarm-ignored"),
            ["cancel", "disarm", "abort"],
            ["The detector did not take cancel: ", "The detector is still acquiring: it is told to abort."],
        ),
        (
            ("cancel-ignored", "disarm-ignored"),
            ["cancel", "disarm", "abort"],
            ["The detector is still acquiring: it is told to abort."],
        ),
    ],
    ids=str,
)
def test_with_a_fault_it_falls_back_and_gives_no_command_twice(
    detector: Detector,
    order: Order,
    actuator: Callable[[ControlUnit], Simplon],
    steps: list[str],
    faults: tuple[Fault, ...],
    commands: list[str],
    told: list[str],
) -> None:
    with detector(*faults) as unit:
        assert actuator(unit).stop(order, steps.append) == "detector idle"
        assert unit.commands == commands
    assert len(steps) == len(told)
    assert all(step.startswith(begin) for step, begin in zip(steps, told, strict=True))


def test_a_refused_cancel_is_not_waited_for(
    detector: Detector, order: Order, actuator: Callable[[ControlUnit], Simplon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplon, "_WAIT_S", PATIENCE_S)
    with detector("cancel-refused") as unit:
        begin_s = time.monotonic()
        actuator(unit).stop(order, lambda _: None)
        assert time.monotonic() - begin_s < PATIENCE_S / 2


@pytest.mark.usefixtures("_hopeless")
def test_a_detector_that_ignores_everything_is_a_failure_and_was_told_each_thing_once(
    detector: Detector, order: Order, stream: Stream, steps: list[str], actuator: Callable[[ControlUnit], Simplon]
) -> None:
    with detector("cancel-ignored", "disarm-ignored", "abort-ignored") as unit:
        with pytest.raises(ControlError, match="it is still acquiring"):
            actuator(unit).stop(brief(order, stream), steps.append)
        assert unit.commands == ["cancel", "disarm", "abort"]


def test_a_slow_detector_is_waited_for(
    detector: Detector,
    order: Order,
    actuator: Callable[[ControlUnit], Simplon],
    monkeypatch: pytest.MonkeyPatch,
    steps: list[str],
) -> None:
    monkeypatch.setattr(control_unit, "_SLOW_S", 0.5)
    with detector("slow") as unit:
        assert actuator(unit).stop(order, steps.append) == "detector idle"
        assert unit.commands == ["cancel", "disarm"]


@pytest.mark.usefixtures("_impatient")
def test_an_answer_that_does_not_come_is_followed_by_the_next_command(
    detector: Detector, order: Order, stream: Stream, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_unit, "_SLOW_S", 3.0)
    with detector("slow") as unit:
        with pytest.raises(ControlError, match="it is still acquiring"):
            Simplon(unit.url, 0.5, SystemClock()).stop(brief(order, stream), steps.append)
        assert unit.commands == ["cancel", "disarm", "abort"]
    assert "The detector did not take cancel: " in steps[0]
    assert "did not answer in time" in steps[0]


# ------------------------------------------------------------------------------------ another series, another detector


def test_once_another_series_runs_no_further_command_is_given(
    detector: Detector, order: Order, stream: Stream, actuator: Callable[[ControlUnit], Simplon], steps: list[str]
) -> None:
    with detector("cancel-ignored") as unit:

        def begin_next() -> None:
            while not unit.commands:
                time.sleep(0.01)
            stream.next_series()

        following = threading.Thread(target=begin_next)
        following.start()
        assert actuator(unit).stop(order, steps.append) == "series over, another one has begun"
        assert unit.commands == ["cancel"]
        following.join()


def test_an_order_that_comes_late_does_not_touch_the_next_series(
    detector: Detector, order: Order, stream: Stream, actuator: Callable[[ControlUnit], Simplon]
) -> None:
    with detector() as unit:
        stream.next_series()
        assert "another one" in actuator(unit).stop(order, lambda _: None)
        assert unit.commands == []


@pytest.mark.usefixtures("_impatient")
def test_an_idle_detector_while_frames_come_is_the_wrong_one(order: Order, stream: Stream) -> None:
    unit = ControlUnit(threading.Event())
    with unit.serving():
        with pytest.raises(ControlError, match=r"says it is idle, but frames keep coming: is stop.url the right one"):
            Simplon(unit.url, 20.0, SystemClock()).stop(brief(order, stream), lambda _: None)
        still = Order(ORIGIN, 1, "", Still())
        assert Simplon(unit.url, 20.0, SystemClock()).stop(still, lambda _: None) == "detector idle"
        assert unit.commands == []


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unit = ControlUnit(threading.Event(), taken.getsockname()[1])
        with pytest.raises(StreamError, match="no commands can be taken on 127"), ExitStack() as stack:
            stack.enter_context(unit.serving())


# ------------------------------------------------------------------------------------------------- hostile servers


class Hostile:
    """Answers each path as told, all others with 404; remembers what was asked."""

    def __init__(self, **answers: bytes) -> None:
        self._answers = {f"/{path.replace('__', '/')}": answer for path, answer in answers.items()}
        self.asked: list[str] = []

    def __call__(self, connection: socket.socket) -> None:
        method, path, _ = request(connection).split(b"\r\n")[0].decode().split(" ")
        self.asked.append(f"{method} {path}")
        end = "/".join(path.split("/")[-2:])
        connection.sendall(self._answers.get(f"/{end}", plain(b"", "404 Not Found")))

    @property
    def commands(self) -> list[str]:
        return [asked.rpartition("/")[2] for asked in self.asked if asked.startswith("PUT")]


VERSION = plain(b'{"value": "1.8.0"}')


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    "state",
    [
        plain(b'{"value": "' + b"a" * 70_000 + b'"}'),
        plain(b"[" * 60_000),
        plain(b"no JSON"),
        plain(b"\xff\xfe\x00"),
        plain(b'"idle"'),
        plain(b'{"value": 1e999}'),
        plain(b'{"value": "IDLE; rm -rf"}'),
        plain(b'{"value": null}'),
        plain(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"),
        plain(b"\x1f\x8b\x08\x00", head="Content-Encoding: gzip\r\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
        b"",
    ],
    ids=range(13),
)
def test_a_state_that_makes_no_sense_gives_no_command(order: Order, stream: Stream, state: bytes) -> None:
    hostile = Hostile(api__version=VERSION, status__state=state)
    with raw_server(hostile) as url, pytest.raises(ControlError):
        Simplon(url, 1.0, SystemClock()).stop(brief(order, stream), lambda _: None)
    assert hostile.commands == []


@pytest.mark.usefixtures("_hopeless")
@pytest.mark.parametrize(
    ("version", "used"),
    [
        (plain(b'{"value": "1.6.0", "value_type": "string"}'), "1.6.0"),
        (plain(b"", "404 Not Found"), "1.8.0"),
        (plain(b'{"value": "../../command/abort"}'), "1.8.0"),
        (plain(b'{"value": 1.8}'), "1.8.0"),
    ],
)
def test_commands_go_to_the_version_that_the_control_unit_names(
    order: Order, stream: Stream, version: bytes, used: str, steps: list[str]
) -> None:
    hostile = Hostile(api__version=version, status__state=plain(b'{"value": "acquire"}'), command__cancel=plain(b"{}"))
    with raw_server(hostile) as url, pytest.raises(ControlError, match="still acquiring"):
        Simplon(f"{url}/", 5.0, SystemClock()).stop(brief(order, stream), steps.append)
    commands = [f"PUT /detector/api/{used}/command/{name}" for name in ("cancel", "disarm", "abort")]
    assert [asked for asked in hostile.asked if asked.startswith("PUT")] == commands
    assert len(steps) == 3


@pytest.mark.usefixtures("_impatient")
def test_a_question_without_an_answer_does_not_keep_the_detector_from_being_disarmed(
    order: Order, stream: Stream, steps: list[str]
) -> None:
    class Confused(Hostile):
        def __call__(self, connection: socket.socket) -> None:
            super().__call__(connection)
            if self.commands == ["cancel"]:
                self._answers["/status/state"] = plain(b"", "500 Oh")
            if self.commands == ["cancel", "disarm"]:
                self._answers["/status/state"] = plain(b'{"value": "idle"}')

    confused = Confused(
        api__version=VERSION,
        status__state=plain(b'{"value": "acquire"}'),
        command__cancel=plain(b"{}"),
        command__disarm=plain(b"{}"),
    )
    with raw_server(confused) as url:
        stopped = Simplon(url, 5.0, SystemClock()).stop(brief(order, stream), steps.append)
    assert (stopped, confused.commands) == ("detector idle", ["cancel", "disarm"])


def test_a_control_unit_that_is_away_is_named(order: Order) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ControlError, match=f"{url}/detector/api/1.8.0/status/state could not be reached"):
        Simplon(url, 2.0, SystemClock()).stop(order, lambda _: None)
