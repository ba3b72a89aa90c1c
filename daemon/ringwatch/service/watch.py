"""What a daemon publishes, for a person or a script: messages in, a live table, plain lines or JSON lines out."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ringwatch.client import subscribe
from ringwatch.publish.sentence import DECIDED_WORDS
from ringwatch.stop.phrases import amount, goal
from ringwatch.wire import to_json

Message = Mapping[str, Any]

SPARKS = "▁▂▃▄▅▆▇█"
_SPARKLINE_CHARS = 60
_BAR_CHARS = 40
_QUIET_S = 5.0
"""The status comes every 2 s: after this the daemon is away or stuck."""
_MEASURES = ("spottiness", "spottiness_weighted", "spottiness_rings")
_FATES = ("late", "foreign", "duplicate", "malformed", "skipped", "excluded", "missing")
_TABLE_TOPICS = ("series", "frames", "snapshot", "decision", "stop", "status")
_LINE_TOPICS = ("series", "snapshot", "decision", "stop", "status")


def watch(
    endpoint: str, as_json: bool, out: TextIO, server_key: Path | None = None, own_key: Path | None = None
) -> None:
    """Show what is published at ``endpoint`` until Ctrl-C.

    Parameters
    ----------
    endpoint
        The daemon's ``publish.zmq.bind``.
    as_json
        One JSON object a line, arrays as lists: every message, nothing left out.
    out
        Where to write: a terminal gets a live table, anything else plain lines.
    server_key, own_key
        As for `subscribe`.
    """
    listen = partial(subscribe, endpoint, server_key=server_key, own_key=own_key)
    with suppress(KeyboardInterrupt):
        if as_json:
            _write_lines(map(to_json, listen()), out)
        elif out.isatty():
            _show_table(endpoint, listen(_TABLE_TOPICS), out)
        else:
            lines = filter(None, map(plain_line, listen(_LINE_TOPICS)))
            _write_lines((line for line, _ in groupby(lines)), out)  # "waiting" once, not every 2 s


def plain_line(message: Message) -> str:
    """One message as one line; empty if there is nothing to say."""
    if message["type"] == "series":
        said = f"series {message['series']} ({message['sample']}): {message['event']} {message['reason']}"
        return printable(said).rstrip()
    if message["type"] == "snapshot":
        return f"series {message['series']} frame {message['n_frames']}: {_numbers_text(message)}{_losses(message)}"
    if message["type"] == "decision":
        word = f"{_word(message, '')}. ".lstrip(". ")
        said = f"{word}{message['sentence']} [{decision_numbers(message)}]"
        return printable(f"series {message['series']} frame {message['n_frames']}: {said}")
    if message["type"] == "stop":
        return printable(f"series {message['series']} frame {message['n_frames']}: {message['sentence']}")
    if message["type"] == "status" and message["state"] != "measuring":
        return printable(f"{message['state']} {message['reason']}").rstrip()
    return ""


def decision_numbers(decision: Message) -> str:
    """The metric with its 90 % interval, its target, and where the target is expected."""
    metric = decision["metric"]
    value, low, high = (amount(metric, decision[name]) for name in ("value", "low", "high"))
    interval = "" if decision["low"] is None else f" ({low} to {high})"
    return f"{metric} {value}{interval}, target {goal(metric, decision['target'])}{_forecast_text(decision)}"


def printable(text: str) -> str:
    """Without control characters: names come from the detector, and must not steer the terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def sparkline(values: Iterable[float]) -> str:
    """Values as a row of blocks, the lowest and the highest filling the range; a gap for NaN."""
    row = np.fromiter(values, float)
    finite = row[np.isfinite(row)]
    if not finite.size:
        return ""
    low, span = finite.min(), np.ptp(finite)
    heights = (row - low) / span * (len(SPARKS) - 1) if span else row * 0
    return "".join(SPARKS[round(height)] if np.isfinite(height) else " " for height in heights)


