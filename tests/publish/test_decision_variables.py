"""The decision as process variables, read as any EPICS client would."""

import sys
import time

import pytest

from ringwatch.errors import ConfigError, PublishError
from ringwatch.publish import epics as module
from ringwatch.publish.epics import EpicsPublisher

PREFIX = "TST:RINGWATCH:"


@pytest.fixture
def publisher(epics):
    publisher = EpicsPublisher(PREFIX, "127.0.0.1")
    publisher.open()
    yield publisher
    publisher.close()


@pytest.fixture
def get(epics, publisher):
    def got(name):
        data = epics.read(f"{PREFIX}{name}", timeout=20, repeater=False).data
        return bytes(data).decode() if name == "sentence" else data[0]

    return got


def test_before_a_series_it_waits(get):
    assert get("action") == b"waiting"
    assert get("value") != get("value")  # NaN
    assert get("sentence") == ""


def test_a_decision_is_its_four_variables(publisher, get, results):
    publisher.publish(results.event())
    assert get("action") == b"continue"
    publisher.publish(results.decision())
    assert (get("value"), get("target"), get("action")) == (0.034, 0.02, b"continue")
    assert get("sentence") == results.decision().sentence
    publisher.publish(results.decision(reason_code="reached"))
    assert get("action") == b"stop"
    publisher.publish(results.event("end", "end"))
    assert get("action") == b"over"


def test_the_next_series_is_not_stopped_by_the_decision_of_the_last(publisher, get, results, other_results):
    publisher.publish(results.decision(reason_code="reached"))
    publisher.publish(results.snapshot())
    publisher.publish(other_results.event())
    assert get("action") == b"continue"
    assert get("target") != get("target")  # NaN
    assert get("sentence") == ""


def test_a_value_that_is_not_known_is_not_a_number_and_a_long_sentence_is_cut(publisher, get, results):
    publisher.publish(results.decision(value=None, sentence="Å" * 5000))
    assert get("value") != get("value")
    assert get("sentence") == "Å" * (module.LONGEST_SENTENCE_BYTES // 2)


@pytest.mark.parametrize(("name", "value"), [("action", b"stop"), ("value", 0.0), ("sentence", b"x")])
def test_others_may_read_only(epics, publisher, get, name, value):
    before = get("action"), get("sentence")
    with pytest.raises(Exception, match=r"(?i)access|permission|ECA|right"):
        epics.write(f"{PREFIX}{name}", value, notify=True, timeout=20, repeater=False)
    assert (get("action"), get("sentence")) == before


def test_it_closes_quickly_and_opens_again(publisher, get, results):
    begin_s = time.monotonic()
    publisher.close()
    assert time.monotonic() - begin_s < 2
    with pytest.raises(PublishError, match="has ended"):
        publisher.publish(results.decision())
    publisher.open()
    publisher.publish(results.decision())
    assert get("target") == 0.02


def test_an_address_of_another_machine_is_said(epics):
    publisher = EpicsPublisher(PREFIX, "192.0.2.1")
    with pytest.raises(PublishError, match=r"cannot serve process variables on 192\.0\.2\.1"):
        publisher.open()
    publisher.close()


def test_without_the_extra_the_start_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "caproto", None)
    with pytest.raises(ConfigError, match=r"\[publish.epics\] needs caproto: pip install 'ringwatch\[epics\]'"):
        EpicsPublisher(PREFIX, "127.0.0.1")
