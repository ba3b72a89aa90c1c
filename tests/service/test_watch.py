import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import zmq
from rich.console import Console

from ringwatch import wire
from ringwatch.service import watch

NUMBERS = {"spottiness": 0.16, "spottiness_weighted": 0.29, "spottiness_rings": None}
SERIES = {"type": "series", "series": 17, "unique_id": "s17", "sample": "LaB6", "event": "start", "reason": ""}
FRAMES = {
    "type": "frames",
    "frame": np.arange(3),
    "spottiness": np.array([0.1, 0.2, 0.3]),
    "spottiness_weighted": np.array([0.1, 0.2, 0.31]),
    "spottiness_rings": np.array([0.1, 0.2, np.nan]),
}
SNAPSHOT = {
    "type": "snapshot",
    "series": 17,
    "n_frames": 412,
    "frames_expected": 500,
    "union": NUMBERS,
    "accumulated": NUMBERS | {"n_frames": 412, "spottiness": 0.034, "averaged": NUMBERS | {"spottiness": 0.025}},
    **dict.fromkeys(("late", "foreign", "duplicate", "malformed", "skipped", "excluded"), 0),
    "missing": 9,
}
DECISION = {
    "type": "decision",
    "series": 17,
    "n_frames": 412,
    "metric": "spottiness_rings",
    "value": 0.034,
    "low": 0.031,
    "high": 0.0372,
    "target": 0.02,
    "action": "continue",
    "reason_code": "above_target",
    "sentence": "Keep measuring: 3.4 % now, target 2.0 %.",
    "forecast": {
        "frames": 1190.4, "low": 1001.0, "high": None, "seconds": 18.2, "seconds_low": 11.0, "seconds_high": None,
        "p_never": 0.012,
    },
}  # fmt: skip
REACHED = DECISION | {"value": 0.0176, "reason_code": "reached", "sentence": "Good enough since frame 2312."}
STATUS = {"type": "status", "state": "measuring", "reason": "", "fps": 198.6, "lag_s": 0.04, "backlog_bytes": 2_000_000}


def test_lines_say_what_happened():
    assert watch.plain_line(SERIES) == "series 17 (LaB6): start"
    assert watch.plain_line(SNAPSHOT) == (
        "series 17 frame 412: summed image 0.0340, averaged image 0.0250, union (never decides) 0.1600; missing 9"
    )
    assert watch.plain_line(SNAPSHOT | {"accumulated": None, "missing": 0}) == (
        "series 17 frame 412: union (never decides) 0.1600"
    )
    assert watch.plain_line(SNAPSHOT | {"accumulated": None, "union": None}) == (
        "series 17 frame 412: nothing is added up; missing 9"
    )
    assert watch.plain_line(STATUS) == ""
    assert watch.plain_line(STATUS | {"state": "error", "reason": "no device"}) == "error no device"
    assert watch.plain_line(FRAMES) == ""


def test_a_decision_is_a_line_with_word_sentence_metric_target_and_forecast():
    assert watch.plain_line(DECISION) == (
        "series 17 frame 412: Keep measuring: 3.4 % now, target 2.0 %. [spottiness_rings 3.4 % (3.1 % to 3.7 %), "
        "target 2 %; expected at frame 1190 (1001 to ?), in 18 s (11 to ? s)]"
    )
    assert watch.plain_line(REACHED | {"forecast": None}) == (
        "series 17 frame 412: GOOD ENOUGH. Good enough since frame 2312. "
        "[spottiness_rings 1.8 % (3.1 % to 3.7 %), target 2 %]"
    )


@pytest.mark.parametrize(
    ("forecast", "said"),
    [
        ({"frames": None}, "; not within sight (1% never)"),
        ({"frames": 400.0}, ""),
        ({"seconds": None}, "; expected at frame 1190 (1001 to ?)"),
    ],
)
def test_a_forecast_says_what_is_known_of_the_future_only(forecast, said):
    decision = DECISION | {"forecast": DECISION["forecast"] | forecast}
    assert watch.decision_numbers(decision).endswith(f"target 2 %{said}")


