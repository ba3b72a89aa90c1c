"""A stop order in, one HTTP POST out: for whoever owns the detector and listens."""

from urllib.parse import urlsplit

from ringwatch.control.http import exchange, open_client
from ringwatch.control.order import Order


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
        self.whom = urlsplit(url).hostname or url

    def deliver(self, order: Order) -> str:
        """POST once; see `Messenger`."""
        with open_client(self._url, self._timeout_s) as client:
            exchange(client, "POST", self._url, order.as_json().encode(), {"Content-Type": "application/json"})
        return f"{self.whom} was told."
