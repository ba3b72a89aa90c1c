"""What stands in examples/ and in docs/stopping.md is executed against the daemon and a simulated detector.

Bluesky's RunEngine is the real one. BLISS cannot be installed from an index: of it there is a stand-in, which has what
the example uses, as BLISS documents it (ScanPreset.prepare, connect_data_channels; an exception of a callback ends the
scan).
"""

import importlib.util
import shutil
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.service.conftest import Simulated
from tests.service.test_daemon import PATIENCE_S, Detector, Watched

from ringwatch.messages import Frame, SeriesEvent, SeriesStart, Snapshot
from ringwatch.stream.encode import compress_bslz4
from ringwatch.stream.simulator import Simulator

EXAMPLES = Path(__file__).parents[2] / "examples"
NEVER = {"via": "none", "target": 1e-6}


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stepwise:
    """A detector that is triggered, a few frames each time; they have been reduced when the trigger is over."""

    frames_a_trigger = 4

    def __init__(self) -> None:
        from tests.service.test_daemon import POWDER

        simulator = Simulator(POWDER, 1)
        self._images = [compress_bslz4(simulator.frame()) for _ in range(12)]
        self._kind = POWDER.shape, POWDER.dtype
        self.stream = Detector()
        self.sender = types.SimpleNamespace(endpoint=self.stream.endpoint)
        self.unit = types.SimpleNamespace(url="http://127.0.0.1:9")
        self.watched: Watched | None = None
        self.sent = self.series = 0

    def arm(self) -> None:
        self.series, self.sent = self.series + 1, 0
        shape, dtype = self._kind
        self.stream.start(SeriesStart(self.series, f"series {self.series}", shape=shape, dtype=dtype))

    def trigger(self) -> None:
        for _ in range(self.frames_a_trigger):
            data = self._images[self.sent % len(self._images)]
            self.stream.image(self.sent, Frame(1, 0, *self._kind, "bslz4", data))
            self.sent += 1
        assert self.watched is not None
        self.watched.wait_for(lambda: any(self._is_all(one) for one in self.watched.of(Snapshot)))  # type: ignore[union-attr]
        time.sleep(0.3)  # the decision on these frames

    def disarm(self) -> None:
        self.stream.end()

    def _is_all(self, snapshot: Snapshot) -> bool:
        return snapshot.origin.series == self.series and snapshot.n_frames == self.sent


@pytest.fixture
def stepwise(run_told: Callable[..., Watched]) -> Any:
    made = Stepwise()

    def with_daemon(**stop: object) -> Stepwise:
        made.watched = run_told(made, **({"via": "none"} | stop))
        return made

    yield with_daemon
    made.stream.close()


def url(watched: Watched | None) -> str:
    assert watched is not None
    return watched.daemon.web.url


# ---------------------------------------------------------------------------------------------------------- curl, SPEC


def waiting(watched: Watched, *arguments: str) -> "subprocess.Popen[bytes]":
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return subprocess.Popen([EXAMPLES / "wait.sh", url(watched), *arguments])


def test_the_shell_script_ends_with_0_once_it_is_good_enough(
    simulated: Callable[..., Simulated], run_told: Callable[..., Watched]
) -> None:
    eiger = simulated()
    assert waiting(run_told(eiger, via="none")).wait(PATIENCE_S) == 0
    assert eiger.report is None, "it was not the end of the series"


def test_the_shell_script_ends_with_1_if_the_series_ends_before(
    simulated: Callable[..., Simulated], run_told: Callable[..., Watched]
) -> None:
    watched = run_told(simulated(n_frames=30), **NEVER)
    watched.wait_for(lambda: watched.of(Snapshot))
    assert waiting(watched).wait(PATIENCE_S) == 1


def test_the_shell_script_is_not_told_of_the_series_before(
    simulated: Callable[..., Simulated], run_told: Callable[..., Watched]
) -> None:
    watched = run_told(simulated(n_frames=30), **NEVER)
    watched.wait_for_end()
    before = watched.of(SeriesEvent)[-1].origin.unique_id
    script = waiting(watched, before)
    with pytest.raises(subprocess.TimeoutExpired):
        script.wait(1.0)
    watched.daemon.stop()
    assert script.wait(PATIENCE_S) == 2


