"""Bluesky: count until ringwatch says stop. The plan ends by itself: the run is a success, everything is unstaged.

    RE(until_good([eiger], Ringwatch("http://beamline:8080"), max_points=1000))

Stage the detector for max_points triggers of a few frames each, as one series. Set stop.via = "none": a detector that
is stopped from outside makes the plan fail.
"""

import json
import math
import time
from collections.abc import Generator, Sequence
from typing import Any
from urllib.request import urlopen

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp

KINDS = {"value": "number", "target": "number", "action": "string", "sentence": "string", "unique_id": "string"}


class Ringwatch:
    """What ringwatch says, as a readable device: it stands beside the detector's data in every event."""

    parent = None

    def __init__(self, url: str = "http://127.0.0.1:8080", name: str = "ringwatch") -> None:
        self.url, self.name = url, name

    def facts(self) -> dict[str, Any]:
        """The newest ones, see docs/messages.md."""
        with urlopen(f"{self.url}/api/latest", timeout=5) as answer:
            return json.load(answer)

    def read(self) -> dict[str, dict[str, Any]]:
        """Bluesky's Readable."""
        facts, now_s = self.facts(), time.time()
        missing = {"number": math.nan, "string": ""}
        values = {key: missing[kind] if facts[key] is None else facts[key] for key, kind in KINDS.items()}
        return {f"{self.name}_{key}": {"value": value, "timestamp": now_s} for key, value in values.items()}

    def describe(self) -> dict[str, dict[str, Any]]:
        """Bluesky's Readable."""
        keys = {f"{self.name}_{key}": kind for key, kind in KINDS.items()}
        return {key: {"source": self.url, "dtype": kind, "shape": []} for key, kind in keys.items()}


def until_good(detectors: Sequence[Any], ringwatch: Ringwatch, max_points: int) -> Generator[Any, Any, str | None]:
    """Trigger and read until ringwatch says stop about the series that begins now, or ``max_points`` are taken.

    Gives what ringwatch said, or None.
    """
    before, sentence = ringwatch.facts()["unique_id"] or "", None

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator(md={"plan_name": "until_good"})
    def count() -> Generator[Any, Any, None]:
        nonlocal sentence
        for _ in range(max_points):
            event = yield from bps.trigger_and_read([*detectors, ringwatch])
            said = {key: event[f"{ringwatch.name}_{key}"]["value"] for key in KINDS}
            if said["action"] == "stop" and said["unique_id"] != before:
                sentence = str(said["sentence"])
                return

    yield from count()
    return sentence
