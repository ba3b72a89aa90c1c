"""What an open page costs: `python benchmarks/page.py` prints the daemon's processor time a frame with it over without.

A simulated series runs at 200 Hz through a daemon in this process; a headless Chromium, in a process of its own, opens
the page and leaves it, in turns. Sender and browser do not count: only this process does. The exit code is 0 below 5 %.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tutorial_daemon import configuration

from ringwatch.messages import FrameRows, Result
from ringwatch.service.daemon import Daemon

RATE_HZ = 200
LARGEST_SHARE = 0.05
DISTINCT = 24
SETTLE_S = 4.0


class Meter:
    """Frames reduced and processor time used."""

    def __init__(self) -> None:
        self._frames = 0
        self.begun = threading.Event()

    def take(self, result: Result) -> None:
        """One result of the daemon, in its own thread."""
        if isinstance(result, FrameRows):
            self._frames += len(result.frame)
            self.begun.set()

    def ms_a_frame(self, seconds: float) -> tuple[float, float]:
        """Processor time of this process, and of its web server alone, for each frame of the next so many seconds."""
        frames, used_s, web_s = self._frames, time.process_time(), web_server_s()
        time.sleep(seconds)
        per_frame = 1e3 / (self._frames - frames)
        return per_frame * (time.process_time() - used_s), per_frame * (web_server_s() - web_s)


def web_server_s() -> float:
    """Processor time of the thread that answers browsers."""
    (thread,) = (one for one in threading.enumerate() if one.name == "web-server")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


@contextmanager
def detector(endpoint: str, preset: str, n_frames: int) -> Iterator[None]:
    """A simulated detector that sends."""
    command = [sys.executable, "-m", "ringwatch", "simulate", "--bind", endpoint, "--preset", preset]
    command += ["--rate", str(RATE_HZ), "--frames", str(n_frames), "--distinct", str(DISTINCT)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def browser(url: str) -> Iterator[None]:
    """A page that is open."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is absent: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium, "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] if os.getuid() == 0 else []
        process = subprocess.Popen([*command, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def measured(daemon: Daemon, meter: Meter, pairs: int, seconds: float) -> Iterator[tuple[float, float, float]]:
    """Processor time a frame without and with an open page, and of the latter that of the web server, in ms."""
    for _ in range(pairs):
        without, _ = meter.ms_a_frame(seconds)
        with browser(daemon.web.url):
            time.sleep(SETTLE_S)
            assert daemon.web.is_watching, "the page did not open"
            yield without, *meter.ms_a_frame(seconds)
        time.sleep(SETTLE_S)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tutorial", help="tutorial (4M pixels) or truth (512 x 512)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        meter = Meter()
        config = configuration(scratch, preset=asked.preset)
        daemon = Daemon(config, on_result=meter.take)
        daemon.prepare()
        daemon.start()
        n_frames = int(RATE_HZ * (asked.pairs * 2 * (asked.seconds + SETTLE_S) + 60))
        with detector(config.stream.endpoint, asked.preset, n_frames):
            meter.begun.wait(120)
            time.sleep(SETTLE_S)
            pairs = list(measured(daemon, meter, asked.pairs, asked.seconds))
        daemon.stop()
    for without, with_page, web in pairs:
        change = with_page / without - 1
        print(
            f"{without:.3f} ms a frame without a page, {with_page:.3f} with, {web:.3f} in the web server: {change:+.1%}"
        )
    share = statistics.median(with_page / without - 1 for without, with_page, _ in pairs)
    print(f"an open page costs {share:+.1%} (median), at most {LARGEST_SHARE:.0%} are allowed")
    return int(share > LARGEST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
