"""The whole daemon on loopback: a detector's stream in, results over ZeroMQ, HTTP and HDF5 out."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import httpx2
import numpy as np
import pytest
import zmq

from ringwatch.client import subscribe
from ringwatch.config import Config
from ringwatch.messages import (
    Decision,
    Frame,
    FrameRows,
    Result,
    SeriesEnd,
    SeriesEvent,
    SeriesResult,
    SeriesStart,
    Snapshot,
)
from ringwatch.publish import live_file
from ringwatch.publish.result_file import read_result
from ringwatch.service.daemon import Daemon
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.encode import ENCODERS
from ringwatch.stream.frames_file import FramesFile
from ringwatch.stream.powder import TRUTH
from ringwatch_gpu import exact, reference
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.sums import StaticSums
from ringwatch_gpu.validity import Validity

POWDER = replace(TRUTH, shape=(256, 256), poni1_m=128 * 75e-6, poni2_m=128 * 75e-6, crystallites=2e4)
PATIENCE_S = 20.0


class Detector:
    """The detector's end of the stream, message by message."""

    def __init__(self, version: str = "v2", queued: int = 1000) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.set_hwm(queued)
        self.socket.linger = 0
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.encoder = ENCODERS[version]

    def start(self, start: SeriesStart) -> None:
        self.begun = start
        self.socket.send_multipart(self.encoder.start(start, "all"))

    def image(self, number: int, frame: Frame) -> None:
        parts = self.encoder.image(self.begun, replace(frame, series=self.begun.series, frame=number))
        self.socket.send_multipart(parts)

    def end(self) -> None:
        self.socket.send_multipart(self.encoder.end(SeriesEnd(self.begun.series, self.begun.unique_id)))

    def raw(self, *parts: bytes) -> None:
        self.socket.send_multipart(parts)

    def close(self) -> None:
        self.context.destroy(linger=0)


class Watched:
    """A running daemon and everything it published, with arrival times."""

    def __init__(self, config: Config) -> None:
        self.results: list[tuple[float, Result]] = []
        self._changed = threading.Condition()
        self.daemon = Daemon(config, on_result=self._take)
        self.daemon.prepare()
        self.daemon.start()
        deadline_s = time.monotonic() + PATIENCE_S
        while not self.daemon.web.url:  # its thread opens it
            assert time.monotonic() < deadline_s
            time.sleep(0.01)

    def _take(self, result: Result) -> None:
        with self._changed:
            self.results.append((time.monotonic(), result))
            self._changed.notify_all()

    def of(self, kind: type[Any]) -> list[Any]:
        return [result for _, result in self.results if isinstance(result, kind)]

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), [r for _, r in self.results][-5:]

    def wait_for_end(self, n_series: int = 1) -> None:
        self.wait_for(lambda: sum(e.event in ("end", "abandoned") for e in self.of(SeriesEvent)) >= n_series)

    def numbers(self) -> list[int]:
        return [int(number) for rows in self.of(FrameRows) for number in rows.frame]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    running: list[Watched] = []

    def start(
        endpoint: str,
        poni: str | Path | None = None,
        stop: dict[str, object] | None = None,
        accumulate: dict[str, object] | None = None,
        **stream: object,
    ) -> Watched:
        if poni is None:
            poni = tmp_path / "powder.poni"
            poni.write_text(POWDER.poni())
        config = Config.from_mapping(
            {
                "stream": {"endpoint": endpoint, "late_s": 0.2, **stream},
                "geometry": {"poni": str(poni)},
                "profiles": {"interval_s": 0.2},
                "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": str(tmp_path)}},
                "web": {"bind": "127.0.0.1:0"},
                "accumulate": accumulate or {},
                **({} if stop is None else {"stop": stop}),
            }
        )
        running.append(Watched(config))
        return running[-1]

    yield start
    for watched in running:
        watched.daemon.stop()


def expected_words(images: list[np.ndarray], geometry: Geometry, validity: Validity) -> np.ndarray:
    static = StaticSums.of(geometry.bin_table, geometry.norm_q, geometry.bins)
    total = np.zeros((6, geometry.bins, 2), np.uint64)
    for image in images:
        sums = reference.integrate(image.reshape(1, -1), geometry.bin_table, geometry.norm_q, geometry.bins, validity)
        total = exact.add(total, sums.rows(static)[0])
    return total


