"""Series after series with random faults through a daemon of its own: `python -m benchmarks.soak --minutes 30`.

Hostile messages, lost frames, lost ends, a detector that restarts, bursts beyond what is reduced, a subscriber who
does not read. Every result file is compared with what was sent: sums bit for bit, fates exactly. It fails if a file is
wrong, memory grew by more than 5 %, a thread, socket or file leaked, or the daemon logged an error.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np
import zmq
from tests.stream.hostile import HOSTILE, Hostile, Running

from ringwatch.errors import RingwatchError
from ringwatch.messages import Codec, Frame, SeriesEnd, SeriesStart
from ringwatch.publish.result_file import read_result
from ringwatch.stream.encode import ENCODERS, compress_bslz4
from ringwatch.stream.powder import TRUTH
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import exact, reference
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.sums import StaticSums
from ringwatch_gpu.validity import Validity

POWDER = replace(
    TRUTH, shape=(256, 256), poni1_m=128 * 75e-6, poni2_m=128 * 75e-6, crystallites=2e4, dtype=np.dtype(np.uint32)
)
FRAMES, BURST = 60, 600
DISTINCT = 8
PATIENCE_S = 30.0
LOOKS, WARM_UP = 20, 0.25
MAX_GROWTH = 1.05
DECODED_LATE = ("lz4", "header", "size")
"""Reasons that are found in a frame's pixels: its number has been taken by then."""
CONFIG = """
[stream]
endpoint = "ipc://{folder}/detector"
memory_bytes = 16777216
late_s = 0.05
[geometry]
poni = "powder.poni"
[publish.zmq]
bind = "ipc://{folder}/results"
[publish.hdf5]
root = "{folder}"
[web]
bind = "127.0.0.1:0"
"""


@dataclass
class Sent:
    """What was sent of one series: numbers of the sound frames, numbers in between that were not, and other fates."""

    start: SeriesStart
    version: str
    sound: set[int] = field(default_factory=set)
    missing: int = 0
    fates: Counter[str] = field(default_factory=Counter)


class Detector:
    """A bound socket that sends series with faults."""

    def __init__(self, endpoint: str, random: Random) -> None:
        simulator = Simulator(POWDER, 1)
        images = [simulator.frame() for _ in range(DISTINCT)]
        self.images = images
        self._encoded: dict[Codec, list[bytes]] = {
            "bslz4": [compress_bslz4(image) for image in images],
            "none": [image.tobytes() for image in images],
        }
        self._endpoint, self._random = endpoint, random
        self._context = zmq.Context()
        self._open()

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.set(zmq.LINGER, int(1000 * PATIENCE_S))
        self._socket.bind(self._endpoint)

    def restart(self) -> None:
        """All that was sent arrives, then the socket is another one."""
        self._context.destroy(linger=int(1000 * PATIENCE_S))
        self._context = zmq.Context()
        self._open()

    def close(self) -> None:
        """Drop what nobody took."""
        self._context.destroy(linger=0)

    def send(self, series: int, *, is_burst: bool, loses_end: bool) -> Sent:
        """One series; each number is a sound frame, a lost one, or is spent on a hostile message."""
        start = SeriesStart(series, str(series), shape=POWDER.shape, dtype=POWDER.dtype)
        sent = Sent(start, self._random.choice(["v1", "v2"]))
        encoder = ENCODERS[sent.version]
        self._socket.send_multipart(encoder.start(start, "all"))
        n_frames = BURST if is_burst else FRAMES
        for number in range(n_frames):
            chance = self._random.random()
            if number in (0, n_frames - 1) or chance > 0.15:
                self._send_sound(sent, number, "none" if is_burst else "bslz4")
            elif chance > 0.08:
                sent.missing += 1
            else:
                self._send_hostile(sent, number, self._random.choice(HOSTILE[sent.version]))
            if self._random.random() < 0.001:
                self.restart()
        if not loses_end:
            self._socket.send_multipart(encoder.end(SeriesEnd(series, start.unique_id)))
        return sent

    def _send_sound(self, sent: Sent, number: int, codec: Codec) -> None:
        data = self._encoded[codec][number % DISTINCT]
        frame = Frame(sent.start.series, number, POWDER.shape, POWDER.dtype, codec, data, sent.start.unique_id)
        self._socket.send_multipart(ENCODERS[sent.version].image(sent.start, frame))
        sent.sound.add(number)

    def _send_hostile(self, sent: Sent, number: int, one: Hostile) -> None:
        running = Running(sent.start.series, sent.start.unique_id, number, self.images[0])
        self._socket.send_multipart(one.parts(running))
        sent.missing += one.fate not in DECODED_LATE
        sent.fates[one.fate] += bool(one.fate)


