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
    "accumulated": NUMBERS | {"spottiness": 0.034, "averaged": NUMBERS | {"spottiness": 0.025}},
    **dict.fromkeys(("late", "foreign", "duplicate", "malformed", "skipped", "excluded"), 0),
    "missing": 9,
}
STATUS = {"type": "status", "state": "measuring", "reason": "", "fps": 198.6, "lag_s": 0.04, "backlog_bytes": 2_000_000}


def test_lines_say_what_happened():
    assert watch.plain_line(SERIES) == "series 17 (LaB6): start"
    assert watch.plain_line(SNAPSHOT) == (
        "series 17 frame 412: summed image 0.0340, averaged image 0.0250, union (never decides) 0.1600; missing 9"
    )
    assert watch.plain_line(SNAPSHOT | {"accumulated": None, "missing": 0}) == (
        "series 17 frame 412: union (never decides) 0.1600"
    )
    assert watch.plain_line(STATUS) == ""
    assert watch.plain_line(STATUS | {"state": "error", "reason": "no device"}) == "error no device"
    assert watch.plain_line(FRAMES) == ""


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


def test_a_new_series_clears_the_numbers():
    dashboard = watch.Dashboard("tcp://x")
    for message in (SERIES, FRAMES, SNAPSHOT, SERIES | {"series": 18, "unique_id": "s18"}):
        dashboard.take(message)
    shown = drawn(dashboard)
    assert "no frame yet" in shown
    assert "0.0340" not in shown
    assert "▁" not in shown


def test_silence_is_said(monkeypatch):
    dashboard = watch.Dashboard("tcp://host:5560")
    dashboard.take(STATUS)
    now = watch.time.monotonic()
    monkeypatch.setattr(watch.time, "monotonic", lambda: now + 7)
    assert "nothing from tcp://host:5560 for 7 s" in drawn(dashboard)


@pytest.fixture
def daemon():
    """Publishes the four messages to whoever subscribes, after each subscription."""
    messages = [wire.encode({"schema": 1, **message}) for message in (SERIES, FRAMES, SNAPSHOT, STATUS)]
    stop = threading.Event()
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:*")

        def serve():
            while not stop.is_set():
                if socket.poll(20) and socket.recv()[:1] == b"\1":
                    for name, body in zip(("series", "frames", "snapshot", "status"), messages, strict=True):
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


@pytest.mark.parametrize("as_json", [True, False])
def test_in_a_pipe_it_writes_lines_until_interrupted(daemon, as_json):
    process = start(daemon, as_json, subprocess.PIPE)
    lines = [process.stdout.readline().decode() for _ in range(4 if as_json else 2)]
    assert interrupted(process) == 0
    if as_json:
        messages = [json.loads(line) for line in lines]
        assert [message["type"] for message in messages] == ["series", "frames", "snapshot", "status"]
        assert messages[1]["spottiness_rings"] == [0.1, 0.2, None]
    else:
        assert lines[0] == "series 17 (LaB6): start\n"
        assert lines[1].startswith("series 17 frame 412: summed image 0.0340")


def test_on_a_terminal_it_draws_a_live_table(daemon):
    ours, theirs = pty.openpty()
    process = start(daemon, False, theirs)
    os.close(theirs)
    seen = b""
    while b"frame 412 of 500" not in seen:
        seen += os.read(ours, 4096)
    assert interrupted(process) == 0
    os.close(ours)
