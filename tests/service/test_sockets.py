"""A daemon of its own in, the sockets that the system has open for it out: none that the world can reach by default."""

import re
import signal
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.service.test_daemon import PATIENCE_S, POWDER, Detector, command

from ringwatch.config import Config

LISTENING = 0x0A
NET = Path("/proc/net")

pytestmark = pytest.mark.skipif(not NET.is_dir(), reason="sockets are looked up where Linux tells them: /proc/net")


class Socket(NamedTuple):
    kind: str
    here: IPv4Address | str
    there: IPv4Address | str
    state: int


def address(text: str) -> IPv4Address | str:
    """Of a line in /proc/net: eight hexadecimal digits, little-endian; those of IPv6 stay text."""
    digits = text.partition(":")[0]
    return IPv4Address(int.from_bytes(bytes.fromhex(digits), "little")) if len(digits) == 8 else digits


def sockets_of(pid: int) -> list[Socket]:
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(link.readlink()))
    own = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    return [
        Socket(kind, address(words[1]), address(words[2]), int(words[3], 16))
        for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
        for line in (NET / kind).read_text().splitlines()[1:]
        if (words := line.split())[9] in own
    ]


def test_by_default_nobody_outside_can_reach_the_daemon(tmp_path: Path) -> None:
    detector = Detector()
    poni, config = tmp_path / "powder.poni", tmp_path / "config.toml"
    poni.write_text(POWDER.poni())
    default = Config.for_endpoint(detector.endpoint, poni)
    # The addresses are the default ones; only the ports are any free ones.
    zmq, web = (bind.rpartition(":")[0] + ":0" for bind in (default.publish.zmq.bind, default.web.bind))
    config.write_text(
        f'[stream]\nendpoint = "{detector.endpoint}"\n[geometry]\nponi = "powder.poni"\n'
        f'[publish.zmq]\nbind = "{zmq}"\n[web]\nbind = "{web}"\n'
    )
    process = command("run", str(config))
    assert process.stderr is not None
    said = set[str]()
    for line in process.stderr:  # ready when both outlets have told where they are
        said |= {word for word in ("results", "page", "listening") if re.search(rf"\] {word}\b", line)}
        if len(said) == 3:
            break
    sockets = sockets_of(process.pid)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    detector.close()
    assert sum(one.state == LISTENING for one in sockets) == 2
    for one in sockets:
        assert one.kind == "tcp"
        assert one.here == ip_address("127.0.0.1")
        assert one.state == LISTENING or one.there == ip_address("127.0.0.1")
