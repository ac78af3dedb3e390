"""A real Chromium for the tests of the page, and a page in it that notes everything it should not have done.

Where Chromium is missing its tests are skipped, except under CI=true: there they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",  # the tests may run as root, which its sandbox refuses
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000

expect.set_options(timeout=PATIENCE_MS)

_NOTE_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Chromium without a window. Sync Playwright keeps an event loop: close it before a test starts another."""
    if not CHROMIUM.exists():
        reason = f"needs {CHROMIUM}, from the Debian package chromium: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page and what went wrong in it: errors on its console, policy violations, requests to elsewhere."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.sockets: list[str] = []
        page.add_init_script(_NOTE_VIOLATIONS)
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: self.sockets.append(socket.url))

    def open(self, path: str = "/") -> Page:
        """Go there and wait until the page is live."""
        self.page.goto(self.url + path)
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "live")
        return self.page

    def check(self, *, allowed: tuple[str, ...] = ()) -> None:
        """Fail if the page did anything it should not; `allowed` are parts of error messages that were meant."""
        unexpected = [error for error in self.errors if not any(part in error for part in allowed)]
        assert unexpected == []
        assert self.page.evaluate("window.violations") == []
        assert self.elsewhere == []

    def _note(self, url: str) -> None:
        if not url.startswith((f"{self.url}/", f"blob:{self.url}/", "data:")):
            self.elsewhere.append(url)


@contextmanager
def watched_page(browser: Browser, url: str, **context: Any) -> Iterator[Watched]:
    """A page in a context of its own; `context` are options such as color_scheme and viewport."""
    opened = browser.new_context(**context)
    try:
        yield Watched(opened.new_page(), url)
    finally:
        opened.close()