def test_the_macro_of_spec_asks_what_the_daemon_answers(
    simulated: Callable[..., Simulated], run_told: Callable[..., Watched]
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    macro = (EXAMPLES / "spec.mac").read_text()
    command = macro.partition('unix("')[2].partition('"')[0]
    watched = run_told(simulated(), via="none")
    address = command.replace("http://127.0.0.1:8080", url(watched)).split(" ")
    answer = subprocess.run(address, capture_output=True, timeout=PATIENCE_S, check=True).stdout.decode()
    looked_for = [text.partition('")')[0].replace('\\"', '"') for text in macro.split('index(RW, "')[1:]]
    assert f'RW = "{looked_for[0]}"' in macro.replace('\\"', '"'), "it asks at least once"
    assert looked_for == ['{"outcome":"timeout"', '{"outcome":"stop"']
    assert [answer.startswith(text) for text in looked_for] == [False, True]


# ------------------------------------------------------------------------------------------------------------- Bluesky


class Done:
    """A Bluesky status that has come true."""

    done = success = True
    timeout = None

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> None:
        return None


class BlueskyEiger:
    """A detector as Bluesky sees it."""

    name, parent = "eiger", None

    def __init__(self, stepwise: Stepwise) -> None:
        self._stepwise = stepwise
        self.is_staged = False

    def stage(self) -> list[Any]:
        self.is_staged = True
        self._stepwise.arm()
        return [self]

    def unstage(self) -> list[Any]:
        self.is_staged = False
        self._stepwise.disarm()
        return [self]

    def trigger(self) -> Done:
        self._stepwise.trigger()
        return Done()

    def read(self) -> dict[str, Any]:
        return {"eiger_frames": {"value": self._stepwise.sent, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        return {"eiger_frames": {"source": "simulated", "dtype": "integer", "shape": []}}


def bluesky_run(stepwise: Stepwise, max_points: int) -> tuple[Any, list[tuple[str, Any]]]:
    """What the plan returned, and the documents."""
    from bluesky import RunEngine

    plan, documents = example("bluesky_plan"), []
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(lambda name, document: documents.append((name, document)))
    eiger = BlueskyEiger(stepwise)
    result = engine(plan.until_good([eiger], plan.Ringwatch(url(stepwise.watched)), max_points))
    assert not eiger.is_staged
    return result.plan_result, documents


def bluesky_is_there() -> None:
    pytest.importorskip("bluesky", reason="bluesky is absent: pip install --group dev")


def test_the_bluesky_plan_ends_by_itself_once_it_is_good_enough(stepwise: Callable[..., Stepwise]) -> None:
    bluesky_is_there()
    detector = stepwise()
    said, documents = bluesky_run(detector, 100)
    assert said.startswith("Good enough since frame ")
    events = [document["data"] for name, document in documents if name == "event"]
    assert 1 <= len(events) < 100
    assert detector.sent == len(events) * detector.frames_a_trigger
    *before, last = [event["ringwatch_action"] for event in events]
    assert set(before) <= {"", "continue"}, "no decision yet, or one to go on"
    assert last == "stop"
    assert events[-1]["ringwatch_value"] < events[-1]["ringwatch_target"] == 0.5
    (stop,) = [document for name, document in documents if name == "stop"]
    assert (stop["exit_status"], stop["reason"]) == ("success", "")


def test_the_bluesky_plan_takes_all_points_where_it_is_never_good_enough(stepwise: Callable[..., Stepwise]) -> None:
    bluesky_is_there()
    detector = stepwise(target=1e-6)
    said, documents = bluesky_run(detector, 3)
    assert said is None
    assert sum(name == "event" for name, _ in documents) == 3


def test_the_bluesky_plan_does_not_take_the_decision_of_the_series_before(stepwise: Callable[..., Stepwise]) -> None:
    bluesky_is_there()
    detector = stepwise()
    for _ in range(2):
        said, documents = bluesky_run(detector, 100)
        assert said is not None
        assert sum(name == "event" for name, _ in documents) > 1


# --------------------------------------------------------------------------------------------------------------- BLISS


class ScanPreset:
    """As BLISS documents it."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any, str, Any], None]] = []

    def connect_data_channels(self, counters: Any, callback: Callable[[Any, str, Any], None]) -> None:
        assert counters == ("eiger",)
        self.callbacks.append(callback)


class Loopscan:
    """A scan of so many points."""

    def __init__(self, detector: Stepwise, points: int, *, breaks: bool = False) -> None:
        self._detector, self._points, self._breaks = detector, points, breaks
        self._presets: list[Any] = []
        self.state = "IDLE"

    def add_preset(self, preset: Any) -> None:
        self._presets.append(preset)

    def run(self) -> None:
        for preset in self._presets:
            preset.prepare(self)
        self._detector.arm()
        try:
            for _ in range(self._points):
                self._detector.trigger()
                if self._breaks:
                    raise RuntimeError("motor lost")
                for callback in self._presets[0].callbacks:
                    callback("eiger", "eiger:image", self._detector.sent)
            self.state = "DONE"
        finally:
            self._detector.disarm()


@pytest.fixture
def bliss(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("bliss", "bliss.scanning", "bliss.scanning.scan"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["bliss.scanning.scan"].ScanPreset = ScanPreset  # type: ignore[attr-defined]
    return example("bliss_preset")


def test_the_bliss_preset_ends_the_scan_and_says_why(bliss: Any, stepwise: Callable[..., Stepwise]) -> None:
    detector = stepwise()
    for _ in range(2):
        scan = Loopscan(detector, 100)
        assert bliss.until_good(scan, "eiger", url=url(detector.watched)).startswith("Good enough since frame ")
        assert scan.state == "IDLE"
        assert detector.frames_a_trigger < detector.sent < 400


def test_the_bliss_preset_lets_a_scan_end_by_itself(bliss: Any, stepwise: Callable[..., Stepwise]) -> None:
    detector = stepwise(target=1e-6)
    scan = Loopscan(detector, 3)
    assert bliss.until_good(scan, "eiger", url=url(detector.watched)) == ""
    assert scan.state == "DONE"


def test_the_bliss_preset_hides_no_other_failure(bliss: Any, stepwise: Callable[..., Stepwise]) -> None:
    detector = stepwise()
    with pytest.raises(RuntimeError, match="motor lost"):
        bliss.until_good(Loopscan(detector, 3, breaks=True), "eiger", url=url(detector.watched))


# ------------------------------------------------------------------------------------------------------- documentation


def test_the_questions_of_the_documentation_are_answered(
    simulated: Callable[..., Simulated], run_told: Callable[..., Watched]
) -> None:
    """Each curl line of docs/stopping.md, with address and token of this daemon."""
    from tests.service.conftest import TOKEN

    text = (EXAMPLES.parent / "docs" / "stopping.md").read_text()
    lines = [line.strip() for line in text.splitlines() if line.startswith("    curl ")]
    assert len(lines) >= 3
    eiger = simulated()
    watched = run_told(eiger, min_time_s=60.0, target=1e-6)
    watched.wait_for(lambda: watched.of(Snapshot))
    for line in lines:
        command = line.partition("  #")[0].replace("http://127.0.0.1:8080", url(watched)).replace("$TOKEN", TOKEN)
        command = command.replace("timeout_s=60", "timeout_s=0.1")
        answer = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=PATIENCE_S, check=True).stdout
        assert b'"error":' not in answer, (line, answer)
        assert b'"sentence":' in answer
    assert httpx2.post(f"{url(watched)}/api/stop").status_code == 403
    deadline_s = time.monotonic() + PATIENCE_S
    while eiger.unit.commands != ["cancel", "disarm"]:
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.05)
