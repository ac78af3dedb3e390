"""What the tests of the page share: one Chromium a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium; the tests that ask for it are skipped where there is none."""
    from tests.web.browser import running_chromium

    with running_chromium() as browser:
        yield browser
