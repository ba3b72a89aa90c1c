"""docs/live.ipynb runs against a real publisher, and plots what that publishes."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
from tests.conftest import FakeClock

from ringwatch.publish.web import WebPublisher
from ringwatch.publish.zeromq import ZeroMQPublisher

NOTEBOOK = Path(__file__).parents[2] / "docs" / "live.ipynb"
CELLS = {cell["id"]: "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"]}


@pytest.fixture
def endpoint(results) -> Iterator[str]:
    """Publishes two batches of frames and the end of their series, once somebody has subscribed."""
    publisher = ZeroMQPublisher("tcp://127.0.0.1:*")
    publisher.open()
    publisher.publish(results.event())
    gone = threading.Event()

    def publish() -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as first:
            first.linger = 0
            first.subscribe("frames")
            first.connect(publisher.endpoint)
            while not gone.is_set():
                for result in (results.rows(0), results.rows(3), results.event("end", "end")):
                    publisher.publish(result)
                gone.wait(0.05)

    thread = threading.Thread(target=publish)
    thread.start()
    yield publisher.endpoint
    gone.set()
    thread.join(5)
    publisher.close()


@pytest.fixture
def url(results) -> Iterator[str]:
    web = WebPublisher("127.0.0.1:0", FakeClock(), list)
    web.open()
    for result in (results.event(), results.snapshot(), results.decision(reason_code="reached")):
        web.publish(result)
    yield web.url
    web.close()


class Shown:
    """What a notebook's ``display`` gives back; counts how often the figure was drawn anew."""

    def __init__(self) -> None:
        self.updates = 0

    def update(self, figure: object) -> None:
        self.updates += 1


@pytest.fixture
def executed() -> Iterator[Callable[..., dict[str, Any]]]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    def run(*cells: str, **names: Any) -> dict[str, Any]:
        for cell in cells:
            exec(CELLS[cell], names)  # noqa: S102 - our own notebook
        return names

    yield run
    plt.close("all")


def test_ten_lines_plot_live(endpoint: str, executed: Callable[..., dict[str, Any]]) -> None:
    assert len([line for line in CELLS["plot"].splitlines() if line]) == 10
    shown = Shown()
    names = executed("plot", ENDPOINT=endpoint, display=lambda figure, display_id: shown)
    drawn = [frame for line in names["axes"].lines for frame in line.get_xdata()]
    assert shown.updates == len(names["axes"].lines) >= 1
    assert drawn
    assert set(drawn) <= set(range(6))
    assert names["message"]["event"] == "end"


def test_the_newest_facts_and_the_decision_are_asked_for(
    url: str, executed: Callable[..., dict[str, Any]], capsys
) -> None:
    names = executed("latest", "wait", URL=url)
    assert names["facts"]["frame"] == 412
    assert names["decided"]["outcome"] == "stop"
    assert capsys.readouterr().out.splitlines()[0].startswith("GOOD ENOUGH ")


def test_the_notebook_is_kept_without_outputs() -> None:
    code = [
        SimpleNamespace(**cell) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert "ENDPOINT" in CELLS["parameters"]
    assert "URL" in CELLS["parameters"]
