"""The command line's words for a simulated powder in, a `Powder` and its stream out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

from ringwatch.stream.control_unit import ControlUnit
from ringwatch.stream.faults import Fault
from ringwatch.stream.powder import PRESETS, Powder
from ringwatch.stream.sender import Progress, Sender, SendReport
from ringwatch.stream.simulator import DEFAULT_SEED, simulate

DEFAULT_FRAMES = 200
_LAST_QUESTION_S = 5.0
"""Who stopped the detector wants to see it idle before it is gone."""


def powder(
    preset: str, crystallites: float | None = None, grain_lifetime: float | None = None, static: float | None = None
) -> Powder:
    """A preset with the numbers that were given."""
    given: dict[str, Any] = {
        "crystallites": crystallites,
        "grain_lifetime_frames": grain_lifetime,
        "static_fraction": static,
    }
    return replace(PRESETS[preset], **{name: value for name, value in given.items() if value is not None})


def send(
    sender: Sender,
    sample: Powder,
    n_frames: int,
    rate_hz: float,
    seed: int | None,
    series: int,
    distinct: int | None,
    progress: Progress,
) -> SendReport:
    """Send a simulated series."""
    return simulate(
        sender,
        sample,
        n_frames,
        rate_hz=rate_hz,
        seed=DEFAULT_SEED if seed is None else seed,
        series=series,
        distinct=distinct,
        progress=progress,
    )


@contextmanager
def commanded(port: int | None, stop: Event, faults: Sequence[Fault] = ()) -> Iterator[None]:
    """The detector acquires inside the block, and takes commands that end that, where a port is given."""
    if port is None:
        yield
        return
    unit = ControlUnit(stop, port, frozenset(faults))
    with unit.serving():
        with unit.acquiring():
            yield
        unit.wait_until_asked(_LAST_QUESTION_S)


def describe(report: SendReport) -> str:
    """One line about a series that was sent."""
    rate_hz = report.frames / report.seconds if report.seconds else 0.0
    late = f", at most {report.late_max_s:.3f} s late" if report.late_max_s else ""
    how = "stopped after" if report.stopped else "sent"
    volume = f"{rate_hz:.1f} Hz, {report.size_bytes / 1e6:.1f} MB"
    return f"{how} {report.frames} frames in {report.seconds:.2f} s ({volume}{late})"