def words_of(images: list[np.ndarray]) -> list[np.ndarray]:
    """The sums of each image, by the specification."""
    geometry, validity = Geometry.from_poni(POWDER.poni()), Validity.of(POWDER.dtype)
    static = StaticSums.of(geometry.bin_table, geometry.norm_q, geometry.bins)
    tables = geometry.bin_table, geometry.norm_q, geometry.bins, validity
    return [reference.integrate(image.reshape(1, -1), *tables).rows(static)[0] for image in images]


class Judge:
    """Compares result files with what was sent."""

    def __init__(self, folder: Path, images: list[np.ndarray]) -> None:
        self._words, self._folder = words_of(images), folder
        self.waiting: list[Sent] = []
        self.series = self.frames = 0
        self.fates: Counter[str] = Counter()
        self.wrong: list[str] = []

    def judge(self, keep: int) -> None:
        """Wait for the files of all that was sent but the last ``keep`` series, and delete them."""
        deadline_s = time.monotonic() + PATIENCE_S
        while len(self.waiting) > keep:
            path = next(self._folder.glob(f"*_{self.waiting[0].start.series:06d}.h5"), None)
            if path is not None:
                self._compare(self.waiting.pop(0), path)
            elif time.monotonic() > deadline_s:
                self.wrong.append(f"no file of series {self.waiting.pop(0).start.series}")
            else:
                time.sleep(0.01)

    def _compare(self, sent: Sent, path: Path) -> None:
        try:
            stored = read_result(path)
        except RingwatchError as error:
            self.wrong.append(str(error))
            return
        path.unlink()
        numbers = {int(number) for number in stored.frames["frame"]}
        expected = np.zeros_like(self._words[0])
        for number in numbers:
            expected = exact.add(expected, self._words[number % DISTINCT])
        fates = stored.fates
        others = Counter({name: getattr(fates, name) for name in ("late", "foreign", "duplicate")}) + fates.malformed
        checks = {
            "sums": np.array_equal(stored.sums, expected),
            "frames": numbers <= sent.sound and len(numbers) == fates.reduced == stored.n_frames,
            "received": fates.received == len(sent.sound) + sent.fates.total() == fates.settled,
            "missing": fates.missing == sent.missing,
            "fates": others == +sent.fates if not fates.skipped else others <= sent.fates,
            "skipped": fates.skipped == len(sent.sound) - len(numbers) + sent.fates.total() - others.total(),
        }
        self.wrong += [
            f"series {sent.start.series}: {name} wrong: {fates}, sent {sent.missing} {sent.fates}"
            for name, is_right in checks.items()
            if not is_right
        ]
        self.series, self.frames = self.series + 1, self.frames + len(sent.sound)
        self.fates += Counter(reduced=fates.reduced, skipped=fates.skipped, missing=fates.missing) + others


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    memory_mb: float
    threads: int
    sockets: int
    files: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        """What the system says of it now."""
        status = Path(f"/proc/{pid}/status").read_text()
        said = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")}  # type: ignore[index]
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
        sockets = sum(link.startswith("socket:") for link in links)
        return cls(said["VmRSS"] / 1024, said["Threads"], sockets, len(links) - sockets)


