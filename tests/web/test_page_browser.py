"""The tests of the page where there is no Chromium: skipped with a hint, but never under CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web import browser


def test_without_chromium_a_test_is_skipped_and_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "CHROMIUM", Path("/nowhere/chromium"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Debian package chromium"), browser.running_chromium():
        pass


def test_under_ci_a_missing_chromium_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "CHROMIUM", Path("/nowhere/chromium"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="Debian package chromium"), browser.running_chromium():
        pass
