"""Who is told to stop, when, and how often: with an actuator that only remembers."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import FakeClock
from tests.control.conftest import ORIGIN, PATIENCE_S, Reports, Stream

from ringwatch.control.order import Order, Tell
from ringwatch.control.stopper import Stopper
from ringwatch.errors import ControlError
from ringwatch.messages import Decision, Fates, Ongoing, Origin, SeriesEvent, Snapshot, Spottiness

NOTHING = np.zeros(0)


class Remembers:
    """Stops whatever it is told to, once it may."""

    via, whom = "simplon", "the detector"

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.problem: Exception | None = None

    def stop(self, order: Order, tell: Tell) -> str:
        self.orders.append(order)
        tell("A step.")
        assert self.may_end.wait(PATIENCE_S)
        if self.problem is not None:
            raise self.problem
        return "detector idle"


@pytest.fixture
def actuator() -> Iterator[Remembers]:
    made = Remembers()
    yield made
    made.may_end.set()


@pytest.fixture
def reports() -> Reports:
    return Reports()


Make = Callable[..., Stopper]


@pytest.fixture
def make(actuator: Remembers, stream: Stream, reports: Reports, clock: FakeClock) -> Make:
    def made(*, is_dry: bool = False) -> Stopper:
        stopper = Stopper(actuator, stream, reports, clock, is_dry=is_dry)
        stopper.take(event())
        return stopper

    return made


def event(kind: str = "start", origin: Origin = ORIGIN, **header: object) -> SeriesEvent:
    return SeriesEvent(origin, 0, kind, "", header or {"frame_time": 0.25}, NOTHING, NOTHING, "2th_deg", True)  # type: ignore[arg-type]


def decision(action: str = "stop", origin: Origin = ORIGIN) -> Decision:
    return Decision(
        origin, 0, 232, "spottiness_rings", 0.019, 0.018, 0.0195, 0.02, action, False, "reached", "Good.", None, None
    )  # type: ignore[arg-type] # fmt: skip


def snapshot(n_frames: int) -> Snapshot:
    return Snapshot(ORIGIN, 0, n_frames, Spottiness(0.1, 0.1, None), None, Fates(), 0, None, None)


def test_a_stop_is_ordered_reported_and_done(make: Make, actuator: Remembers, reports: Reports) -> None:
    stopper = make()
    stopper.take(decision("continue"))
    assert actuator.orders == []
    stopper.take(decision())
    last = reports.wait_for("done")
    assert [report.state for report in reports.all] == ["asked", "step", "done"]
    assert reports.all[0].sentence.startswith("Asked the detector to stop at ")
    assert last.sentence == "Stopped at frame 232: detector idle after 0.0 s."
    assert (last.origin, last.n_frames, last.via) == (ORIGIN, 232, "simplon")
    (order,) = actuator.orders
    assert (order.n_frames, order.sentence, order.frame_time_s) == (232, "Good.", 0.25)
    assert order.facts["target"] == 0.02


def test_a_series_is_told_once_whatever_is_decided_and_asked_again(
    make: Make, actuator: Remembers, reports: Reports
) -> None:
    stopper = make()
    actuator.problem = ControlError("it is still acquiring")
    for _ in range(5):
        stopper.take(decision())
    reports.wait_for("failed")
    stopper.take(decision())
    with pytest.raises(ControlError, match="series 17 was told to stop already"):
        stopper.stop_now()
    with pytest.raises(ControlError, match="told to stop already"):
        stopper.hold()
    assert len(actuator.orders) == 1


def test_two_who_ask_at_the_same_time_are_one_order(make: Make, actuator: Remembers, reports: Reports) -> None:
    stopper, barrier = make(), threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        stopper.take(decision())

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    reports.wait_for("done")
    assert len(actuator.orders) == 1


@pytest.mark.parametrize("unique_id", ["s17", "another name of v1"])
def test_a_series_that_fell_silent_and_comes_back_is_not_told_again(
    make: Make, actuator: Remembers, reports: Reports, stream: Stream, unique_id: str
) -> None:
    stopper, again = make(), replace(ORIGIN, unique_id=unique_id)
    stopper.take(decision())
    reports.wait_for("done")
    stream.now = Ongoing(unique_id, 0)
    stopper.take(event("joined", again))
    stopper.take(decision(origin=again))
    with pytest.raises(ControlError, match="told to stop already"):
        stopper.stop_now()
    assert len(actuator.orders) == 1


def test_a_series_that_was_told_before_a_crash_is_not_told_again(make: Make, actuator: Remembers) -> None:
    stopper = make()
    stopper.remember(ORIGIN)
    stopper.take(event("resumed", replace(ORIGIN, generation=2)))
    stopper.take(decision())
    with pytest.raises(ControlError, match="told to stop already"):
        stopper.stop_now()
    assert not actuator.orders


def test_the_next_series_is_stopped_too(make: Make, actuator: Remembers, reports: Reports, stream: Stream) -> None:
    stopper, following = make(), Origin(18, "s18", "LaB6", 1, "d1ce57")
    stopper.take(decision())
    reports.wait_for("done")
    stream.next_series()
    stopper.take(event("end"))
    stopper.take(event("start", following))
    stopper.take(decision(origin=following))
    while len(actuator.orders) < 2:
        reports.wait_for("asked", "step", "done")
    assert actuator.orders[1].origin == following


def test_an_order_that_hangs_does_not_keep_the_next_series_from_being_stopped(
    make: Make, actuator: Remembers, reports: Reports, stream: Stream
) -> None:
    actuator.may_end.clear()
    stopper, following = make(), Origin(18, "s18", "LaB6", 1, "d1ce57")
    stopper.take(decision())
    reports.wait_for("step")
    stream.next_series()
    stopper.take(event("start", following))
    stopper.take(decision(origin=following))
    while {report.origin.series for report in reports.all if report.state == "step"} != {17, 18}:
        reports.wait_for("asked", "step")


def test_a_decision_that_comes_when_the_series_is_over_stops_nothing(
    make: Make, actuator: Remembers, stream: Stream
) -> None:
    """The reduction may lag: by then the detector may have ended, or be taking the next series."""
    stopper = make()
    for later in (stream.end, stream.next_series):
        later()
        stopper.take(decision())
        with pytest.raises(ControlError, match="no series is running"):
            stopper.stop_now()
    assert actuator.orders == []


def test_without_a_series_nothing_can_be_asked(actuator: Remembers, stream: Stream, clock: FakeClock) -> None:
    stream.end()
    stopper = Stopper(actuator, stream, Reports(), clock)
    stopper.take(snapshot(3))
    for ask in (stopper.stop_now, stopper.hold):
        with pytest.raises(ControlError, match="no series is running"):
            ask()


def test_a_held_series_goes_on_until_a_person_stops_it(make: Make, actuator: Remembers, reports: Reports) -> None:
    stopper = make()
    assert stopper.hold() == "Series 17 is held: the rule will not stop it."
    stopper.take(decision())
    assert actuator.orders == []
    stopper.take(snapshot(300))
    assert stopper.stop_now() == "Series 17 is being stopped."
    reports.wait_for("done")
    (order,) = actuator.orders
    assert (order.n_frames, order.sentence) == (300, "Stopped by hand.")


def test_the_next_series_is_not_held(make: Make, actuator: Remembers, reports: Reports, stream: Stream) -> None:
    stopper, following = make(), Origin(18, "s18", "LaB6", 1, "d1ce57")
    stopper.hold()
    stream.next_series()
    stopper.take(event("start", following))
    stopper.take(decision(origin=following))
    reports.wait_for("done")
    assert len(actuator.orders) == 1


def test_what_failed_asks_for_a_person(make: Make, actuator: Remembers, reports: Reports) -> None:
    actuator.problem = ControlError("it is still acquiring")
    make().take(decision())
    said = reports.wait_for("failed").sentence
    assert said.startswith("I asked the detector to stop at ")
    assert said.endswith("; it is still acquiring. Please stop the scan.")


@pytest.mark.logs_errors
def test_a_defect_of_an_actuator_is_told_like_a_failure(make: Make, actuator: Remembers, reports: Reports) -> None:
    actuator.problem = ZeroDivisionError("division by zero")
    make().take(decision())
    assert "Please stop the scan" in reports.wait_for("failed").sentence


def test_a_dry_run_tells_nobody_and_says_it_once(make: Make, actuator: Remembers, reports: Reports) -> None:
    stopper = make(is_dry=True)
    stopper.take(decision())
    said = reports.wait_for("dry_run").sentence
    assert said == "Dry run: the detector would be told to stop at frame 232."
    stopper.take(decision())
    assert actuator.orders == []
    assert len(reports.all) == 1


def test_closed_it_gives_no_order_and_an_order_on_its_way_says_no_more(
    make: Make, actuator: Remembers, reports: Reports
) -> None:
    actuator.may_end.clear()
    stopper = make()
    stopper.take(decision())
    reports.wait_for("step")
    stopper.close()
    actuator.may_end.set()
    with pytest.raises(ControlError):
        stopper.stop_now()
    for thread in threading.enumerate():
        if thread.name == "control":
            thread.join(PATIENCE_S)
    assert reports.all[-1].state == "step"


@pytest.mark.parametrize(
    ("said", "seconds"), [(0.25, 0.25), (2, 2.0), (None, 0.0), ("3", 0.0), (-1.0, 0.0), (1e300, 0.0)]
)
def test_a_frame_time_that_makes_no_sense_is_none(
    make: Make, actuator: Remembers, reports: Reports, said: object, seconds: float
) -> None:
    stopper = make()
    stopper.take(event(frame_time=said))
    stopper.take(decision())
    reports.wait_for("done")
    assert actuator.orders[0].frame_time_s == seconds