class Log(threading.Thread):
    """Counts the daemon's lines of each kind, and keeps those that tell an error."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        super().__init__(daemon=True)
        self._process, self.lines, self.errors = process, Counter[str](), list[str]()
        self.is_listening = threading.Event()
        self.start()

    def run(self) -> None:
        """Read until the daemon ends."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            kind = re.match(r"\S+ \[(\w+) *\] (.{0,300}?)(?:  |$)", line)
            self.lines[" ".join(kind.groups()).strip() if kind else "(more)"] += 1
            if not kind or kind[1] in ("error", "critical"):
                self.errors.append(line.rstrip())
            if "listening" in line:
                self.is_listening.set()


@contextmanager
def daemon(folder: Path) -> Iterator[tuple[int, Log]]:
    """A daemon as a process of its own: its number, its log."""
    (folder / "powder.poni").write_text(POWDER.poni())
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    command = [sys.executable, "-m", "ringwatch", "run", str(folder / "config.toml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        log = Log(process)
        assert log.is_listening.wait(PATIENCE_S)
        try:
            yield process.pid, log
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0, log.errors


@contextmanager
def deaf_subscriber(folder: Path) -> Iterator[None]:
    """Somebody who subscribes to everything and reads nothing."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set_hwm(1)
        socket.subscribe(b"")
        socket.connect(f"ipc://{folder}/results")
        yield


def soak(minutes: float, seed: int) -> int:
    """Send series for so long, print what was found; the exit code."""
    random = Random(seed)  # noqa: S311 - faults are to be repeatable
    with tempfile.TemporaryDirectory() as scratch, deaf_subscriber(Path(scratch)), daemon(Path(scratch)) as (pid, log):
        detector = Detector(f"ipc://{scratch}/detector", random)
        judge = Judge(Path(scratch), detector.images)
        begun_s, held = time.monotonic(), list[Held]()
        while (share := (time.monotonic() - begun_s) / (60 * minutes)) < 1:
            if len(held) < share * LOOKS:
                held.append(Held.by(pid))
            loses_end = random.random() < 0.1
            is_burst = random.random() < 0.1
            judge.waiting.append(
                detector.send(judge.series + 1 + len(judge.waiting), is_burst=is_burst, loses_end=loses_end)
            )
            judge.judge(int(loses_end))
            if loses_end:  # its file is written when the next series begins
                judge.waiting.append(detector.send(judge.series + 2, is_burst=False, loses_end=False))
                judge.judge(0)
        held.append(Held.by(pid))
        detector.close()
    return report(held, judge, log)


def report(held: list[Held], judge: Judge, log: Log) -> int:
    """Print the table; 1 if something is wrong."""
    print(f"{judge.series} series, {judge.frames} frames sent: {dict(judge.fates)}")
    before, after = held[round(WARM_UP * LOOKS)], held[-1]
    print(f"{'':10}{'warm':>8}{'end':>8}")
    for name in ("memory_mb", "threads", "sockets", "files"):
        print(f"{name:10}{getattr(before, name):8.0f}{getattr(after, name):8.0f}")
    print("memory in MB, from first to last:", *(f"{one.memory_mb:.0f}" for one in held))
    print(f"lines logged: {dict(log.lines)}")
    faults = [*judge.wrong, *log.errors]
    if after.memory_mb > MAX_GROWTH * before.memory_mb:
        faults.append(f"memory grew by {after.memory_mb / before.memory_mb - 1:.1%}")
    faults += [
        f"{name} leaked" for name in ("threads", "sockets", "files") if getattr(after, name) > getattr(before, name)
    ]
    print("\n".join(faults[:20]) or "nothing wrong")
    return bool(faults)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(soak(**vars(parser.parse_args())))
