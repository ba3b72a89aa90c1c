"""BLISS: a scan that ends once ringwatch says stop. The scan is stopped, not the detector, so BLISS stays in charge.

    scan = loopscan(6000, 0.01, eiger, run=False)
    print(until_good(scan, eiger))

Set stop.via = "none": a detector that is stopped from outside makes the scan fail.
"""

import json
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from bliss.scanning.scan import ScanPreset

URL = "http://127.0.0.1:8080"


class GoodEnough(Exception):
    """What ends the scan."""


class UntilGood(ScanPreset):
    """Looks each time that one of the counters has new data whether it is good enough; ``sentence`` says why, then."""

    def __init__(self, *counters: Any, url: str = URL) -> None:
        super().__init__()
        self._counters, self._url = counters, url
        self._before = ""
        self.sentence = ""

    def prepare(self, scan: Any) -> None:
        """Before the detector is armed: the series that is known now is not the one to decide on."""
        self._before = self._ask("latest")["unique_id"] or ""
        self.connect_data_channels(self._counters, self._look)

    def _look(self, counter: Any, channel_name: str, data: Any) -> None:
        facts = self._ask("wait", after=self._before, timeout_s=0)
        if facts["outcome"] == "stop":
            self.sentence = facts["sentence"]
            raise GoodEnough(self.sentence)

    def _ask(self, name: str, **query: object) -> dict[str, Any]:
        with urlopen(f"{self._url}/api/{name}?{urlencode(query)}", timeout=5) as answer:
            return json.load(answer)


def until_good(scan: Any, *counters: Any, url: str = URL) -> str:
    """Run a scan until it is good enough, or to its end; what ringwatch said when it ended it, else an empty text."""
    preset = UntilGood(*counters, url=url)
    scan.add_preset(preset)
    try:
        scan.run()
    except Exception:
        if not preset.sentence:  # the scan has failed for another reason
            raise
    return preset.sentence
