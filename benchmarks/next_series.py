"""How soon the next series has its first row: `python benchmarks/next_series.py`.

Series of 4M frames follow one another with the same geometry. The first frame is sent some time after the header, as
when a detector is armed and then triggered; printed is the time from sending it to its published row.
"""

import tempfile
import threading
import time
from collections.abc import Iterator

import numpy as np
from tutorial_daemon import configuration

from ringwatch.messages import FrameRows, Result, SeriesEvent, SeriesStart
from ringwatch.service.daemon import Daemon
from ringwatch.stream.encode import Encoded, compress_bslz4
from ringwatch.stream.powder import TUTORIAL, pixel_mask
from ringwatch.stream.sender import Sender
from ringwatch.stream.simulator import DEFAULT_SEED, Simulator

TRIGGERED_AFTER_S = (0.5, 0.5, 0.1, 0.1, 0.0, 0.0)
FRAMES, RATE_HZ = 40, 100


class Stopwatch:
    """When the first frame of a series was sent, and when its first row came."""

    def __init__(self) -> None:
        self.sent_s: dict[str, float] = {}
        self.row_s: dict[str, float] = {}
        self.ended = threading.Semaphore(0)

    def take(self, result: Result) -> None:
        """One result of the daemon, in its own thread."""
        if isinstance(result, FrameRows):
            self.row_s.setdefault(result.origin.unique_id, time.monotonic())
        elif isinstance(result, SeriesEvent) and result.event == "end":
            self.ended.release()

    def frames(self, name: str, encoded: list[Encoded], wait_s: float) -> Iterator[tuple[int, Encoded]]:
        """The frames of a series; notes when the first one leaves."""
        time.sleep(wait_s)
        self.sent_s[name] = time.monotonic()
        yield from ((number, encoded[number % len(encoded)]) for number in range(FRAMES))


def main() -> None:
    """Send the series and print what was measured."""
    simulator, watch = Simulator(TUTORIAL, DEFAULT_SEED), Stopwatch()
    encoded: list[Encoded] = [("bslz4", compress_bslz4(simulator.frame())) for _ in range(8)]
    with tempfile.TemporaryDirectory() as scratch:
        config = configuration(scratch)
        daemon = Daemon(config, on_result=watch.take)
        daemon.prepare()
        daemon.start()
        with Sender(config.stream.endpoint) as sender:
            for number, wait_s in enumerate(TRIGGERED_AFTER_S):
                start = SeriesStart(
                    number,
                    str(number),
                    shape=TUTORIAL.shape,
                    dtype=np.dtype(TUTORIAL.dtype),
                    frames_expected=FRAMES,
                    pixel_mask=pixel_mask(TUTORIAL),
                )
                sender.send(start, watch.frames(str(number), encoded, wait_s), RATE_HZ)
            for _ in TRIGGERED_AFTER_S:
                watch.ended.acquire(timeout=10)
        daemon.stop()
    for number, wait_s in enumerate(TRIGGERED_AFTER_S):
        delay_ms = 1e3 * (watch.row_s[str(number)] - watch.sent_s[str(number)])
        print(f"series {number}: first frame {wait_s:g} s after the header, first row {delay_ms:.0f} ms after it")


if __name__ == "__main__":
    main()
