"""What `make bench` measures: integration against pyFAI on every device, then a detector at 200 Hz for a minute.

python benchmarks/run.py [integration] [stream --seconds 60 --rate 200 --distinct 64 --platform NAME]
"""

import argparse
import json
import resource
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from statistics import median

from rich.console import Console
from tutorial_daemon import configuration

from ringwatch.messages import Result, SeriesEvent, Snapshot, Status
from ringwatch.service.bench import bench, show
from ringwatch.service.daemon import Daemon
from ringwatch.stream.powder import TUTORIAL
from ringwatch.stream.sender import Sender, SendReport
from ringwatch.stream.simulator import DEFAULT_SEED, simulate


def send(endpoint: str, rate_hz: float, n_frames: int, distinct: int) -> SendReport:
    """The detector, in a process of its own."""
    with Sender(endpoint, "v2", peer_timeout_s=300) as sender:
        return simulate(sender, TUTORIAL, n_frames, rate_hz=rate_hz, seed=DEFAULT_SEED, distinct=distinct)


class Watcher:
    """Remembers what the acceptance asks for."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.lags_s: list[float] = []
        self.rates_hz: list[float] = []
        self.last: Snapshot | None = None

    def take(self, result: Result) -> None:
        """One result of the daemon, in its own thread."""
        if isinstance(result, Snapshot):
            self.last = result
        elif isinstance(result, Status) and result.state == "measuring":
            self.lags_s.append(result.lag_s)
            self.rates_hz.append(result.fps)
        elif isinstance(result, SeriesEvent) and result.event in ("end", "abandoned"):
            self.ended.set()


def stream(rate_hz: float, seconds: float, distinct: int, platform: str | None) -> dict[str, object]:
    """A series through the whole daemon, sender and receiver on this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        config = configuration(scratch, platform)
        watcher = Watcher()
        daemon = Daemon(config, on_result=watcher.take)
        daemon.prepare()
        daemon.start()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as detector:
            cpu_s, begin_s = time.process_time(), time.monotonic()
            report = detector.submit(send, config.stream.endpoint, rate_hz, round(rate_hz * seconds), distinct).result()
            watcher.ended.wait(30)
            cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - begin_s
        daemon.stop()
    last = watcher.last
    assert last is not None
    return {
        "frames": last.n_frames,
        "skipped": last.fates.skipped,
        "missing": last.missing,
        "lag_max_s": round(max(watcher.lags_s), 3),
        "lag_median_s": round(median(watcher.lags_s), 3),
        "rate_hz_median": round(median(watcher.rates_hz), 1),
        "daemon_core_ms_a_frame": round(1e3 * cpu_s / last.n_frames, 2),
        "daemon_peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "sender": {name: round(value, 3) for name, value in asdict(report).items()},
        "wall_s": round(wall_s, 1),
    }


def main() -> None:
    """Measure what the command line names, by default everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["integration", "stream"], help="integration, stream")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--distinct", type=int, default=64)
    parser.add_argument("--platform")
    options = parser.parse_args()
    if "integration" in options.parts:
        show(bench(), Console(width=120))
    if "stream" in options.parts:
        found = stream(options.rate, options.seconds, options.distinct, options.platform)
        print(f"{options.distinct} distinct 4M frames at {options.rate:g} Hz for {options.seconds:g} s:")
        print(json.dumps(found, indent=2))
        if found["skipped"] or found["missing"]:
            sys.exit("frames were lost")


if __name__ == "__main__":
    main()