def test_what_is_not_known_yet_is_said_to_be_unknown():
    unknown = DECISION | {"value": None, "low": None, "high": None, "forecast": None}
    assert watch.decision_numbers(unknown) == "spottiness_rings unknown, target 2 %"


def test_names_from_the_detector_cannot_steer_the_terminal():
    line = watch.plain_line(SERIES | {"sample": "a\x1b[2J\x07\nb"})
    assert line == "series 17 (a�[2J��b): start"
    dashboard = watch.Dashboard("tcp://x")
    dashboard.take(SERIES | {"sample": "a\x1b]0;evil\x07"})
    assert "\x1b]0" not in drawn(dashboard)


@pytest.mark.parametrize(
    ("values", "sparks"),
    [
        ([], ""),
        ([np.nan], ""),
        ([1, 1, 1], "▁▁▁"),
        ([0, 0.5, 1], "▁▅█"),
        ([3, np.nan, 1], "█ ▁"),
        (range(8), watch.SPARKS),
    ],
)
def test_a_sparkline_fills_its_range(values, sparks):
    assert watch.sparkline(values) == sparks


def drawn(dashboard):
    out = io.StringIO()
    Console(file=out, width=120).print(dashboard)
    return out.getvalue()


def test_the_table_shows_the_newest_of_everything():
    dashboard = watch.Dashboard("tcp://x")
    assert "WAITING" in drawn(dashboard)
    for message in (SERIES, FRAMES, SNAPSHOT, STATUS):
        dashboard.take(message)
    shown = drawn(dashboard)
    for part in (
        "MEASURING",
        "LaB6",
        "frame 412 of 500",
        "0.0340",
        "0.0250",
        "0.3100",
        "none",
        "▁▅█",
        "198.6 frames/s",
    ):
        assert part in shown
    for part in ("lag 0.04 s", "2.0 MB", "missing 9", "skipped 0"):
        assert part in shown
    assert "nothing from" not in shown


STOP = {
    "type": "stop",
    "series": 17,
    "unique_id": "s17",
    "n_frames": 412,
    "via": "command",
    "state": "failed",
    "sentence": "I asked stop_scan to stop at 03:14:07; it ended with 3: \x1b[2J.",
}


def test_a_stop_is_told_line_by_line_and_in_the_table():
    said = "I asked stop_scan to stop at 03:14:07; it ended with 3: �[2J."
    assert watch.plain_line(STOP) == f"series 17 frame 412: {said}"
    dashboard = watch.Dashboard("tcp://x")
    for message in (SERIES, DECISION, STOP):
        dashboard.take(message)
    assert said in drawn(dashboard)
    dashboard.take(SERIES | {"unique_id": "s18"})
    assert "I asked" not in drawn(dashboard)


def test_the_table_shows_what_was_decided():
    dashboard = watch.Dashboard("tcp://x")
    for message in (SERIES, STATUS, DECISION):
        dashboard.take(message)
    shown = drawn(dashboard)
    assert "MEASURING" in shown
    assert "Keep measuring: 3.4 % now, target 2.0 %." in shown
    assert "expected at frame 1190" in shown
    dashboard.take(REACHED)
    assert "GOOD ENOUGH" in drawn(dashboard)
    dashboard.take(STATUS | {"state": "error", "reason": "no device"})
    assert "ERROR" in drawn(dashboard), "trouble of the daemon is told first"


def test_progress_is_a_bar_where_the_length_is_known():
    dashboard = watch.Dashboard("tcp://x")
    for message in (SERIES, SNAPSHOT | {"frames_expected": None}):
        dashboard.take(message)
    assert "━" not in drawn(dashboard)
    dashboard.take(SNAPSHOT | {"n_frames": 250})
    half = drawn(dashboard).count("━")
    assert half == 20
    dashboard.take(SNAPSHOT | {"n_frames": 500})
    assert drawn(dashboard).count("━") == 40


