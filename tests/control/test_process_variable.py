"""A detector's Acquire set to 0 over Channel Access, against a server of the same protocol."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest
from tests.control.conftest import Stream

from ringwatch.clock import SystemClock
from ringwatch.config import StopConfig
from ringwatch.control.actuators import actuator
from ringwatch.control.epics import ProcessVariable
from ringwatch.control.order import Order
from ringwatch.errors import ConfigError, ControlError, NoAnswer

PV = "TST:cam1:Acquire"


class Camera:
    """An areaDetector that acquires; each value that was written to it."""

    def __init__(self, stream: Stream, *, may_write: bool) -> None:
        import caproto

        camera = self
        self.written: list[int] = []

        class Acquire(caproto.ChannelInteger):
            async def write_from_dbr(
                self, data: list[int], data_type: object, metadata: object, **rest: object
            ) -> None:
                camera.written += [int(value) for value in data]
                stream.end()

            def check_access(self, hostname: str, username: str) -> object:
                rights = caproto.AccessRights
                return rights.READ | rights.WRITE if may_write else rights.READ

        self.channels = {PV: Acquire(value=1)}


@pytest.fixture
def camera(epics: ModuleType, stream: Stream, request: pytest.FixtureRequest) -> Iterator[Camera]:
    from caproto.asyncio.server import Context

    made, is_up = Camera(stream, may_write=getattr(request, "param", True)), threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, "asyncio.Task[None]"]] = []

    async def serve() -> None:
        task = asyncio.current_task()
        assert task is not None
        loops.append((asyncio.get_running_loop(), task))

        async def started(_: object) -> None:
            is_up.set()

        await Context(made.channels, ["127.0.0.1"]).run(log_pv_names=False, startup_hook=started)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert is_up.wait(20)
    yield made
    ((loop, task),) = loops
    loop.call_soon_threadsafe(task.cancel)
    thread.join(20)


def test_acquire_is_set_to_0_once_and_the_series_is_seen_to_end(camera: Camera, order: Order, steps: list[str]) -> None:
    stopped = actuator(StopConfig(metric="excess", target=0.01, pv=PV, via="epics", timeout_s=20), SystemClock())
    assert stopped is not None
    assert (stopped.via, stopped.whom) == ("epics", PV)
    assert stopped.stop(order, steps.append) == "series over"
    assert camera.written == [0]
    assert steps == [f"{PV} was set to 0."]


@pytest.mark.logs_errors
@pytest.mark.parametrize("camera", [False], indirect=True)
def test_a_variable_that_may_not_be_written_is_a_failure(camera: Camera, order: Order) -> None:
    with pytest.raises(ControlError, match="it could not be set to 0") as caught:
        ProcessVariable(PV, 5.0).deliver(order)
    assert not isinstance(caught.value, NoAnswer)
    assert camera.written == []


@pytest.mark.usefixtures("epics")
def test_a_variable_that_is_not_there_is_named(order: Order) -> None:
    with pytest.raises(NoAnswer, match=f"{PV} was not found or gave no answer within 0.5 s"):
        ProcessVariable(PV, 0.5).deliver(order)


def test_without_the_extra_the_start_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "caproto.sync.client", None)
    with pytest.raises(ConfigError, match=r"stop.via = \"epics\" needs caproto: pip install 'ringwatch\[epics\]'"):
        actuator(StopConfig(metric="excess", target=0.01, pv=PV, via="epics"), SystemClock())
