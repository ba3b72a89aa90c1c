"""One HTTP exchange with somebody who is not trusted: bounded in time and bytes, no redirects, no proxies."""

import time
from collections.abc import Mapping

import httpx2

from ringwatch.errors import ControlError, NoAnswer

LARGEST_ANSWER_BYTES = 1 << 16
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "ringwatch"}


def open_client(url: str, timeout_s: float) -> httpx2.Client:
    """A connection of its own to whoever ``url`` names; ``timeout_s`` is the longest wait for each answer."""
    is_https = url.startswith("https:")  # to load certificates takes longer than to stop a detector
    return httpx2.Client(verify=is_https, timeout=timeout_s, headers=_HEADERS, follow_redirects=False, trust_env=False)


def exchange(
    client: httpx2.Client, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Ask once; the body of an answer of 200 to 299.

    Raises
    ------
    ControlError
        Not reached, another status, or more than 64 KiB.
    NoAnswer
        Not in time.
    """
    try:
        with client.stream(method, url, content=body, headers=headers) as answer:
            if not answer.is_success:
                raise ControlError(f"{url} answered {answer.status_code}")
            return _read(answer, time.monotonic() + (client.timeout.read or 0.0))
    except httpx2.TimeoutException as error:
        raise NoAnswer(f"{url} did not answer in time") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ControlError(f"{url} could not be reached: {error or type(error).__name__}") from error


def _read(answer: httpx2.Response, deadline_s: float) -> bytes:
    """What was sent, never unpacked: a few bytes could become gigabytes."""
    body = bytearray()
    for part in answer.iter_raw():
        body += part
        if len(body) > LARGEST_ANSWER_BYTES:
            raise ControlError(f"{answer.url} answered with more than {LARGEST_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline_s:
            raise NoAnswer(f"{answer.url} did not answer in time")
    return bytes(body)
