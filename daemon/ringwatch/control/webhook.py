"""A stop order in, one HTTP POST out: for whoever owns the detector and listens."""

import json

import httpx2

from ringwatch.control.order import Order
from ringwatch.errors import ControlError


class Webhook:
    """POSTs the order as JSON: series, unique_id, sample, n_frames, sentence and the decision's facts.

    Parameters
    ----------
    url
        Where to.
    timeout_s
        Longest wait for the answer.
    """

    via = "http"

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s

    def stop(self, order: Order) -> str:
        """POST once; any answer of 200 to 299 counts as obeyed.

        Raises
        ------
        ControlError
        """
        try:
            with (
                httpx2.Client(timeout=self._timeout_s, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", self._url, json=facts(order)) as answer,  # its body is never read
            ):
                status, is_success = answer.status_code, answer.is_success
        except httpx2.HTTPError as error:
            raise ControlError(f"{self._url} could not be told: {error or type(error).__name__}") from error
        if not is_success:
            raise ControlError(f"{self._url} answered {status}")
        return f"{httpx2.URL(self._url).host} was told and answered {status}"


def facts(order: Order) -> dict[str, object]:
    """An order as plain values."""
    origin = order.origin
    named = {"series": origin.series, "unique_id": origin.unique_id, "sample": origin.sample}
    return {**order.facts, **named, "n_frames": order.n_frames, "sentence": order.sentence}


def as_json(order: Order) -> str:
    """An order as one line of JSON."""
    return json.dumps(facts(order))