def test_the_summed_image_has_a_sparkline_with_one_block_an_evaluation():
    dashboard = watch.Dashboard("tcp://x")
    dashboard.take(SERIES)
    for n_frames, value in ((1, 0.4), (1, 0.4), (2, 0.2), (3, 0.1)):
        summed = SNAPSHOT["accumulated"] | {"n_frames": n_frames, "spottiness": value}
        dashboard.take(SNAPSHOT | {"accumulated": summed})
    assert "summed image █▃▁\n" in drawn(dashboard)
    for n_frames in range(4, 200):
        dashboard.take(SNAPSHOT | {"accumulated": SNAPSHOT["accumulated"] | {"n_frames": n_frames}})
    assert "▁" * 60 in drawn(dashboard)
    assert "▁" * 61 not in drawn(dashboard)


def test_a_new_series_clears_the_numbers():
    dashboard = watch.Dashboard("tcp://x")
    for message in (SERIES, FRAMES, SNAPSHOT, REACHED, SERIES | {"series": 18, "unique_id": "s18"}):
        dashboard.take(message)
    shown = drawn(dashboard)
    assert "no frame yet" in shown
    assert "0.0340" not in shown
    assert "enough" not in shown.lower()
    assert "▁" not in shown


def test_silence_is_said(monkeypatch):
    dashboard = watch.Dashboard("tcp://host:5560")
    dashboard.take(STATUS)
    now = watch.time.monotonic()
    monkeypatch.setattr(watch.time, "monotonic", lambda: now + 7)
    assert "nothing from tcp://host:5560 for 7 s" in drawn(dashboard)


TOPICS = ("series", "frames", "snapshot", "decision", "status")


@pytest.fixture
def daemon():
    """Publishes the five messages to whoever subscribes, after each subscription."""
    messages = [wire.encode({"schema": 1, **message}) for message in (SERIES, FRAMES, SNAPSHOT, DECISION, STATUS)]
    stop = threading.Event()
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:*")

        def serve():
            while not stop.is_set():
                if socket.poll(20) and socket.recv()[:1] == b"\1":
                    for name, body in zip(TOPICS, messages, strict=True):
                        socket.send_multipart([name.encode(), body])

        thread = threading.Thread(target=serve)
        thread.start()
        yield socket.last_endpoint.decode()
        stop.set()
        thread.join(2)


def start(endpoint, as_json, stdout):
    code = f"import sys; from ringwatch.service.watch import watch; watch({endpoint!r}, {as_json}, sys.stdout)"
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)


def interrupted(process):
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert errors == b""
    return process.returncode


def test_what_is_said_again_and_again_is_written_once(monkeypatch):
    quiet, out = STATUS | {"state": "waiting"}, io.StringIO()
    messages = [quiet, quiet, STATUS, quiet, SERIES, quiet, quiet]
    monkeypatch.setattr(watch, "subscribe", lambda *_, **__: iter(messages))
    watch.watch("tcp://x", False, out)
    assert out.getvalue().splitlines() == ["waiting", "series 17 (LaB6): start", "waiting"]


@pytest.mark.parametrize("as_json", [True, False])
def test_in_a_pipe_it_writes_lines_until_interrupted(daemon, as_json):
    process = start(daemon, as_json, subprocess.PIPE)
    lines = [process.stdout.readline().decode() for _ in range(5 if as_json else 3)]
    assert interrupted(process) == 0
    if as_json:
        messages = [json.loads(line) for line in lines]
        assert tuple(message["type"] for message in messages) == TOPICS
        assert messages[1]["spottiness_rings"] == [0.1, 0.2, None]
        assert messages[3] == {"schema": 1, **DECISION}
    else:
        assert lines[0] == "series 17 (LaB6): start\n"
        assert lines[1].startswith("series 17 frame 412: summed image 0.0340")
        assert lines[2].startswith("series 17 frame 412: Keep measuring: 3.4 % now")


def test_on_a_terminal_it_draws_a_live_table(daemon):
    ours, theirs = pty.openpty()
    process = start(daemon, False, theirs)
    os.close(theirs)
    seen = b""
    while b"frame 412 of 500" not in seen:
        seen += os.read(ours, 4096)
    assert interrupted(process) == 0
    os.close(ours)
