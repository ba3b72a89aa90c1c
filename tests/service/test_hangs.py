"""A driver that does not come back: the process ends, the next one goes on, after a second time elsewhere."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import pytest
from tests.conftest import FakeClock
from tests.service.test_daemon import POWDER, Detector, Watched, expected_words

from ringwatch.config import Config, DeviceConfig
from ringwatch.messages import Frame, FrameRows, SavedState, SeriesResult, SeriesStart
from ringwatch.service import daemon, hangs
from ringwatch.service.hangs import REMEMBERED_NS, device_to_use, remember
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ringwatch" / "hung"


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> str:
    """Stands for another device, which need not be there."""
    monkeypatch.setattr(devices, "spare", lambda failed: "another")
    monkeypatch.setattr(hangs, "name_of", str)
    return "another"


def test_the_second_hang_in_an_hour_gives_another_device_its_turn(cache: Path, other: str, clock: FakeClock) -> None:
    section, device = DeviceConfig(), devices.choose()
    assert device_to_use(section, clock) == device
    remember(device, clock)
    assert device_to_use(section, clock) == device
    remember(device, clock)
    assert device_to_use(section, clock) == other
    clock.advance(REMEMBERED_NS / 1e9)
    assert device_to_use(section, clock) == device


def test_without_another_device_it_is_tried_again(
    cache: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "spare", lambda failed: None)
    device = devices.choose()
    for _ in range(3):
        remember(device, clock)
    assert device_to_use(DeviceConfig(), clock) == device


TOO_MANY_DIGITS = b"1" * 6000


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\x00", b"yesterday it hung\n", b"12\n", TOO_MANY_DIGITS, 2 * (TOO_MANY_DIGITS + b" DEVICE\n")],
)
def test_whatever_is_written_there_the_daemon_starts(cache: Path, clock: FakeClock, content: bytes) -> None:
    cache.parent.mkdir()
    device = devices.choose()
    cache.write_bytes(content.replace(b"DEVICE", devices.name_of(device).encode()))
    assert device_to_use(DeviceConfig(), clock) == device
    remember(device, clock)
    assert devices.name_of(device) in cache.read_text(errors="replace")


def test_the_memory_is_short(cache: Path, clock: FakeClock) -> None:
    for _ in range(100):
        remember(devices.choose(), clock)
    assert len(cache.read_text().splitlines()) < 20


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The device hangs as soon as this is set, until the test is over."""
    hanging, over, sound = threading.Event(), threading.Event(), BatchIntegrator.integrate

    def integrate(integrator: BatchIntegrator, *args: Any, **kwargs: Any) -> Any:
        if hanging.is_set():
            over.wait()
            raise cl.RuntimeError("it came back")
        return sound(integrator, *args, **kwargs)

    monkeypatch.setattr(BatchIntegrator, "integrate", integrate)
    yield hanging
    hanging.clear()
    over.set()


def watched_over(detector: Detector, folder: Path) -> Watched:
    (folder / "powder.poni").write_text(POWDER.poni())
    return Watched(
        Config.from_mapping(
            {
                "stream": {"endpoint": detector.endpoint, "late_s": 0.1},
                "geometry": {"poni": str(folder / "powder.poni")},
                "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": str(folder), "flush_s": 0.1}},
                "web": {"bind": "127.0.0.1:0"},
            }
        )
    )


@pytest.mark.logs_errors
def test_a_daemon_that_hangs_ends_and_the_next_one_goes_on(
    detector: Detector,
    powder_frames: tuple[SeriesStart, list[np.ndarray], list[Frame]],
    stuck: threading.Event,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr("ringwatch.service.settings.SHORTEST_SAVE_S", 0.0)
    start, images, frames = powder_frames
    first = watched_over(detector, tmp_path)
    detector.start(start)
    for number in (0, 1):
        detector.image(number, frames[number])
    first.wait_for(lambda: first.of(FrameRows) and sum(rows.frame.size for rows in first.of(FrameRows)) == 2)
    first.wait_for(lambda: any(state.n_frames == 2 for state in first.of(SavedState)))
    assert not first.daemon.pause(0.01)
    stuck.set()
    detector.image(2, frames[2])
    monkeypatch.setattr(daemon, "HANG_S", 0.3)
    while not first.daemon.pause(0.05):
        pass
    assert "has not come back" in str(first.daemon.error)
    first.daemon.stop()
    assert first.of(SeriesResult) == []
    stuck.clear()
    monkeypatch.setattr(daemon, "HANG_S", 45.0)
    again = watched_over(detector, tmp_path)
    detector.image(3, frames[3])
    detector.end()
    again.wait_for(lambda: again.of(SeriesResult))
    (result,) = again.of(SeriesResult)
    again.daemon.stop()
    geometry = Geometry.from_poni(POWDER.poni()).masked(start.pixel_mask)
    words = expected_words([images[n] for n in (0, 1, 3)], geometry, Validity.of(POWDER.dtype))
    assert (result.n_frames, result.missing, result.origin.generation) == (3, ((2, 2),), 2)
    assert np.array_equal(result.sums, words)
