"""A simulated measurement on the live page in, docs/images/page-*.png out: light, dark, and on a phone.

Needs Debian's chromium on the PATH. Usage: python tools/screenshots.py [FOLDER]
"""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from ringwatch.config import Config
from ringwatch.service.daemon import Daemon
from ringwatch.stream.powder import TUTORIAL
from ringwatch.stream.sender import Sender
from ringwatch.stream.simulator import simulate

FRAMES, RATE_HZ, DISTINCT = 2000, 5, 150
LOOK_AT_FRAME, TARGET = 25, 0.02
POWDER = replace(TUTORIAL, grain_lifetime_frames=1.0)
VIEWS = {
    "page-light": {"color_scheme": "light", "viewport": {"width": 1920, "height": 1080}},
    "page-dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "page-phone": {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
}
PATIENCE_MS = 120_000
SETTLED_MS = 6_000
"""An image comes every 5 s."""


@contextmanager
def measuring() -> Iterator[str]:
    """A daemon that reduces a simulated series; where its page is."""
    with tempfile.TemporaryDirectory() as scratch:
        stop = threading.Event()
        sender = Sender(f"ipc://{scratch}/detector", stop=stop)
        daemon = Daemon(configuration(scratch))
        daemon.prepare()
        daemon.start()
        words: dict[str, Any] = {"rate_hz": RATE_HZ, "distinct": DISTINCT}
        detector = threading.Thread(target=simulate, args=(sender, POWDER, FRAMES), kwargs=words)
        detector.start()
        try:
            yield daemon.web.url
        finally:
            stop.set()
            detector.join()
            daemon.stop()
            sender.close()


def configuration(scratch: str) -> Config:
    """What the daemon does."""
    poni = Path(scratch, "simulated.poni")
    poni.write_text(POWDER.poni())
    return Config.from_mapping(
        {
            "stream": {"endpoint": f"ipc://{scratch}/detector"},
            "geometry": {"poni": str(poni)},
            "publish": {"zmq": {"bind": "tcp://127.0.0.1:0"}},
            "web": {"bind": "127.0.0.1:0", "token": "only-for-this-picture"},
            "stop": {"metric": "spottiness_rings", "target": TARGET},
        }
    )


def take(browser: Any, url: str, folder: Path) -> None:
    """Take all pictures of a page that runs."""
    for name, options in VIEWS.items():
        page = browser.new_context(**options).new_page()
        page.goto(url)
        page.wait_for_selector(".has-image.has-profiles", timeout=PATIENCE_MS)
        while int(page.text_content("#frame").split()[0]) < LOOK_AT_FRAME:
            page.wait_for_timeout(SETTLED_MS / 10)
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=folder / f"{name}.png", full_page="phone" in name)
        page.close()


def main() -> int:
    """Take them."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []  # its sandbox refuses root
    with sync_playwright() as playwright, measuring() as url:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        take(browser, url, folder)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
