"""More frames than can be reduced, and listeners that never listen: what it costs is counted, and nothing else."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from tests.service.conftest import Simulated
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, Watched, expected_words
from tests.stream import wire

from ringwatch.config import Config
from ringwatch.messages import Frame, FrameRows, SeriesResult, SeriesStart, Snapshot
from ringwatch.service import daemon
from ringwatch.stream.decompress import decode_into
from ringwatch_gpu import exact
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity

OVERLOAD_S = 60.0 if "RINGWATCH_THOROUGH" in os.environ else 5.0
DECODE_S = 0.005
RATE_HZ = 2 / DECODE_S
MEMORY_BYTES = 1 << 24
IN_FLIGHT = 3 * 8 + 8
"""Frames outside of the queue: two batches in the slots, one on its way there, a few in the sockets."""

IMAGES = [wire.pixels(POWDER.shape, "<u4", seed) for seed in range(12)]
START = SeriesStart(1, "overload", shape=POWDER.shape, dtype=np.dtype("u4"))
FRAMES = [Frame(1, 0, POWDER.shape, np.dtype("u4"), "none", image.tobytes(), "overload") for image in IMAGES]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that decodes one frame after the other, at half of the detector's rate."""
    lock = threading.Lock()

    def decode(frame: Frame, out: np.ndarray) -> None:
        with lock:
            time.sleep(DECODE_S)
            decode_into(frame, out)

    monkeypatch.setattr(daemon, "decode_into", decode)


@pytest.fixture
def watched(tmp_path: Path, detector: Detector, request: pytest.FixtureRequest) -> Any:
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    stream = {"endpoint": detector.endpoint, "late_s": 0.2, "memory_bytes": MEMORY_BYTES}
    running = Watched(
        Config.from_mapping(
            {
                "stream": stream | getattr(request, "param", {}),
                "geometry": {"poni": "powder.poni"},
                "profiles": {"interval_s": 0.5},
                "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": str(tmp_path)}},
                "web": {"bind": "127.0.0.1:0"},
            },
            tmp_path,
        )
    )
    yield running
    running.daemon.stop()


@pytest.fixture
def detector() -> Any:
    opened = Detector(queued=4)
    yield opened
    opened.close()


def reduced_words(numbers: list[int]) -> np.ndarray:
    """Sums of the frames of these numbers, by numpy."""
    geometry, validity = Geometry.from_poni(POWDER.poni()), Validity.of(START.dtype)
    total = None
    for image, times in Counter(number % len(IMAGES) for number in numbers).items():
        one = expected_words([IMAGES[image]], geometry, validity)
        for _ in range(times):
            total = one if total is None else exact.add(total, one)
    assert total is not None
    return total


def send(
    detector: Detector, numbers: range, rate_hz: float = 0.0, look: Callable[[], None] = lambda: None
) -> list[float]:
    """Send frames on a schedule; when each was sent."""
    begin_s, sent_s = time.monotonic(), []
    for k, number in enumerate(numbers):
        if rate_hz:
            time.sleep(max(begin_s + k / rate_hz - time.monotonic(), 0.0))
        sent_s.append(time.monotonic())
        detector.image(number, FRAMES[number % len(FRAMES)])
        look()
    return sent_s


def arrived_s(watched: Watched) -> dict[int, float]:
    return {int(n): t for t, rows in watched.results if isinstance(rows, FrameRows) for n in rows.frame}