def send_series(detector: Detector, start: SeriesStart, frames: list[Frame]) -> None:
    detector.start(start)
    for number, frame in enumerate(frames):
        detector.image(number, frame)
    detector.end()


class Recorded(NamedTuple):
    """Real frames as they come from a detector, and what numpy makes of them: signal and masked pixels by frame."""

    poni: Path
    start: SeriesStart
    frames: list[Frame]
    digest: str
    expected: dict[int, tuple[int, int]]


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> Recorded:
    poni = shared_data / "id11_dac.poni"
    with FramesFile(shared_data / "id11_dac.h5") as file:
        frames, mask = list(file.frames()), file.pixel_mask
        shape, dtype = file.shape, file.dtype
    start = SeriesStart(7, "", shape=shape, dtype=dtype, frames_expected=len(frames), pixel_mask=mask)
    geometry, validity = Geometry.from_poni(poni, shape).masked(mask), Validity.of(dtype)
    image, expected = np.empty(shape, dtype), {}
    for number, frame in enumerate(frames):
        decode_into(frame, image)
        ok = ~(validity.invalid(image) | geometry.mask)
        expected[number] = (int(image[ok].sum(dtype=np.uint64)), image.size - int(ok.sum()))
    return Recorded(poni, start, frames, geometry.digest, expected)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_recorded_frames_through_the_daemon_are_exact(
    recorded: Recorded, run: Callable[..., Watched], version: str
) -> None:
    """40 real frames: rows, union and file hold numpy's integers."""
    detector = Detector(version)
    watched = run(detector.endpoint, recorded.poni)
    send_series(detector, recorded.start, recorded.frames)
    watched.wait_for_end()
    detector.close()
    found = {
        int(n): (int(s), int(m))
        for rows in watched.of(FrameRows)
        for n, s, m in zip(rows.frame, rows.total_signal, rows.masked_pixels, strict=True)
    }
    assert found == recorded.expected
    result, snapshot = watched.of(SeriesResult)[0], watched.of(Snapshot)[-1]
    assert snapshot.n_frames == snapshot.accumulated.n_frames == 40
    assert snapshot.fates.reduced == snapshot.fates.received == 40
    assert snapshot.missing == 0
    watched.daemon.stop()
    assert watched.daemon.hdf5 is not None
    assert watched.daemon.hdf5.last_path is not None
    stored = read_result(watched.daemon.hdf5.last_path)
    assert np.array_equal(stored.sums, result.sums)
    assert stored.digest == recorded.digest
    assert [int(n) for n in stored.frames["frame"]] == watched.numbers()