class Dashboard:
    """The newest messages as a table for rich, which asks for it from its own thread whenever it draws."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._newest: dict[str, Message] = {}
        self._spottiness: list[float] = []
        self._summed: dict[int, float] = {}
        self._heard_s = time.monotonic()

    def take(self, message: Message) -> None:
        """Take note of a message."""
        self._heard_s = time.monotonic()
        if message["type"] == "series" and message["unique_id"] != self._newest.get("series", {}).get("unique_id"):
            self._newest.pop("snapshot", None)
            self._newest.pop("decision", None)
            self._newest.pop("stop", None)
            self._spottiness, self._summed = [], {}
        if message["type"] == "frames":
            self._spottiness = [*self._spottiness, *message["spottiness"].tolist()][-_SPARKLINE_CHARS:]
        if message["type"] == "snapshot" and message["accumulated"] is not None:
            newest = {message["accumulated"]["n_frames"]: message["accumulated"]["spottiness"]}
            self._summed = dict([*(self._summed | newest).items()][-_SPARKLINE_CHARS:])
        self._newest[message["type"]] = message

    def __rich__(self) -> Group:
        return Group(self._head(), *self._bar(), *self._decided(), self._table(), self._foot())

    def _head(self) -> Text:
        series, status = self._newest.get("series"), self._newest.get("status", {})
        text = Text(_word(self._newest.get("decision"), str(status.get("state", "waiting"))), style="bold")
        if series is not None:
            text.append(f"  sample {printable(series['sample'])}  series {series['series']}  {_progress(self._newest)}")
        silent_s = time.monotonic() - self._heard_s
        if silent_s > _QUIET_S:
            text.append(f"  nothing from {self._endpoint} for {silent_s:.0f} s", style="bold red")
        return text

    def _bar(self) -> list[ProgressBar]:
        """How far the series is, where the detector told its length."""
        snapshot = self._newest.get("snapshot")
        if snapshot is None or not snapshot["frames_expected"]:
            return []
        return [ProgressBar(snapshot["frames_expected"], snapshot["n_frames"], _BAR_CHARS)]

    def _decided(self) -> list[Text]:
        decision, stop = self._newest.get("decision"), self._newest.get("stop")
        lines = []
        if decision is not None:
            lines.append(Text(printable(decision["sentence"])))
            lines.append(Text(printable(decision_numbers(decision)), style="dim"))
        if stop is not None:
            lines.append(Text(printable(stop["sentence"]), style="bold red" if stop["state"] == "failed" else "bold"))
        return lines

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("spottiness", style="dim")
        for title in ("all bins", "by intensity", "well-measured bins"):
            table.add_column(title, justify="right")
        for name, numbers in _sources(self._newest):
            table.add_row(name, *(_number(numbers[measure]) for measure in _MEASURES))
        return table

    def _foot(self) -> Text:
        status, snapshot = self._newest.get("status"), self._newest.get("snapshot")
        text = Text(f"summed image {sparkline(self._summed.values())}\nlast frames  {sparkline(self._spottiness)}\n")
        if status is not None:
            backlog = status["backlog_bytes"] / 1e6
            text.append(f"{status['fps']:.1f} frames/s  lag {status['lag_s']:.2f} s  backlog {backlog:.1f} MB\n")
        if snapshot is not None:
            for fate in _FATES:
                text.append(f"{fate} {snapshot[fate]}  ", style="bold red" if snapshot[fate] else "dim")
        return text


def _show_table(endpoint: str, messages: Iterable[Message], out: TextIO) -> None:
    dashboard = Dashboard(endpoint)
    with Live(dashboard, console=Console(file=out), refresh_per_second=4):
        for message in messages:
            dashboard.take(message)


def _write_lines(lines: Iterable[str], out: TextIO) -> None:
    for line in lines:
        out.write(line + "\n")
        out.flush()


def _word(decision: Message | None, state: str) -> str:
    """The decision's word, unless it has none or the daemon is in trouble."""
    if decision is None or state == "error":
        return state.upper()
    return DECIDED_WORDS.get(decision["reason_code"], state.upper())


def _forecast_text(decision: Message) -> str:
    """Where the target is expected; empty where that is not known, or over."""
    forecast = decision["forecast"]
    if forecast is None:
        return ""
    if forecast["frames"] is None:
        return f"; not within sight ({forecast['p_never']:.0%} never)"
    if forecast["frames"] <= decision["n_frames"]:
        return ""
    text = f"; expected at frame {_span(forecast, '', 'frames', 'low', 'high')}"
    if forecast["seconds"] is not None:
        text += f", in {_span(forecast, ' s', 'seconds', 'seconds_low', 'seconds_high')}"
    return text


def _span(forecast: Message, unit: str, *names: str) -> str:
    value, low, high = ("?" if forecast[name] is None else f"{forecast[name]:.0f}" for name in names)
    return f"{value}{unit} ({low} to {high}{unit})"


def _progress(newest: Mapping[str, Message]) -> str:
    snapshot = newest.get("snapshot")
    if snapshot is None:
        return "no frame yet"
    expected = snapshot["frames_expected"]
    return f"frame {snapshot['n_frames']}" + (f" of {expected}" if expected else "")


def _sources(newest: Mapping[str, Message]) -> list[tuple[str, Message]]:
    sources: list[tuple[str, Message]] = []
    snapshot, frames = newest.get("snapshot"), newest.get("frames")
    if snapshot is not None and snapshot["accumulated"] is not None:
        accumulated = snapshot["accumulated"]
        sources += [("summed image", accumulated), ("averaged image", accumulated["averaged"])]
    if frames is not None and len(frames["frame"]):
        sources.append(("last frame", {measure: float(frames[measure][-1]) for measure in _MEASURES}))
    if snapshot is not None and snapshot["union"] is not None:
        sources.append(("union (never decides)", snapshot["union"]))
    return sources


def _numbers_text(snapshot: Message) -> str:
    parts = [f"{name} {_number(numbers['spottiness'])}" for name, numbers in _sources({"snapshot": snapshot})]
    return ", ".join(parts) or "nothing is added up"


def _losses(snapshot: Message) -> str:
    losses = [f"{fate} {snapshot[fate]}" for fate in _FATES if snapshot[fate]]
    return f"; {', '.join(losses)}" if losses else ""


def _number(value: float | None) -> str:
    return "none" if value is None or not np.isfinite(value) else f"{value:.4f}"