@pytest.mark.usefixtures("slow")
def test_at_twice_the_rate_half_is_skipped_and_counted_and_the_lag_is_bounded(
    watched: Watched, detector: Detector
) -> None:
    backlog: list[int] = []
    n_frames = round(OVERLOAD_S * RATE_HZ)
    detector.start(START)
    sent_s = send(detector, range(n_frames), RATE_HZ, lambda: backlog.append(watched.daemon._queue.backlog_bytes))
    over_s = time.monotonic()
    watched.wait_for(lambda: n_frames - 1 in watched.numbers())
    recovered_s = time.monotonic()
    after_s = send(detector, range(n_frames, n_frames + 20), 0.2 / DECODE_S)
    detector.end()
    watched.wait_for_end()
    arrived, frame_bytes = arrived_s(watched), IMAGES[0].nbytes
    (result,), fates = watched.of(SeriesResult), watched.of(Snapshot)[-1].fates
    assert fates.received == n_frames + 20 == fates.reduced + fates.skipped
    assert fates.missing == fates.malformed.total() == 0
    assert fates.skipped > n_frames / 4
    assert np.array_equal(result.sums, reduced_words(watched.numbers()))
    assert len(watched.numbers()) == len(set(watched.numbers())) == result.n_frames == fates.reduced
    assert max(backlog) <= MEMORY_BYTES + 2 * frame_bytes
    assert max(backlog) > MEMORY_BYTES / 2
    longest_s = (MEMORY_BYTES / frame_bytes + IN_FLIGHT) * (recovered_s - sent_s[0]) / fates.reduced
    assert max(arrived[n] - sent_s[n] for n in arrived if n < n_frames) < longest_s + 0.5
    assert recovered_s - over_s < longest_s + 0.5
    assert max(arrived[n_frames + k] - at_s for k, at_s in enumerate(after_s)) < 0.5


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("watched", [{"policy": "block"}], indirect=True)
def test_under_block_the_sender_waits_and_nothing_is_lost(watched: Watched, detector: Detector) -> None:
    n_frames = 400
    detector.start(START)
    backlog: list[int] = []
    sent_s = send(detector, range(n_frames), look=lambda: backlog.append(watched.daemon._queue.backlog_bytes))
    detector.end()
    watched.wait_for_end()
    fates = watched.of(Snapshot)[-1].fates
    assert fates.received == fates.reduced == n_frames
    assert max(backlog) <= MEMORY_BYTES + 2 * IMAGES[0].nbytes
    assert np.array_equal(watched.of(SeriesResult)[0].sums, reduced_words(list(range(n_frames))))
    assert sent_s[-1] - sent_s[0] > n_frames * DECODE_S / 4  # the first ones find room in the queue and the sockets


def test_a_subscriber_a_browser_and_a_disk_that_stand_still_cost_the_reduction_nothing(
    watched: Watched, detector: Detector
) -> None:
    watched.wait_for(lambda: watched.daemon.zeromq.endpoint)
    release = threading.Event()
    assert watched.daemon.hdf5 is not None
    watched.daemon.hdf5.publish = lambda _result: release.wait(PATIENCE_S)  # type: ignore[assignment, method-assign]
    subscriber = detector.context.socket(zmq.SUB)
    subscriber.set_hwm(1)
    subscriber.setsockopt(zmq.RCVBUF, 4096)
    subscriber.subscribe(b"")
    subscriber.connect(watched.daemon.zeromq.endpoint)
    host, port = watched.daemon.web.url.removeprefix("http://").split(":")
    browsers = [socket.socket() for _ in range(20)]
    for browser in browsers:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        browser.connect((host, int(port)))
        browser.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    detector.start(START)
    sent_s = send(detector, range(400), 200.0)
    detector.end()
    watched.wait_for_end()
    arrived = arrived_s(watched)
    fates = watched.of(Snapshot)[-1].fates
    assert (fates.reduced, fates.skipped, fates.missing) == (400, 0, 0)
    assert np.median([arrived[n] - sent_s[n] for n in range(400)]) < 0.25
    assert np.array_equal(watched.of(SeriesResult)[0].sums, reduced_words(list(range(400))))
    release.set()
    for listener in (*browsers, subscriber):
        listener.close()


def test_what_the_detector_says_it_dropped_is_published(
    simulated: Callable[..., Simulated], run_told: Callable[..., Watched]
) -> None:
    eiger = simulated()
    eiger.unit.dropped = 21
    watched = run_told(eiger, dry_run=True)
    watched.wait_for(lambda: [s for s in watched.of(Snapshot) if s.detector_dropped == 21])
    watched.daemon.stop()
    assert eiger.unit.commands == []
