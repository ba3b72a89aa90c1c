"""A detector that others simulate (tickit-devices by Diamond, an EIGER2) is stopped by the daemon, on both streams.

It lives in a process and an environment of its own, and sends the first rows of real frames, each the same. Between it
and the daemon stands a relay that counts the commands, and refuses those it is told to refuse.
"""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest
from tests.control.conftest import plain, raw_server, request
from tests.service.conftest import RIGHT, TOKEN
from tests.service.test_daemon import Watched

from ringwatch.config import Config
from ringwatch.messages import Decision, FrameRows, SeriesEvent, SeriesResult, Snapshot, StopReport
from ringwatch_gpu import exact

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-tickit" / "bin" / "python"
FRAME_TIME_S = 0.25
FRAMES, ENOUGH = 400, 3
ROWS, COLUMNS = 256, 4096
FORMATS = {"v1": "legacy", "v2": "cbor"}
CONFIG = """
- type: tickit_devices.eiger.Eiger
  name: eiger
  inputs: {{}}
  host: 127.0.0.1
  port: {http}
  stream_host: 127.0.0.1
  stream_legacy_port: {v1}
  stream_cbor_port: {v2}
"""
PONI = f"""poni_version: 2.1
Detector: Detector
Detector_config: {{"pixel1": 7.5e-05, "pixel2": 7.5e-05, "max_shape": [{ROWS}, {COLUMNS}], "orientation": 3}}
Distance: 0.3
Poni1: 0.1636
Poni2: 0.1556
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 1e-10
"""


def free_ports(*names: str) -> dict[str, int]:
    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    for listener in listeners.values():
        listener.close()
    return ports


