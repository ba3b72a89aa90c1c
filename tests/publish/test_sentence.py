import pytest

from ringwatch.publish.sentence import fault, sentence, verdict, word

NUMBERS = {"accumulated": 0.0343, "frame": 0.1249, "union": 0.16}


def test_waiting_until_a_series_starts(results):
    for status in (None, results.status("waiting")):
        assert word(None, status) == "WAITING"
        assert sentence(None, status, None, {}) == "Waiting for the detector to start a series."


@pytest.mark.parametrize("event", ["start", "joined", "resumed", "ready"])
def test_measuring_tells_the_frame_and_how_uneven_its_rings_are(results, event):
    event = results.event(event)
    assert word(event, results.status()) == "MEASURING"
    assert sentence(event, None, None, {}) == "Series 17 has started; its first frame is still to come."
    assert sentence(event, None, results.snapshot(412), NUMBERS) == (
        "Frame 412: the summed rings are uneven by 3.4 %, those of the last frame by 12 %. Photon noise is part of it."
    )


@pytest.mark.parametrize(
    ("reason", "tail"),
    [
        ("end", ""),
        ("timeout", " No end message came: it was closed after silence."),
        ("complete", " No end message came: all frames it announced were seen."),
        ("shutdown", " It was cut short: the daemon stopped."),
        ("abandoned", " It was cut short: a new series began."),
    ],
)
def test_done_tells_how_it_ended(results, reason, tail):
    event = results.event("abandoned" if reason == "abandoned" else "end", reason)
    assert word(event, results.status("waiting")) == "DONE"
    said = sentence(event, None, results.snapshot(1), {"accumulated": 0.2})
    assert said == f"Series 17 is over after 1 frame: the summed rings are uneven by 20 %.{tail}"


def test_a_series_without_a_frame(results):
    said = sentence(results.event("end", "end"), None, results.snapshot(0), {})
    assert said == "Series 17 is over; it had no frame that could be reduced."


def test_an_abandoned_series_and_an_error_ask_to_check_the_setup(results):
    event = results.event("abandoned", "the PONI does not fit")
    assert word(event, results.status("waiting")) == "CHECK SETUP"
    assert sentence(event, None, None, {}) == "Series 17 was abandoned: the PONI does not fit."
    status = results.status("error", reason="out of device memory.")
    assert word(results.event(), status) == "CHECK SETUP"
    assert sentence(results.event(), status, results.snapshot(), NUMBERS) == "out of device memory."


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({}, "there is no ring to measure yet"),
        ({"accumulated": None, "frame": float("nan")}, "there is no ring to measure yet"),
        ({"frame": 0.0996}, "the rings of the last frame are uneven by 10 %"),
        ({"accumulated": 0.0994}, "the summed rings are uneven by 9.9 %"),
        ({"union": 0.3}, "there is no ring to measure yet"),
    ],
)
def test_only_numbers_that_exist_are_said_and_the_union_never(results, numbers, said):
    assert sentence(results.event(), None, results.snapshot(5), numbers).startswith(f"Frame 5: {said}.")


def decided(results, reason_code, event=None, status=None):
    decision = results.decision(reason_code=reason_code)
    return verdict(event or results.event(), status, results.snapshot(412), decision, NUMBERS)


@pytest.mark.parametrize(
    ("reason_code", "expected"),
    [
        ("too_early", "MEASURING"),
        ("above_target", "MEASURING"),
        ("confirming", "MEASURING"),
        ("few_spots", "MEASURING"),
        ("photons", "MEASURING"),
        ("max_frames", "MEASURING"),
        ("reached", "GOOD ENOUGH"),
        ("static", "NOT MOVING"),
        ("never", "WILL NOT REACH"),
        ("eight_bit", "CHECK SETUP"),
        ("masked_zeros", "CHECK SETUP"),
        ("energy", "CHECK SETUP"),
        ("beam_loss", "CHECK SETUP"),
        ("frames_lost", "CHECK SETUP"),
        ("saturation", "CHECK SETUP"),
        ("drift", "CHECK SETUP"),
    ],
)
def test_a_decision_says_its_own_sentence_under_the_word_of_its_reason(results, reason_code, expected):
    assert decided(results, reason_code, status=results.status()) == (expected, results.decision().sentence)


def test_without_a_decision_only_what_was_measured_is_said(results):
    event, snapshot = results.event(), results.snapshot(412)
    said = verdict(event, None, snapshot, None, NUMBERS)
    assert said == ("MEASURING", sentence(event, None, snapshot, NUMBERS))
    assert verdict(None, None, None, None, {})[0] == "WAITING"


def test_a_series_that_is_over_is_not_told_to_go_on(results):
    end = results.event("end", "end")
    assert decided(results, "above_target", end) == ("DONE", sentence(end, None, results.snapshot(412), NUMBERS))
    assert decided(results, "over", end) == ("DONE", results.decision().sentence)
    assert decided(results, "reached", end) == ("GOOD ENOUGH", results.decision().sentence)
    assert decided(results, "static", end) == ("NOT MOVING", results.decision().sentence)


def test_trouble_of_the_daemon_speaks_before_any_decision(results):
    status = results.status("error", reason="out of device memory.")
    assert decided(results, "reached", status=status) == ("CHECK SETUP", "out of device memory.")
    refused = results.event("abandoned", "the PONI does not fit")
    assert decided(results, "reached", refused) == (
        "CHECK SETUP",
        "Series 17 was abandoned: the PONI does not fit.",
    )
    assert fault(refused, None)
    assert not fault(results.event(), results.status())


FAILED = "I asked the detector to stop at 03:14:07; it is still acquiring. Please stop the scan."


def stopped(results, stop, event=None, reason_code="reached"):
    event, snapshot = event or results.event(), results.snapshot(412)
    return verdict(event, None, snapshot, results.decision(reason_code=reason_code), NUMBERS, stop)


def test_what_came_of_a_stop_is_added_to_the_decision(results):
    why = results.decision().sentence
    assert stopped(results, results.stop()) == ("GOOD ENOUGH", f"{why} Stopped at frame 412: detector idle.")
    end = results.event("end", "end")
    assert stopped(results, results.stop(), end, "over") == ("DONE", f"{why} Stopped at frame 412: detector idle.")


def test_a_stop_that_failed_is_the_first_thing_to_know_while_the_series_goes_on(results):
    failed, why = results.stop("failed", FAILED), results.decision().sentence
    assert stopped(results, failed) == ("CHECK SETUP", f"{FAILED} {why}")
    assert stopped(results, failed, results.event("end", "end")) == ("GOOD ENOUGH", why)
