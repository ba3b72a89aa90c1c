"""A simulated detector that takes commands, and a daemon that is configured to stop it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, Watched

from ringwatch.config import Config
from ringwatch.messages import Frame, SeriesStart
from ringwatch.stream.control_unit import ControlUnit
from ringwatch.stream.encode import compress_bslz4
from ringwatch.stream.faults import Fault
from ringwatch.stream.powder import Powder
from ringwatch.stream.sender import Sender, SendReport
from ringwatch.stream.simulator import Simulator, simulate

TOKEN = "0123456789abcdef"  # noqa: S105 - of these tests only
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
ENOUGH = {
    "metric": "spottiness_rings",
    "target": 0.5,
    "min_frames": 8,
    "min_time_s": 0.0,
    "min_independent_frames": 2.0,
    "min_spots": 1.0,
}
FRAMES = 20_000
RATE_HZ = 40.0


@pytest.fixture(scope="module")
def powder_frames() -> tuple[SeriesStart, list[np.ndarray], list[Frame]]:
    simulator = Simulator(POWDER, 1)
    images = [simulator.frame() for _ in range(12)]
    start = SeriesStart(1, "first", shape=POWDER.shape, dtype=POWDER.dtype, pixel_mask=simulator.pixel_mask)
    encoded = [Frame(1, 0, POWDER.shape, POWDER.dtype, "bslz4", compress_bslz4(image)) for image in images]
    return start, images, encoded


@pytest.fixture
def detector() -> Iterator[Detector]:
    opened = Detector()
    yield opened
    opened.close()


class Simulated:
    """A detector that takes commands: one series, until it is stopped."""

    def __init__(self, powder: Powder = POWDER, n_frames: int = FRAMES, faults: tuple[Fault, ...] = ()) -> None:
        self.stop = threading.Event()
        self.unit = ControlUnit(self.stop, faults=frozenset(faults))
        self._serving = self.unit.serving()
        self._serving.__enter__()
        self.sender = Sender("tcp://127.0.0.1:*", stop=self.stop, loses_end="end-lost" in faults)
        self.report: SendReport | None = None
        self._thread = threading.Thread(target=self._acquire, args=(powder, n_frames))
        self._thread.start()

    def _acquire(self, powder: Powder, n_frames: int) -> None:
        with self.unit.acquiring():
            self.report = simulate(self.sender, powder, n_frames, rate_hz=RATE_HZ, seed=3, distinct=12)

    def join(self) -> SendReport:
        self._thread.join(PATIENCE_S)
        assert self.report is not None
        return self.report

    def close(self) -> None:
        self.stop.set()
        self._thread.join(PATIENCE_S)
        self.sender.close()
        self._serving.__exit__(None, None, None)


@pytest.fixture
def simulated() -> Iterator[Callable[..., Simulated]]:
    opened: list[Simulated] = []

    def made(*args: object, **kwargs: object) -> Simulated:
        opened.append(Simulated(*args, **kwargs))  # type: ignore[arg-type]
        return opened[-1]

    yield made
    for one in opened:
        one.close()


@pytest.fixture
def run_told(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    running: list[Watched] = []
    (tmp_path / "powder.poni").write_text(POWDER.poni())

    def start(eiger: Simulated, **stop: object) -> Watched:
        told = {"via": "simplon", "url": eiger.unit.url} | stop
        config = Config.from_mapping(
            {
                "stream": {"endpoint": eiger.sender.endpoint, "late_s": 0.2},
                "geometry": {"poni": str(tmp_path / "powder.poni")},
                "profiles": {"interval_s": 0.2},
                "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}, "hdf5": {"root": str(tmp_path)}},
                "web": {"bind": "127.0.0.1:0", "token": TOKEN},
                "stop": ENOUGH | told,
            }
        )
        running.append(Watched(config))
        return running[-1]

    yield start
    for watched in running:
        watched.daemon.stop()