def test_published_messages_equal_the_results(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    start, images, frames = powder_frames
    watched = run(detector.endpoint)
    watched.wait_for(lambda: watched.daemon.zeromq.endpoint)
    messages = subscribe(watched.daemon.zeromq.endpoint, timeout_s=PATIENCE_S)
    send_series(detector, start, frames)
    seen: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        seen.setdefault(message["type"], []).append(message)
        if message["type"] == "series" and message["event"] == "end":
            break
    messages.close()
    snapshot = seen["snapshot"][-1]
    geometry = Geometry.from_poni(POWDER.poni()).masked(start.pixel_mask)
    words = expected_words(images, geometry, Validity.of(POWDER.dtype))
    assert snapshot["n_frames"] == len(images)
    assert snapshot["digest"] == geometry.digest
    profile = next(p for p in reversed(seen["profile"]) if p["source"] == "union")
    assert np.array_equal(profile["signal"], exact.to_float(words[0]))
    assert np.array_equal(watched.of(SeriesResult)[0].sums, words)
    latest = httpx2.get(f"{watched.daemon.web.url}/api/latest").json()
    assert latest["frame"] == len(images)


def test_what_was_decided_is_published_served_and_filed(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    start, _, frames = powder_frames
    watched = run(detector.endpoint, stop={"metric": "spottiness_rings", "target": 0.001})
    send_series(detector, start, frames)
    watched.wait_for_end()
    last = watched.of(Decision)[-1]
    assert (last.n_frames, last.reason_code, last.action) == (len(frames), "over", "continue")
    messages = subscribe(watched.daemon.zeromq.endpoint, "decision", timeout_s=PATIENCE_S)
    while (message := next(messages))["seq"] < len(watched.of(Decision)):
        pass
    messages.close()
    assert (message["sentence"], message["value"]) == (last.sentence, last.value)
    watched.daemon.stop()
    assert watched.daemon.hdf5 is not None
    with h5py.File(watched.daemon.hdf5.last_path) as file:
        assert file["/entry/decisions/sentence"].asstr()[-1] == last.sentence


def test_second_series_with_the_same_geometry_is_immediate(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    start, _, frames = powder_frames
    watched = run(detector.endpoint)
    send_series(detector, start, frames)
    watched.wait_for_end()
    detector.start(replace(start, series=2, unique_id="second"))
    sent_s = time.monotonic()
    detector.image(0, frames[0])
    watched.wait_for(lambda: [rows for rows in watched.of(FrameRows) if rows.origin.unique_id == "second"])
    arrived_s = next(t for t, r in watched.results if isinstance(r, FrameRows) and r.origin.unique_id == "second")
    assert arrived_s - sent_s < 0.05


def test_series_of_a_sample_have_one_result_when_the_daemon_stops(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    start, images, frames = powder_frames
    watched = run(detector.endpoint, accumulate={"scope": "sample"})
    for series, part in ((1, frames[:5]), (2, frames[5:])):
        send_series(detector, replace(start, series=series, unique_id=str(series), sample="CeO2"), part)
        watched.wait_for_end(series)
    assert watched.of(SeriesResult) == []
    watched.daemon.stop()
    watched.wait_for(lambda: watched.of(SeriesResult))
    (result,) = watched.of(SeriesResult)
    geometry = Geometry.from_poni(POWDER.poni(), POWDER.shape).masked(start.pixel_mask)
    assert np.array_equal(result.sums, expected_words(images, geometry, Validity.of(start.dtype)))
    assert (result.reason, result.origin.key, result.origin.series) == ("shutdown", ("1", 1), 2)
    assert result.fates.reduced == result.n_frames == 12


def test_a_row_comes_within_a_quarter_of_a_second_at_one_hertz_too(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    start, _, frames = powder_frames
    watched = run(detector.endpoint)
    detector.start(start)
    for number in range(3):
        time.sleep(1.0 if number else 0.0)
        sent_s = time.monotonic()
        detector.image(number, frames[number])
        watched.wait_for(lambda number=number: number in watched.numbers())
        assert time.monotonic() - sent_s < 0.25


def test_bad_messages_are_counted_and_cost_nothing(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    start, images, frames = powder_frames
    watched = run(detector.endpoint)
    detector.start(start)
    for number, frame in enumerate(frames):
        detector.image(number, frame)
        detector.raw(b"\xff\x00 nonsense")
    broken = replace(frames[0], data=frames[0].data[:100])
    detector.image(len(frames), broken)
    detector.image(0, frames[0])
    detector.end()
    watched.wait_for_end()
    snapshot = watched.of(Snapshot)[-1]
    assert snapshot.fates.reduced == len(frames)
    assert snapshot.fates.malformed.total() == len(frames) + 1
    assert snapshot.fates.duplicate == 1
    assert snapshot.fates.settled == snapshot.fates.received
    geometry = Geometry.from_poni(POWDER.poni()).masked(start.pixel_mask)
    words = expected_words(images, geometry, Validity.of(POWDER.dtype))
    assert np.array_equal(watched.of(SeriesResult)[0].sums, words)


def test_frames_of_another_shape_abandon_that_series_only(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    start, images, frames = powder_frames
    watched = run(detector.endpoint)
    other = Frame(1, 0, (20, 30), np.dtype("u4"), "none", bytes(20 * 30 * 4))
    send_series(detector, SeriesStart(3, "other", shape=(20, 30), dtype=other.dtype), [other])
    watched.wait_for_end()
    abandoned = watched.of(SeriesEvent)[-1]
    assert abandoned.event == "abandoned"
    assert "20 x 30" in abandoned.reason
    assert "256 x 256" in abandoned.reason
    deadline_s = time.monotonic() + PATIENCE_S
    while (answer := httpx2.get(f"{watched.daemon.web.url}/healthz")).status_code != 503:
        assert time.monotonic() < deadline_s, answer.text
    send_series(detector, start, frames)
    watched.wait_for(lambda: watched.of(SeriesResult))
    assert watched.of(SeriesResult)[0].n_frames == len(images)


def test_gaps_in_the_numbers_are_missing(run: Callable[..., Watched], detector: Detector, powder_frames: Any) -> None:
    start, _, frames = powder_frames
    watched = run(detector.endpoint)
    detector.start(start)
    for number in (0, 1, 5, 6, 9):
        detector.image(number, frames[number])
    detector.end()
    watched.wait_for_end()
    assert watched.of(Snapshot)[-1].missing == 5
    assert watched.of(SeriesResult)[0].missing == ((2, 4), (7, 8))


def stopped_in_a_series(run: Callable[..., Watched], detector: Detector, powder_frames: Any) -> tuple[Watched, Path]:
    """A daemon that was stopped in time before the series was over, and the file that it left."""
    start, _, frames = powder_frames
    watched = run(detector.endpoint)
    detector.start(start)
    for number, frame in enumerate(frames):
        detector.image(number, frame)
    watched.wait_for(lambda: len(watched.numbers()) == len(frames))
    begin_s = time.monotonic()
    watched.daemon.stop()
    assert time.monotonic() - begin_s < 2.0
    assert watched.daemon.hdf5 is not None
    assert watched.daemon.hdf5.last_path is not None
    return watched, watched.daemon.hdf5.last_path


def test_stopping_closes_the_series_and_the_file_within_two_seconds(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any
) -> None:
    watched, path = stopped_in_a_series(run, detector, powder_frames)
    assert watched.of(SeriesEvent)[-1].reason == "shutdown"
    assert read_result(path).n_frames == len(watched.numbers())


def test_a_stop_in_a_long_series_leaves_a_complete_file_and_the_profiles_beside_it(
    run: Callable[..., Watched], detector: Detector, powder_frames: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_file, "COPY_BYTES_PER_S", 0)  # as if there were more frames than time
    watched, path = stopped_in_a_series(run, detector, powder_frames)
    assert len(read_result(path).frames["frame"]) == len(watched.numbers())
    with h5py.File(path) as complete, h5py.File(path.with_suffix(".live.h5")) as live:
        assert complete["entry/frames"].attrs["profiles_in"] == path.with_suffix(".live.h5").name
        assert len(live["entry/frames/intensity"]) == len(watched.numbers())


def command(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ringwatch", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_a_signal_ends_the_daemon_with_exit_code_0(tmp_path: Path) -> None:
    poni, config = tmp_path / "powder.poni", tmp_path / "config.toml"
    poni.write_text(POWDER.poni())
    config.write_text(
        f'[stream]\nendpoint = "ipc://{tmp_path}/detector"\n[geometry]\nponi = "powder.poni"\n'
        '[publish.zmq]\nbind = "tcp://127.0.0.1:0"\n[web]\nbind = "127.0.0.1:0"\n'
    )
    process = command("run", str(config))
    assert process.stderr is not None
    for line in process.stderr:
        if "listening" in line:
            break
    process.send_signal(signal.SIGTERM)
    begin_s = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert time.monotonic() - begin_s < 3.0


def test_a_wrong_configuration_exits_with_78_and_names_every_mistake(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[stream]\nendpoint = "nonsense"\nchanel = "x"\n[geometry]\nponi = "absent.poni"\n')
    process = command("run", str(config))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 78
    for fact in ("stream.endpoint", "chanel", "absent.poni"):
        assert fact in errors


def test_without_a_device_it_says_what_to_install_and_exits_with_1(tmp_path: Path) -> None:
    poni = tmp_path / "powder.poni"
    poni.write_text(POWDER.poni())
    process = command("run", "tcp://127.0.0.1:1", "--poni", str(poni), OCL_ICD_VENDORS=str(tmp_path))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "pip install" in errors or "apt-get install" in errors
