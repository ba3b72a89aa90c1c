"""A real browser on the page, watched: nothing it asks for may leave the server, and nothing it says be an error."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from ringwatch.publish.orders import Ask, Orders
from ringwatch.publish.web import WebPublisher
from tests.publish.conftest import other_results, results  # noqa: F401 - fixtures
from tests.service.conftest import simulated  # noqa: F401 - a fixture

TOKEN = "0123456789abcdef"  # noqa: S105 - of these tests only
WAIT_MS, POLL_MS = 8000, 50
OUR_DOING = ("ERR_CONNECTION_REFUSED", "getImageData")
"""What a browser writes to the console while nobody answers, and when a test reads pixels."""


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """One browser for all tests; it is Debian's, none is ever downloaded."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is absent: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install playwright")
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []  # its sandbox refuses root
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Window:
    """A tab of the browser, and what it asked for and complained about."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self._context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        self.page = self._context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.url = url
        self.page.goto(url)

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def text(self, name: str) -> str:
        """What stands in the element of this id."""
        return str(self.page.text_content(f"#{name}")).replace("\u00a0", " ")

    def wait_for(self, condition: str) -> None:
        """Until a condition in JavaScript holds. (Playwright's own way evaluates text in the page: forbidden there.)"""
        for _ in range(WAIT_MS // POLL_MS):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(POLL_MS)
        pytest.fail(f"waited in vain for {condition}")

    def chips(self) -> dict[str, bool]:
        """Text of each chip, and whether it is red."""
        found = self.page.eval_on_selector_all("#chips li", "all => all.map(one => [one.textContent, one.className])")
        return {text: "bad" in classes for text, classes in found}

    def close(self) -> list[str]:
        self._context.close()
        return [url for url in self.requested if urlsplit(url)[:2] != urlsplit(self.url)[:2]]


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Window]]:
    """Opens pages, and at the end sees whether they behaved."""
    windows: list[Window] = []

    def made(url: str, **options: Any) -> Window:
        windows.append(Window(chromium, url, **options))
        return windows[-1]

    yield made
    strayed = [url for window in windows for url in window.close()]
    assert not strayed, f"requests left the server: {strayed}"
    heard = [text for window in windows for text in window.complaints]
    complaints = [text for text in heard if not any(ours in text for ours in OUR_DOING)]
    assert not complaints, f"the browser complained: {complaints}"


@pytest.fixture
def asked() -> list[tuple[str, object]]:
    """What was asked for by hand, in order."""
    return []


@pytest.fixture
def orders(asked: list[tuple[str, object]]) -> Orders:
    def taken(name: str) -> Ask:
        def do(facts: Any) -> str:
            asked.append((name, dict(facts)))
            return f"Done: {name}."

        return Ask(do, frozenset({"sample"}))

    return Orders({name: taken(name) for name in ("token", "stop", "hold", "sample")}, TOKEN)


@pytest.fixture
def web(clock: Any, orders: Orders) -> Iterator[WebPublisher]:
    """A server without a daemon: it shows what a test publishes."""
    web = WebPublisher("127.0.0.1:0", clock, list, orders)
    web.open()
    yield web
    web.close()
