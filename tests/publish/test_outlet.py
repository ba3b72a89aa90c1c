import threading

import pytest
from structlog.testing import capture_logs

from ringwatch.errors import PublishError
from ringwatch.publish import outlet as module
from ringwatch.publish.outlet import Outlet


class Recorder:
    """A publisher that remembers what it was asked, and fails as it is told."""

    name = "recorder"

    def __init__(self, *failures):
        self.failures = list(failures)
        self.calls = []
        self.published = []
        self.changed = threading.Condition()

    def _call(self, name, result=None):
        with self.changed:
            self.calls.append(name)
            if self.failures and name != "close" and (failure := self.failures.pop(0)):
                raise failure
            if name == "publish":
                self.published.append(result)
            self.changed.notify_all()

    def open(self):
        self._call("open")

    def publish(self, result):
        self._call("publish", result)

    def close(self):
        self._call("close")

    def wait_for(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.published) >= n, 5)


@pytest.fixture
def running():
    outlets = []

    def start(publisher, **arguments):
        outlet = Outlet(publisher, first_pause_s=0.01, **arguments)
        outlet.start()
        outlets.append(outlet)
        return outlet

    yield start
    for outlet in outlets:
        outlet.leave()
        outlet.join()


def test_it_opens_publishes_in_order_and_closes(running, results):
    publisher = Recorder()
    outlet = running(publisher)
    put = [results.event(), results.rows(), results.snapshot()]
    for result in put:
        outlet.put(result)
    outlet.leave()
    assert outlet.join()
    assert publisher.published == put
    assert publisher.calls[0] == "open"
    assert publisher.calls[-1] == "close"
    assert outlet.facts.healthy
    assert (outlet.facts.failures, outlet.facts.dropped) == (0, 0)


@pytest.mark.parametrize("failure", [PublishError("disk full"), ZeroDivisionError("a bug")])
def test_after_a_failure_it_is_reopened_and_nothing_is_lost(running, results, failure):
    publisher = Recorder(None, failure)
    outlet = running(publisher)
    put = [results.event(), results.rows()]
    for result in put:
        outlet.put(result)
    publisher.wait_for(2)
    assert publisher.published == put
    assert publisher.calls[:4] == ["open", "publish", "close", "open"]
    outlet.leave()
    assert outlet.join()
    assert outlet.facts.failures == 1
    assert outlet.facts.dropped == 0


def test_a_result_that_fails_twice_is_dropped_and_counted(running, results):
    failure = PublishError("no")
    publisher = Recorder(None, failure, None, failure)
    outlet = running(publisher)
    put = [results.event(), results.rows()]
    for result in put:
        outlet.put(result)
    publisher.wait_for(1)
    assert publisher.published == put[1:]
    assert outlet.facts.dropped == 1


def test_a_streak_of_failures_is_said_once_and_shows_in_the_facts(running, results):
    release = threading.Event()

    class Down(Recorder):
        def open(self):
            if release.is_set():
                return
            raise PublishError("nobody there")

    publisher = Down()
    with capture_logs() as logs:
        outlet = running(publisher)
        outlet.put(results.event())
        outlet.put(results.rows())
        while outlet.facts.failures < 4:
            threading.Event().wait(0.005)
        facts = outlet.facts
        release.set()
        outlet.put(results.rows())
        publisher.wait_for(1)
    assert not facts.healthy
    assert facts.error == "PublishError: nobody there"
    assert [entry["event"] for entry in logs] == ["publisher failed, will be re-opened", "publisher works again"]
    assert logs[0]["publisher"] == "recorder"


def test_putting_never_waits_for_a_stuck_publisher(running, results):
    stuck, release = threading.Event(), threading.Event()

    class Stuck(Recorder):
        def publish(self, result):
            stuck.set()
            release.wait(5)

    outlet = running(Stuck(), max_waiting_bytes=100_000)
    outlet.put(results.rows())
    assert stuck.wait(2)
    for i in range(1000):
        outlet.put(results.rows(i))
    assert outlet.facts.dropped > 900
    with capture_logs() as logs:
        outlet.leave(0.05)
        assert not outlet.join()
    assert logs[0]["event"] == "publisher did not stop in time"
    release.set()


def test_a_publisher_that_cannot_close_does_not_stop_the_thread(running, results):
    class Sticky(Recorder):
        def close(self):
            raise OSError("no")

    publisher = Sticky(None, PublishError("once"))
    with capture_logs() as logs:
        outlet = running(publisher)
        outlet.put(results.rows())
        publisher.wait_for(1)
        outlet.leave()
        assert outlet.join()
    assert "publisher did not close" in [entry["event"] for entry in logs]


def test_who_does_not_come_back_is_not_healthy(running, results, monkeypatch):
    """A disk that hangs neither fails nor succeeds."""
    monkeypatch.setattr(module, "STUCK_S", 0.05)
    publisher, entered, go_on = Recorder(), threading.Event(), threading.Event()
    publish = publisher.publish

    def hangs(result):
        entered.set()
        go_on.wait(5)
        publish(result)

    publisher.publish = hangs
    outlet = running(publisher)
    assert outlet.facts.healthy
    outlet.put(results.event())
    assert entered.wait(5)
    assert not outlet.is_idle
    while outlet.facts.healthy:
        pass
    assert outlet.facts.error == "it has not come back for 0 s"
    go_on.set()
    while not outlet.is_idle:
        pass
    assert outlet.facts.healthy


def test_it_is_idle_only_when_all_has_left(running, results):
    """Also between the moment when a result is taken and the moment when it is worked on."""
    publisher = Recorder()
    outlet = running(publisher)
    for n in range(1, 200):
        outlet.put(results.event())
        while not outlet.is_idle:
            pass
        assert len(publisher.published) == n
