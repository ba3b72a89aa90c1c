"""The whole line on one machine: a simulated detector in a process of its own, the daemon here, a result file."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from ringwatch.config import Config
from ringwatch.messages import Decision, FrameRows, Reason, Result, SeriesEvent, Snapshot, StopReport
from ringwatch.service.daemon import Daemon
from ringwatch.service.life import Life
from ringwatch.service.report import spottiness_line

TARGET = 0.05
"""The rings of the simulated powder are as even as this after a sixth of the series or more, depending on the seed."""

_PONI_WAIT_S = 60.0
_LINE_EVERY_S = 1.0


def demo(n_frames: int, seed: int | None, page: str, folder: Path, static: float | None = None) -> int:
    """Run it; the exit code.

    Raises
    ------
    ConfigError, NoDevice
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ringwatch-demo-") as scratch:
        endpoint, poni, port = f"ipc://{scratch}/detector", Path(scratch, "simulated.poni"), _free_port()
        detector = _start_detector(endpoint, poni, port, n_frames, seed, static)
        try:
            _wait_for(poni, detector)
            story = Story(n_frames)
            daemon = Daemon(configuration(endpoint, poni, port, page, folder), on_result=story.take)
            life = Life(daemon)
            story.on_end = life.end
            code = life.run()
        finally:
            detector.terminate()
            detector.wait()
    for line in story.closing_lines(daemon.hdf5.last_path if daemon.hdf5 else None):
        click.echo(line)
    return code or (0 if story.ended else 1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _start_detector(
    endpoint: str, poni: Path, port: int, n_frames: int, seed: int | None, static: float | None
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ringwatch", "simulate", "--bind", endpoint, "--frames", str(n_frames)]
    command += ["--write-poni", str(poni), "--preset", "tutorial", "--commands", str(port)]
    command += [] if static is None else ["--static", str(static)]
    command += [] if seed is None else ["--seed", str(seed)]
    click.echo(f"simulated detector: {n_frames} frames of an EIGER2 4M, silicon powder with too few crystallites")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command # nosec B603


def _wait_for(poni: Path, detector: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + _PONI_WAIT_S
    while not poni.exists() and detector.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.05)


def configuration(endpoint: str, poni: Path, port: int, page: str, folder: Path) -> Config:
    """What the demo's daemon does; raises ConfigError."""
    return Config.from_mapping(
        {
            "stream": {"endpoint": endpoint},
            "geometry": {"poni": str(poni)},
            "publish": {
                "zmq": {"bind": "tcp://127.0.0.1:0"},
                "hdf5": {"root": str(folder), "name": "demo_{series:06d}"},
            },
            "web": {"bind": page},
            "stop": {
                "metric": "spottiness_rings",
                "target": TARGET,
                "via": "simplon",
                "url": f"http://127.0.0.1:{port}",
            },
        },
        source="demo",
    )


class Story:
    """Watches the results, tells them as they come, and remembers what belongs into the closing words."""

    def __init__(self, n_frames: int) -> None:
        self._n_frames = n_frames
        self._first: FrameRows | None = None
        self._last: Snapshot | None = None
        self._decision: Decision | None = None
        self._reason: Reason | None = None
        self._stop: StopReport | None = None
        self._is_over = False
        self._begin_s = self._end_s = self._told_s = 0.0
        self.ended = False
        self.on_end: Callable[[], None] = lambda: None

    def take(self, result: Result) -> None:
        """One result of the daemon."""
        match result:
            case FrameRows() if self._first is None:
                self._first, self._begin_s = result, time.monotonic()
            case Snapshot():
                self._last = result
                self._tell(result)
            case Decision():
                self._decide(result)
            case StopReport():
                self._stop = result
                click.echo(f"> {result.sentence}")
                self._leave()
            case SeriesEvent(event="end" | "abandoned"):
                self.ended, self._is_over = result.event == "end", True
                self._end_s = time.monotonic()
                self._leave()
            case _:
                pass

    def _leave(self) -> None:
        """The story ends with the series, and with the word that the detector is idle where it was stopped."""
        if self._is_over and (self._stop is None or self._stop.state in {"done", "failed"}):
            self.on_end()

    def _tell(self, snapshot: Snapshot) -> None:
        now_s = time.monotonic()
        if snapshot.accumulated is None or snapshot.union is None or now_s - self._told_s < _LINE_EVERY_S:
            return
        self._told_s = now_s
        summed, union = snapshot.accumulated.spottiness, snapshot.union
        click.echo(
            f"  frame {snapshot.n_frames:4d} of {self._n_frames}: summed image {summed.spottiness:.4f} "
            f"(weighted {summed.spottiness_weighted:.4f}), union {union.spottiness:.4f}"
        )

    def _decide(self, decision: Decision) -> None:
        """A decision is told when it says something new; the last one belongs into the closing words."""
        self._decision = decision
        if decision.reason_code not in {self._reason, "over"}:
            self._reason = decision.reason_code
            click.echo(f"> {decision.sentence}")

    def _stop_lines(self, last: Snapshot) -> list[str]:
        stop = self._stop
        if stop is None:
            return []
        saved = f"{self._n_frames - last.n_frames} of {self._n_frames} frames were not needed."
        return [f"> {stop.sentence} {saved if stop.state == 'done' else ''}".rstrip()]

    def closing_lines(self, path: Path | None) -> list[str]:
        """What was measured, and where the file is."""
        first, last = self._first, self._last
        if first is None or last is None or last.accumulated is None or last.union is None:
            return ["no frame arrived"]
        plain, weighted = first.spottiness[0], first.spottiness_weighted[0]
        seconds, skipped = self._end_s - self._begin_s, last.fates.skipped
        return [
            f"{last.n_frames} frames in {seconds:.1f} s; {skipped} skipped, {last.missing} missing",
            f"  {'first frame:':22} spottiness {plain:.4f}, weighted {weighted:.4f}",
            spottiness_line("summed image", last.accumulated.spottiness),
            spottiness_line("averaged image", last.accumulated.averaged),
            spottiness_line("union (never decides)", last.union),
            *([] if self._decision is None else [f"> {self._decision.sentence}"]),
            *self._stop_lines(last),
            f"result: {path}",
        ]
