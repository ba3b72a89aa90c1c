"""A daemon that is killed (SIGKILL) at random moments and started again: `python -m benchmarks.kills --kills 100`.

Meanwhile a detector sends series after series. Nothing may be counted twice, every file has to open at any moment, and
every result has to be that of an undisturbed daemon without the frames that it lists as missing, bit for bit.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from itertools import chain, count
from pathlib import Path
from random import Random

import h5py
import numpy as np
import zmq
from benchmarks.soak import DISTINCT, POWDER, words_of

from ringwatch.errors import RingwatchError
from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.publish.file_names import final_path
from ringwatch.publish.result_file import StoredResult, read_result
from ringwatch.stream.encode import ENCODERS, compress_bslz4
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import exact

FRAMES, RATE_HZ, PAUSE_S = 1200, 100.0, 0.7
LONGEST_LIFE_S = 9.0
SILENCE_S, PATIENCE_S = 2.0, 30.0
RESUMED = "goes on after a crash"
CONFIG = """
[stream]
endpoint = "ipc://{folder}/detector"
late_s = 0.2
end_timeout_s = {silence_s}
[geometry]
poni = "powder.poni"
[publish.zmq]
bind = "ipc://{folder}/results"
[publish.hdf5]
root = "{folder}"
name = "{{series:06d}}"
flush_s = 0.5
[web]
bind = "127.0.0.1:0"
"""


class Detector(threading.Thread):
    """Sends series after series at a fixed rate, whether somebody takes them or not."""

    def __init__(self, endpoint: str, images: list[np.ndarray]) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self._encoded = [compress_bslz4(image) for image in images]
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.set(zmq.SNDHWM, 4)
        self._socket.bind(endpoint)
        self.series = 0

    def run(self) -> None:
        """Until told to stop, at the end of a series."""
        for self.series in count(1):
            start = SeriesStart(self.series, str(self.series), shape=POWDER.shape, dtype=POWDER.dtype)
            encoder = ENCODERS["v1" if self.series % 2 else "v2"]
            self._send(encoder.start(start, "all"))
            begun_s = time.monotonic()
            for number in range(FRAMES):
                time.sleep(max(0.0, begun_s + number / RATE_HZ - time.monotonic()))
                data = self._encoded[number % DISTINCT]
                frame = Frame(start.series, number, POWDER.shape, POWDER.dtype, "bslz4", data, start.unique_id)
                self._send(encoder.image(start, frame))
            self._send(encoder.end(SeriesEnd(start.series, start.unique_id)))
            if self.stopping.wait(PAUSE_S):
                break
        self._context.destroy(linger=0)

    def _send(self, parts: list[bytes]) -> None:
        """What nobody takes is lost, as with a real detector."""
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return


def run(folder: Path) -> "subprocess.Popen[bytes]":
    """The daemon, as a process of its own."""
    command = [sys.executable, "-m", "ringwatch", "run", str(folder / "config.toml")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stderr=log)  # noqa: S603 - our own command


def unreadable(folder: Path) -> list[str]:
    """What does not open, at any moment."""
    faults = []
    for path in folder.glob("*.h5"):
        try:
            with h5py.File(path, "r", locking=False, swmr=path.name.endswith(".live.h5")) as file:
                len(file["entry/frames/frame"])
        except FileNotFoundError:
            continue
        except (OSError, KeyError) as error:
            faults.append(f"{path.name}: {error}")
    return faults


def left_rows(path: Path) -> list[str]:
    """Rows that became no result: a series killed in its first moment leaves none, in its last both files."""
    if final_path(path.parent, path.name.removesuffix(".live.h5")).exists():
        return []
    with h5py.File(path, "r", locking=False, swmr=True) as file:
        n_rows = len(file["entry/frames/frame"])
    return [f"{n_rows} rows without a result: {path.name}"] * bool(n_rows)


def faults_of(stored: StoredResult, words: list[np.ndarray]) -> list[str]:
    """Where a result differs from that of all frames but those that it lists."""
    numbers = stored.frames["frame"].tolist()
    gap = list(chain.from_iterable(range(first, last + 1) for first, last in stored.missing))
    expected = np.zeros_like(words[0])
    for number in numbers:
        expected = exact.add(expected, words[number % DISTINCT])
    fates = stored.fates
    checks = {
        "a frame counted twice": len(set(numbers)) < len(numbers),
        "sums": not np.array_equal(stored.sums, expected),
        "number of frames": not len(numbers) == stored.n_frames == fates.reduced,
        "gap": sorted(numbers + gap) != list(range(max(numbers, default=-1) + 1)) or fates.missing != len(gap),
        "fates": fates.received != fates.settled,
    }
    return [f"series {stored.origin.series}, {name} wrong: {fates}" for name, is_wrong in checks.items() if is_wrong]


def judge(folder: Path, words: list[np.ndarray]) -> tuple[list[str], dict[int, list[StoredResult]]]:
    """What is wrong with the results, and the results of each series."""
    faults, results = unreadable(folder), defaultdict(list)
    for path in folder.glob("*.h5"):
        if path.name.endswith(".live.h5"):
            faults += left_rows(path)
            continue
        try:
            stored = read_result(path)
        except RingwatchError as error:
            faults.append(str(error))
            continue
        faults += faults_of(stored, words)
        results[stored.origin.series].append(stored)
    for series, files in results.items():
        numbers = [number for stored in files for number in stored.frames["frame"].tolist()]
        if len(set(numbers)) < len(numbers):
            faults.append(f"series {series}: frames in several of {len(files)} files")
    return faults, results


def time_to_listen(folder: Path) -> float:
    """How long a start takes on this machine; the daemon is killed then."""
    begun_s, process = time.monotonic(), run(folder)
    while "listening" not in (folder / "log").read_text() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    return time.monotonic() - begun_s


def kill(folder: Path, life_s: float) -> list[str]:
    """Start a daemon, kill it so much later; what is wrong then."""
    process = run(folder)
    time.sleep(life_s)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    last_words = (folder / "log").read_text().splitlines()[-3:]
    return unreadable(folder) + ended * [f"the daemon ended by itself: {process.returncode}", *last_words]


def finish(folder: Path, detector: Detector) -> list[str]:
    """The last daemon lives until all is over; what is wrong then."""
    process = run(folder)
    detector.stopping.set()
    detector.join()
    time.sleep(PAUSE_S + 2 * SILENCE_S)
    process.terminate()
    faults = [f"exit code {process.returncode}"] * bool(process.wait(PATIENCE_S))
    return faults + [f"left: {path.name}" for path in folder.glob(".ringwatch*")]


def kills(number: int, seed: int) -> int:
    """Kill so many times, print what was found; the exit code."""
    random = Random(seed)  # noqa: S311 - moments are to be repeatable
    simulator = Simulator(POWDER, 1)
    images = [simulator.frame() for _ in range(DISTINCT)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "powder.poni").write_text(POWDER.poni())
        (folder / "config.toml").write_text(CONFIG.format(folder=folder, silence_s=SILENCE_S))
        detector = Detector(f"ipc://{folder}/detector", images)
        detector.start()
        longest_s = time_to_listen(folder) + LONGEST_LIFE_S
        lives_s = [random.uniform(0, longest_s) for _ in range(number)]
        faults = [fault for life_s in lives_s for fault in kill(folder, life_s)] + finish(folder, detector)
        more, results = judge(folder, words_of(images))
        log = (folder / "log").read_text()
    faults += more + [line for line in log.splitlines() if "[error" in line or "Traceback" in line]
    found = [stored for files in results.values() for stored in files]
    generations = max((stored.origin.generation for stored in found), default=0)
    print(f"{number} kills, {detector.series} series of {FRAMES} frames sent, {len(results)} with results")
    print(f"resumed {log.count(RESUMED)} times, one series in {generations} lives; {len(found)} files")
    print(f"{sum(stored.n_frames for stored in found)} frames reduced,", end=" ")
    print(f"{sum(stored.fates.missing for stored in found)} listed as missing")
    print("\n".join(faults[:20]) or "nothing wrong")
    return bool(faults)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.exit(kills(options.kills, options.seed))
