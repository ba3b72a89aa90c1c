"""The process from start to end: its configuration is read again, and nothing of what runs is lost."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, command, expected_words
from tests.service.test_sockets import LISTENING, NET, sockets_of

from ringwatch.client import subscribe
from ringwatch.config import Config
from ringwatch.errors import ConfigError
from ringwatch.messages import Frame, SeriesStart
from ringwatch.publish.result_file import read_result
from ringwatch.service import life
from ringwatch.service.life import Life
from ringwatch_gpu.errors import GeometryError
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What systemd was told since it was last asked for."""
    messages: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def listen() -> None:  # a socket that nobody reads takes ten messages
            while message := listener.recv(1000):
                messages.append(message.decode())

        thread = threading.Thread(target=listen)
        thread.start()

        def told() -> list[str]:
            new, messages[:] = messages[:], []
            return new

        yield told
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", str(tmp_path / "notify"))
        thread.join(PATIENCE_S)


# ------------------------------------------------------------------------------------------------ a whole process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Process:
    """A daemon with a configuration file, and what it said."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder, self._endpoint = folder, endpoint
        self.zmq, self.web = free_port(), free_port()
        (folder / "powder.poni").write_text(POWDER.poni())
        self.configure(100)
        self.process = command("run", str(folder / "config.toml"))
        self._said: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def configure(self, bins: int, more: str = "") -> None:
        (self._folder / f"bins_{bins}").mkdir(exist_ok=True)
        (self._folder / "config.toml").write_text(
            f'[stream]\nendpoint = "{self._endpoint}"\nlate_s = 0.1\n'
            f'[geometry]\nponi = "powder.poni"\nbins = {bins}\n{more}\n'
            f'[publish.zmq]\nbind = "tcp://127.0.0.1:{self.zmq}"\n[publish.hdf5]\nroot = "bins_{bins}"\n'
            f'[web]\nbind = "127.0.0.1:{self.web}"\n'
        )

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def wait_for(self, words: str, times: int = 1) -> None:
        with self._changed:
            said = self._changed.wait_for(lambda: sum(words in line for line in self._said) >= times, PATIENCE_S)
            assert said, self._said

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return self.process.returncode

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._said.append(re.sub(r"\x1b\[[0-9;]*m", "", line))
                self._changed.notify_all()


@pytest.fixture
def process(tmp_path: Path, detector: Detector, systemd: Callable[[], list[str]]) -> Iterator[Process]:
    process = Process(tmp_path, detector.endpoint)
    yield process
    process.end()


def wait_for_file(folder: Path) -> Path:
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := [path for path in folder.glob("*.h5") if ".live" not in path.name]):
        assert time.monotonic() < deadline_s, list(folder.iterdir())
        time.sleep(0.02)
    return found[0]


@pytest.mark.skipif(not NET.is_dir(), reason="threads and sockets are counted where Linux tells them: /proc")
def test_reloads_between_and_during_series_lose_no_frame_and_leak_nothing(
    process: Process,
    detector: Detector,
    powder_frames: tuple[SeriesStart, list[Any], list[Frame]],
    tmp_path: Path,
    systemd: Callable[[], list[str]],
) -> None:
    start, images, frames = powder_frames
    process.wait_for("listening")
    heard: list[int] = []

    def listen() -> None:
        for message in subscribe(f"tcp://127.0.0.1:{process.zmq}", "series", PATIENCE_S):
            heard.append(message["series"])
            if message["series"] == 3:
                return

    listener = threading.Thread(target=listen)
    listener.start()

    def send(number: int, some: slice) -> None:
        if not some.start:
            detector.start(replace(start, series=number, unique_id=f"series {number}"))
        for index in range(*some.indices(len(frames))):
            detector.image(index, frames[index])
        if some.stop is None:
            detector.end()

    def check(bins: int) -> None:
        result = read_result(wait_for_file(tmp_path / f"bins_{bins}"))
        geometry = Geometry.from_poni(POWDER.poni(), bins=bins).masked(start.pixel_mask)
        assert (result.n_frames, result.digest) == (len(frames), geometry.digest)
        assert np.array_equal(result.sums, expected_words(images, geometry, Validity.of(POWDER.dtype)))

    send(1, slice(0, None))
    check(100)
    threads, sockets = process.threads(), len(sockets_of(process.process.pid))
    process.configure(50)
    process.reload()
    process.wait_for("configuration reloaded")
    send(2, slice(0, 6))
    process.wait_for("ready to reduce", 2)
    while 2 not in heard:
        time.sleep(0.01)
    process.configure(30)
    process.reload()
    process.wait_for("takes effect when the running series is over")
    send(2, slice(6, None))
    check(50)
    process.wait_for("configuration reloaded", 2)
    process.configure(20, 'colour = "red"\nunit = "inch"')
    process.reload()
    process.wait_for("configuration not reloaded", 2)
    send(3, slice(0, None))
    check(30)
    listener.join(PATIENCE_S)
    assert sorted(set(heard)) == [1, 2, 3]  # by one subscription
    assert process.threads() <= threads
    assert len(sockets_of(process.process.pid)) <= sockets
    assert sum(one.state == LISTENING for one in sockets_of(process.process.pid)) == 2
    assert process.end() == 0
    told = [message.partition("\n")[0].partition("=")[0] for message in systemd() if message != "WATCHDOG=1"]
    # The second time at once, because it may take long, and again when it took effect.
    assert " ".join(told) == "READY RELOADING READY RELOADING READY READY RELOADING READY STOPPING"


def test_what_a_crash_would_need_is_saved_after_a_reload_too(
    process: Process, detector: Detector, powder_frames: tuple[SeriesStart, list[Any], list[Frame]], tmp_path: Path
) -> None:
    """The daemon of before has let go of it."""
    start, _, frames = powder_frames
    process.wait_for("listening")

    def send(number: int) -> None:
        detector.start(replace(start, series=number, unique_id=f"series {number}"))
        detector.image(0, frames[0])

    def wait_for_state() -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not list((tmp_path / "bins_100").glob(".ringwatch-*.state")):
            assert time.monotonic() < until_s
            time.sleep(0.01)

    send(1)
    wait_for_state()
    detector.end()
    wait_for_file(tmp_path / "bins_100")
    process.configure(100, "[rings]\nd_spacings_A = [3.0]")
    process.reload()
    process.wait_for("configuration reloaded")
    send(2)
    wait_for_state()


def test_the_end_of_its_terminal_is_its_end(tmp_path: Path) -> None:
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    config = tmp_path / "config.toml"
    config.write_text(
        '[stream]\nendpoint = "tcp://127.0.0.1:1"\n[geometry]\nponi = "powder.poni"\n[web]\nbind = "127.0.0.1:0"\n'
        '[publish.zmq]\nbind = "tcp://127.0.0.1:0"\n'
    )
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "ringwatch", "run", str(config)]
    with subprocess.Popen(arguments, stdin=theirs, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "listening" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE_S) == 0
    os.close(ours)
    os.close(theirs)


# ------------------------------------------------------------------------------------------------- inside a process


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    return Config.from_mapping(
        {
            "stream": {"endpoint": "tcp://127.0.0.1:1"},
            "geometry": {"poni": "powder.poni"},
            "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}},
            "web": {"bind": "127.0.0.1:0"},
        },
        tmp_path,
    )


def refused(logs: Sequence[Any]) -> list[str]:
    return [log["problem"] for log in logs if log["event"] == "configuration not reloaded"]


class Driven:
    """A life that a test moves on, turn by turn."""

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self.daemon = life.Daemon(config)
        self.daemon.prepare()
        self.daemon.start()
        self.life = Life(self.daemon, load)

    def turn_until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s
            self.life._daemon.pause(0.01)
            self.life._turn()


def test_mistakes_are_all_logged_and_nothing_changes(config: Config, systemd: Callable[[], list[str]]) -> None:
    def load() -> Config:
        raise ConfigError(["one", "two"], "x.toml")

    driven = Driven(config, load)
    driven.life.reload()
    with capture_logs() as logs:
        driven.turn_until(lambda: len(refused(logs)) == 2)
    driven.daemon.stop()
    assert refused(logs) == ["one", "two"]
    assert driven.life._daemon is driven.daemon
    reloading, ready = [message for message in systemd() if message != "WATCHDOG=1"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
    assert ready == "READY=1\nSTATUS=The configuration was not reloaded, see the log: one"


def test_what_only_the_successor_finds_out_changes_nothing_either(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(config, lambda: config)

    def fails(_: Config) -> None:
        raise GeometryError("pyFAI knows no such calibrant")

    monkeypatch.setattr(life, "Daemon", fails)
    driven.life.reload()
    with capture_logs() as logs:
        driven.turn_until(lambda: bool(refused(logs)))
    assert driven.life._daemon is driven.daemon
    assert driven.daemon.error is None
    driven.daemon.stop()
    assert refused(logs) == ["pyFAI knows no such calibrant"]


def test_a_series_that_begins_while_the_successor_is_made_ready_is_not_cut(
    config: Config, detector: Detector, powder_frames: tuple[SeriesStart, list[Any], list[Frame]]
) -> None:
    start, _, frames = powder_frames
    stream = config.stream.model_copy(update={"endpoint": detector.endpoint, "late_s": 0.1})
    driven = Driven(config.model_copy(update={"stream": stream}), lambda: config)
    driven.life.reload()
    driven.turn_until(lambda: driven.life._successor is not None)
    successor = driven.life._successor
    assert successor is not None
    detector.start(start)
    detector.image(0, frames[0])
    while driven.daemon.is_idle:
        time.sleep(0.01)
    successor._thread.join(PATIENCE_S)
    for _ in range(3):
        driven.life._turn()
    assert driven.life._daemon is driven.daemon
    detector.end()
    driven.turn_until(lambda: driven.life._daemon is not driven.daemon)
    assert driven.daemon._reduction.is_measuring is False
    driven.life._daemon.stop()


def test_a_signal_during_a_reload_still_ends_the_process(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the old daemon is stopped and the new one is not yet there."""
    alive = Life(life.Daemon(config), lambda: config)
    changed = Life._change

    def change(self: Life, successor: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        changed(self, successor)

    monkeypatch.setattr(Life, "_change", change)
    alive.reload()
    assert alive.run() == 0
    assert not [thread for thread in threading.enumerate() if thread.name in {"reduction", "receiver", "web-server"}]


def test_a_reduction_that_stands_still_does_not_feed_the_watchdog(
    config: Config, systemd: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = life.Daemon(config)
    stuck, go_on, step = threading.Event(), threading.Event(), daemon._reduction.step

    def stands_still() -> None:
        stuck.set()
        go_on.wait(PATIENCE_S)
        step()

    daemon.start()
    try:
        fed = 0
        while fed < 3:
            daemon.pause(0.02)
            fed += systemd().count("WATCHDOG=1")
        monkeypatch.setattr(daemon._reduction, "step", stands_still)
        assert stuck.wait(PATIENCE_S)
        daemon.pause(0.01)
        systemd()
        for _ in range(20):
            daemon.pause(0.01)
        assert systemd() == []
        go_on.set()
        while not systemd():
            daemon.pause(0.02)
    finally:
        go_on.set()
        daemon.stop()
