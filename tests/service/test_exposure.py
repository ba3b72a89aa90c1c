"""What other machines can see is protected or said; secrets show nowhere."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs
from tests.service.conftest import RIGHT, TOKEN
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, Watched, send_series

from ringwatch.__main__ import EXIT_CONFIG, main
from ringwatch.client import subscribe
from ringwatch.config import Config, is_local
from ringwatch.curve import write_pair
from ringwatch.errors import ConfigError
from ringwatch.messages import Frame, SeriesStart
from ringwatch.service.exposure import exposed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    for name in ("keys/daemon", "clients/alice", "stranger"):
        path = tmp_path / name
        write_pair(path.parent, path.name)
    return tmp_path


@pytest.fixture
def run_config() -> Iterator[Callable[[Config], Watched]]:
    running: list[Watched] = []

    def start(config: Config) -> Watched:
        running.append(Watched(config))
        return running[-1]

    yield start
    for watched in running:
        watched.daemon.stop()


def config_of(folder: Path, **sections: object) -> Config:
    given = {"stream": {"endpoint": "tcp://127.0.0.1:1"}, "geometry": {"poni": "powder.poni"}} | sections
    return Config.from_mapping(given, folder)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({}, []),
        ({"web": {"bind": "localhost:0"}, "publish": {"zmq": {"bind": "ipc:///run/x"}}}, []),
        ({"publish": {"zmq": {"bind": "tcp://*:5560"}}}, [r"reaches tcp://\*:5560 can read the results: .*secret_key"]),
        ({"publish": {"zmq": {"bind": "tcp://*:5560", "secret_key": "keys/daemon.key_secret"}}}, []),
        ({"web": {"bind": "0.0.0.0:8080"}}, [r"reaches 0\.0\.0\.0:8080 can read the page; nobody can give orders\."]),
        ({"web": {"bind": "id11:80", "token": TOKEN}}, ["orders need the token, which travels unencrypted"]),
        (
            {"publish": {"epics": {"prefix": "X:", "interface": "0.0.0.0"}}},  # noqa: S104 - refused politely
            [r"reaches 0\.0\.0\.0 can read the process variables"],
        ),
    ],
)
def test_what_everybody_can_reach_is_one_plain_sentence_each(
    folder: Path, sections: dict[str, Any], said: list[str]
) -> None:
    sentences = list(exposed(config_of(folder, **sections)))
    assert len(sentences) == len(said)
    for pattern, sentence in zip(said, sentences, strict=True):
        assert re.search(pattern, sentence)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "tcp://localhost:5", "tcp://LOCALHOST:5", "ipc://x"])
def test_loopback_is_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "tcp://*:5", "tcp://10.1.2.3:5", "127.0.0.1.evil.example:80"])
def test_everything_else_is_not(address: str) -> None:
    assert not is_local(address)


def test_check_tells_who_may_subscribe_and_warns(folder: Path) -> None:
    config = folder / "config.toml"
    config.write_text(
        '[stream]\nendpoint = "tcp://127.0.0.1:1"\n[geometry]\nponi = "powder.poni"\n[web]\nbind = "0.0.0.0:8080"\n'
        '[publish.zmq]\nbind = "tcp://*:5560"\nsecret_key = "keys/daemon.key_secret"\nclients = "clients"\n'
    )
    told = CliRunner().invoke(main, ["check", str(config)])
    assert told.exit_code == 0, told.output
    assert "publish     tcp://*:5560, encrypted, for 1 known clients" in told.output
    assert len(re.findall(r"^WARNING ", told.output, re.MULTILINE)) == 1
    (folder / "keys" / "daemon.key_secret").chmod(0o644)
    told = CliRunner().invoke(main, ["check", str(config)])
    assert told.exit_code == EXIT_CONFIG
    assert f"chmod 600 {folder}/keys/daemon.key_secret" in told.output


@pytest.mark.parametrize(
    ("zmq", "said"),
    [
        ({"secret_key": "absent"}, "no such file"),
        ({"clients": "clients"}, "needs secret_key"),
        ({"secret_key": "keys/daemon.key_secret", "clients": "absent"}, "no such folder"),
    ],
)
def test_keys_that_make_no_sense_are_mistakes(folder: Path, zmq: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(folder, publish={"zmq": zmq})


def test_results_go_to_known_clients_and_no_secret_shows_anywhere(
    folder: Path, detector: Detector, powder_frames: tuple[SeriesStart, list[Any], list[Frame]]
) -> None:
    secret = re.findall(r'secret-key = "(.+)"', (folder / "keys" / "daemon.key_secret").read_text())[0]
    results = folder / "results"
    results.mkdir()
    keys = {"secret_key": "keys/daemon.key_secret", "clients": "clients"}
    config = config_of(
        folder,
        stream={"endpoint": detector.endpoint, "late_s": 0.2},
        publish={"zmq": {"bind": "tcp://127.0.0.1:0", **keys}, "hdf5": {"root": str(results)}},
        web={"bind": "127.0.0.1:0", "token": TOKEN},
    )
    with capture_logs() as logs:
        watched = Watched(config)
        try:
            start, _, frames = powder_frames
            send_series(detector, start, frames)
            watched.wait_for_end()
            endpoint, alice = watched.daemon.zeromq.endpoint, folder / "clients" / "alice.key_secret"
            assert next(subscribe(endpoint, "series", PATIENCE_S, folder / "keys" / "daemon.key", alice))["series"] == 1
            with pytest.raises(TimeoutError, match="are these its keys"):
                next(subscribe(endpoint, "series", 0.3, folder / "keys" / "daemon.key", folder / "stranger.key_secret"))
            with httpx2.Client(base_url=watched.daemon.web.url, timeout=PATIENCE_S) as http:
                said = "".join(http.get(path).text for path in ("/", "/api/latest", "/metrics", "/healthz"))
                wrong = {"Authorization": f"Bearer {TOKEN[::-1]}"}
                said += "".join(http.post("/api/reset", headers=headers).text for headers in (RIGHT, wrong, {}))
        finally:
            watched.daemon.stop()
    files = list(results.rglob("*.h5"))
    assert files
    told = json.dumps(logs, default=str) + said + repr(config) + repr(watched.daemon.zeromq._keys)
    for hidden in (TOKEN, secret):
        assert hidden not in told
        assert not [path for path in files if hidden.encode() in path.read_bytes()]


def test_exposure_is_warned_of_at_start(folder: Path, run_config: Callable[[Config], Watched]) -> None:
    with capture_logs() as logs:
        run_config(config_of(folder, publish={"zmq": {"bind": "tcp://*:0"}}, web={"bind": "127.0.0.1:0"}))
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == [
        "Everybody who reaches tcp://*:0 can read the results: publish.zmq.secret_key would keep others out."
    ]