class Eiger:
    """Drives it as whoever owns it would."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.url = f"http://127.0.0.1:{ports['http']}"
        self._http = httpx2.Client(base_url=self.url, timeout=30)
        self._trigger: socket.socket | None = None

    def put(self, path: str, **body: object) -> None:
        assert self._http.put(path, json=body or None).status_code == 200, path

    def prepare(
        self, version: str, n_frames: int = FRAMES, frame_time_s: float = FRAME_TIME_S, detail: str = "none"
    ) -> None:
        detector, stream = "/detector/api/1.8.0", "/stream/api/1.8.0"
        self.put(f"{detector}/command/initialize")
        self.put(f"{stream}/config/format", value=FORMATS[version])
        self.put(f"{stream}/config/header_detail", value=detail)
        for name, value in {"trigger_mode": "ints", "nimages": n_frames, "frame_time": frame_time_s}.items():
            self.put(f"{detector}/config/{name}", value=value)

    def acquire(self) -> None:
        """Arm and trigger; the answer to the trigger comes with the end of the series, or never."""
        self.drop_trigger()
        self.put("/detector/api/1.8.0/command/arm")
        self._trigger = socket.create_connection(("127.0.0.1", self.ports["http"]))
        self._trigger.sendall(
            b"PUT /detector/api/1.8.0/command/trigger HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )

    @property
    def state(self) -> str:
        return str(self._http.get("/detector/api/1.8.0/status/state").json()["value"])

    def drop_trigger(self) -> None:
        if self._trigger is not None:
            self._trigger.close()

    def close(self) -> None:
        self._http.close()
        self.drop_trigger()


@pytest.fixture(scope="module")
def eiger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eiger]:
    if not PYTHON.exists():
        pytest.skip("no detector to stop: .venv-tickit is absent (make .venv-tickit/installed)")
    ports = free_ports("http", "v1", "v2")
    folder = tmp_path_factory.mktemp("tickit")
    config = folder / "eiger.yaml"
    config.write_text(CONFIG.format(**ports))
    launch = [PYTHON, Path(__file__).with_name("tickit_launch.py"), str(ROWS), str(COLUMNS), "all", config]
    process = subprocess.Popen(launch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    made = Eiger(ports)
    try:
        wait_for(made.url, process)
        yield made
    finally:
        made.close()
        process.kill()
        process.wait()


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "tickit ended"
        try:
            httpx2.get(f"{url}/detector/api/1.8.0/status/state")
        except httpx2.HTTPError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("tickit does not answer")


class Relay:
    """Passes requests on to the detector; counts commands, and refuses some."""

    def __init__(self, port: int, *refused: str) -> None:
        self._port, self._refused = port, refused
        self.commands: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket) -> None:
        method, path, _ = request(connection).split(b"\r\n")[0].decode().split(" ")
        name = path.rpartition("/")[2]
        if method == "PUT":
            with self._lock:
                self.commands.append(name)
        if name in self._refused:
            connection.sendall(plain(b"no", "400 Bad Request"))
            return
        to = HTTPConnection("127.0.0.1", self._port, timeout=30)
        to.request(method, path)
        answer = to.getresponse()
        connection.sendall(plain(answer.read(), f"{answer.status} as it said"))
        to.close()


def watch(eiger: Eiger, version: str, url: str, folder: Path, enough: int = ENOUGH) -> Watched:
    """The daemon; of frames that are all the same it sees enough after a number."""
    poni = folder / "eiger.poni"
    poni.write_text(PONI)
    return Watched(
        Config.from_mapping(
            {
                "stream": {"endpoint": f"tcp://127.0.0.1:{eiger.ports[version]}", "late_s": 0.2},
                "geometry": {"poni": str(poni), "bins": 1000},
                "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}},
                "web": {"bind": "127.0.0.1:0", "token": TOKEN},
                "stop": {
                    "metric": "spottiness_rings",
                    "target": 1e-6,
                    "min_frames": 1,
                    "max_frames": enough,
                    "via": "simplon",
                    "url": url,
                },
            }
        )
    )


def moment_of(watched: Watched, is_it: object) -> float:
    """When the first result came for which that is so."""
    return next(time_s for time_s, result in watched.results if is_it(result))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("version", "refused", "commands"),
    [
        ("v1", (), ["cancel", "disarm"]),
        ("v2", (), ["cancel", "disarm"]),
        ("v2", ("cancel",), ["cancel", "disarm"]),
        ("v1", ("cancel", "disarm"), ["cancel", "disarm", "abort"]),
    ],
    ids=["v1", "v2", "v2-no-cancel", "v1-no-cancel-no-disarm"],
)
def test_it_is_stopped_within_a_frame_time_and_a_second(
    eiger: Eiger, version: str, refused: tuple[str, ...], commands: list[str], tmp_path: Path
) -> None:
    relay = Relay(eiger.ports["http"], *refused)
    eiger.prepare(version)
    with raw_server(relay) as url:
        watched = watch(eiger, version, url, tmp_path)
        try:
            eiger.acquire()
            watched.wait_for(lambda: any(report.state in {"done", "failed"} for report in watched.of(StopReport)))
            watched.wait_for_end()
            time.sleep(2 * FRAME_TIME_S)  # nothing follows: no frame, no command
        finally:
            watched.daemon.stop()
    reports = watched.of(StopReport)
    assert reports[-1].state == "done", reports
    assert eiger.state == "idle"
    assert relay.commands == commands
    assert len(reports) == 2 + len(refused) + ("abort" in commands)
    assert watched.of(SeriesEvent)[-1].reason == "end"
    first, *_, last = watched.numbers()  # tickit sends the first frame of a series sometimes only
    assert watched.numbers() == list(range(first, last + 1))
    decided_s = moment_of(watched, lambda one: isinstance(one, Decision) and one.action == "stop")
    done_s = moment_of(watched, lambda one: isinstance(one, StopReport) and one.state == "done")
    waited_s = 3.0 * ("disarm" in refused)
    assert done_s - decided_s < FRAME_TIME_S + 1.0 + waited_s


@pytest.mark.parametrize("version", FORMATS)
def test_two_series_in_a_row_are_reduced_to_their_ends(eiger: Eiger, version: str, tmp_path: Path) -> None:
    n_frames = 4
    eiger.prepare(version, n_frames, 0.25, "all")
    watched = watch(eiger, version, eiger.url, tmp_path, enough=FRAMES)
    try:
        for n_series in (1, 2):
            eiger.acquire()
            watched.wait_for(lambda n=n_series: len(watched.of(SeriesResult)) == n)
            eiger.put("/detector/api/1.8.0/command/disarm")
        watched.wait_for_end(2)
    finally:
        watched.daemon.stop()
    first, second = watched.of(SeriesResult)
    assert second.origin.series == first.origin.series + 1
    for result in (first, second):  # tickit sends the header and the first frame of a series sometimes only
        assert result.reason in ("end", "complete")
        assert n_frames - 1 <= result.n_frames <= n_frames
        assert result.fates.received == result.fates.reduced == result.n_frames
        rows = [rows for rows in watched.of(FrameRows) if rows.origin == result.origin]
        (total,) = {float(one) for some in rows for one in some.total_signal}  # real counts, in each frame the same
        assert sum(exact.to_integers(result.sums[0]).tolist()) == result.n_frames * int(total)


def test_a_wrong_token_host_or_state_changes_nothing_and_is_logged(
    eiger: Eiger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = Relay(eiger.ports["http"])
    eiger.prepare("v2")
    with raw_server(relay) as url:
        watched = watch(eiger, "v2", url, tmp_path, enough=FRAMES)
        http = httpx2.Client(base_url=watched.daemon.web.url, timeout=30)
        try:
            assert http.post("/api/stop", headers=RIGHT).json() == {"error": "no series is running"}
            eiger.acquire()
            watched.wait_for(lambda: watched.of(Snapshot))
            wrong = {"Authorization": f"Bearer {TOKEN}0"}
            assert [http.post("/api/stop", headers=head).status_code for head in ({}, wrong)] == [403, 403]
            assert http.post("/api/stop", headers=RIGHT | {"Host": "evil.example"}).status_code == 400
            assert (eiger.state, relay.commands, watched.of(StopReport)) == ("acquire", [], [])
            assert http.post("/api/stop", headers=RIGHT).status_code == 200
            watched.wait_for(lambda: [report.state for report in watched.of(StopReport)][-1:] == ["done"])
            assert http.post("/api/stop", headers=RIGHT).status_code == 409
        finally:
            http.close()
            watched.daemon.stop()
    assert (eiger.state, relay.commands) == ("idle", ["cancel", "disarm"])
    assert capsys.readouterr().out.count("refused") == 5
