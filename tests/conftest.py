"""What all tests share: the recorded data, a clock that tests move, and two watchdogs (errors logged, threads left)."""

import gc
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyopencl as cl
import pytest
import structlog

from ringwatch_gpu import devices, loader

loader.platforms()  # before a test imports pyFAI: the first to ask decides which OpenCL runtimes the process has

ROOT = Path(__file__).parent.parent


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and tests, which stay: pyFAI calls it for each geometry, 0.1 s a time."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of recorded frames and streams beside the repository; its tests are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no recorded data: ../shared/data is absent")
    return folder


USABLE = [info for info in devices.list_devices() if info.usable]


def _short_name(info: devices.DeviceInfo | None) -> str:
    if info is None:
        return "no-device"
    platform = info.platform.replace("Portable Computing Language", "PoCL").replace("(R)", "")
    return f"{platform.split()[0].lower()}-{info.kind}"


@pytest.fixture(scope="session", params=USABLE or [None], ids=_short_name)
def device(request: pytest.FixtureRequest) -> cl.Device:
    """Each usable OpenCL device of the machine in turn."""
    if request.param is None:
        pytest.skip(f"no usable OpenCL device. {devices.advice()}")
    return request.param.device


@pytest.fixture(autouse=True)
def told_errors() -> Iterator[list[str]]:
    """What was logged as an error, by the daemon's own logging as it is before the command line sets it up."""
    told: list[str] = []

    def note(_: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if level in ("error", "critical", "exception"):
            told.append(str(event))
        return event

    structlog.configure(processors=[note, *structlog.get_config()["processors"]])
    yield told
    structlog.reset_defaults()


class FakeClock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return int(self.now_s * 1e9)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def epics(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """caproto's client, and Channel Access on loopback only, on ports of its own."""
    client = pytest.importorskip("caproto.sync.client", reason="caproto is absent: pip install 'ringwatch[epics]'")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for name in ("EPICS_CA_SERVER_PORT", "EPICS_CAS_SERVER_PORT"):
        monkeypatch.setenv(name, port)
    for name in ("EPICS_CA_ADDR_LIST", "EPICS_CAS_INTF_ADDR_LIST", "EPICS_CAS_BEACON_ADDR_LIST"):
        monkeypatch.setenv(name, "127.0.0.1")
    for name in ("EPICS_CA_AUTO_ADDR_LIST", "EPICS_CAS_AUTO_BEACON_ADDR_LIST"):
        monkeypatch.setenv(name, "NO")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as beacons:  # somebody must hear them
        beacons.bind(("127.0.0.1", 0))
        for name in ("EPICS_CAS_BEACON_PORT", "EPICS_CA_REPEATER_PORT"):
            monkeypatch.setenv(name, str(beacons.getsockname()[1]))
        yield client


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.is_alive() and not t.daemon]
    for thread in left:
        thread.join(2)
    still = [t.name for t in left if t.is_alive()]
    assert not still, f"threads left behind: {still}"


@pytest.fixture(autouse=True)
def _no_error_logged(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, told_errors: list[str]
) -> Iterator[None]:
    yield
    if request.node.get_closest_marker("logs_errors"):
        return
    errors = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert not errors + told_errors, f"errors were logged: {errors + told_errors}"
