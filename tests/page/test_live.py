"""The whole daemon behind the page: a simulated detector, ZeroMQ and a browser tell the same numbers."""

import threading
from collections import defaultdict

import httpx2
import pytest

from ringwatch.client import subscribe
from ringwatch.config import Config
from tests.page.test_page import percent
from tests.service.test_daemon import POWDER, Watched

NUMBERS = "(t => [t('frame'), t('number')])(id => document.getElementById(id).textContent)"
LOOKS = 6


class Told:
    """What was published over ZeroMQ: the spottiness that belongs to a number of frames."""

    def __init__(self, endpoint):
        self.spottiness = defaultdict(set)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(endpoint,), daemon=True)
        self._thread.start()

    def _listen(self, endpoint):
        for message in subscribe(endpoint, topics=("snapshot", "series")):
            if message["type"] == "snapshot" and message["accumulated"]:
                self.spottiness[message["n_frames"]].add(message["accumulated"]["spottiness_rings"])
            if message.get("event") == "end":
                break
        self._ended.set()

    def wait(self):
        assert self._ended.wait(20)


@pytest.fixture
def daemon(simulated, tmp_path):
    eiger = simulated(n_frames=160)
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    config = Config.from_mapping(
        {
            "stream": {"endpoint": eiger.sender.endpoint, "late_s": 0.2},
            "geometry": {"poni": str(tmp_path / "powder.poni")},
            "profiles": {"interval_s": 0.2},
            "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}},
            "web": {"bind": "127.0.0.1:0"},
        }
    )
    watched = Watched(config)
    yield watched.daemon
    watched.daemon.stop()


def test_live_numbers_are_those_of_zeromq_and_of_the_api(daemon, opened):
    told = Told(daemon.zeromq.endpoint)
    window = opened(daemon.web.url)
    window.wait_for("/^[1-9]/.test(document.getElementById('number').textContent)")
    seen = {}
    while len(seen) < LOOKS:
        frame, number = window.page.evaluate(NUMBERS)
        seen[int(frame.split()[0])] = number
        window.page.wait_for_timeout(200)
    window.wait_for("document.getElementById('word').textContent === 'DONE'")
    told.wait()
    for frame, number in seen.items():
        assert number in {percent(value) for value in told.spottiness[frame]}, frame
    facts = httpx2.get(f"{daemon.web.url}/api/latest").json()
    assert window.text("number") == percent(facts["accumulated_spottiness_rings"])
    assert window.text("frame") == "160 of 160"
    assert facts["frame"] == 160
    window.wait_for("document.getElementById('image-frames').textContent === 'sum of 160 frames'")
    assert window.page.is_visible("#profiles-plot canvas")
    assert facts["accumulated_spottiness_rings"] in told.spottiness[160]
