"""How the page looks and is used: both schemes, a phone, the keyboard, a screen reader, a key at the door."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.service_process import ServiceProcess, running_service
from tests.web.browser import watched_page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PHONE = {"width": 360, "height": 740}
TEXTS = ("text", "text-quiet", "amber", "bad", "good")
SURFACES = ("ground", "surface", "raised")
PAIRS = [(text, surface) for text in TEXTS for surface in SURFACES]
PAIRS += [("on-lamp", "lamp"), ("text", "amber-ground"), ("text", "bad-ground"), ("bad", "bad-ground")]


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with some jobs that wait, one of them with a very long word."""
    with running_service(tmp_path_factory.mktemp("looks"), "--no-worker") as service:
        with httpx.Client(base_url=service.url) as client:
            for prompt in ("a small green star", "w" * 400, "a red circle " * 30):
                client.post("/v1/jobs", json={"params": {"prompt": prompt}})
            client.post(f"/v1/jobs/{long_job(service)}/cancel")
        yield service


def long_job(service: ServiceProcess) -> str:
    jobs = httpx.get(f"{service.url}/v1/jobs").json()["jobs"]
    return str(next(job["id"] for job in jobs if job["params"]["prompt"].startswith("www")))


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, by WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, by WCAG 2.2."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_can_be_read_in_both_schemes(browser: Browser, service: ServiceProcess, scheme: str) -> None:
    with watched_page(browser, service.url, color_scheme=scheme) as watched:
        page = watched.open()
        read = "names => names.map((n) => getComputedStyle(document.documentElement).getPropertyValue(`--${n}`))"
        names = sorted({name for pair in PAIRS for name in pair})
        colours = dict(zip(names, page.evaluate(read, names), strict=True))
        poor = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in PAIRS}
        assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        levels = [int(part) for part in ground[4:-1].split(",")]
        assert max(levels) < 40 if scheme == "dark" else min(levels) > 215
        watched.check()


def test_nothing_is_wider_than_a_phone(browser: Browser, service: ServiceProcess) -> None:
    with watched_page(browser, service.url, viewport=PHONE) as watched:
        page = watched.open()
        page.get_by_text("Options").click()
        page.get_by_role("button", name="All", exact=True).click()
        expect(page.locator("#gallery > li")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.goto(f"{service.url}/#/jobs/{long_job(service)}")
        expect(page.locator(".events > li")).to_have_count(2)
        page.locator(".events summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        watched.check()


def test_a_finger_can_hit_every_control_of_a_phone(browser: Browser, service: ServiceProcess) -> None:
    with watched_page(browser, service.url, viewport=PHONE, has_touch=True) as watched:
        page = watched.open()
        small = page.locator("button:visible, input:visible, select:visible").evaluate_all(
            """controls => controls
                .map((control) => [control.textContent || control.id, control.getBoundingClientRect()])
                .filter(([, { width, height }]) => width < 24 || height < 36)
                .map(([name]) => name)"""
        )
        assert small == []  # WCAG 2.2 asks for 24 px, a thumb for more


def test_everything_is_reached_and_named_by_keyboard(browser: Browser, service: ServiceProcess) -> None:
    with watched_page(browser, service.url) as watched:
        page = watched.open()
        expect(page.locator("#rows [data-job]")).to_have_count(2)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the queue")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Queue")).to_be_focused()
        assert page.evaluate("location.hash") == ""
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.getAttribute('aria-label') ?? "
                                         "document.activeElement.textContent.trim() ?? ''"))  # fmt: skip
        assert reached[0] == "Pause"
        assert "a small green star" in reached
        assert "Cancel: a small green star" in reached
        unnamed = page.locator("button:visible, a:visible, input:visible, select:visible, textarea:visible")
        for control in unnamed.all():
            expect(control).to_have_accessible_name(re.compile(r"\S"))


def test_the_focus_stays_where_the_keyboard_was(browser: Browser, service: ServiceProcess) -> None:
    with watched_page(browser, service.url) as watched, httpx.Client(base_url=service.url) as client:
        client.post("/v1/jobs", json={"params": {"prompt": "soon gone"}})
        page = watched.open()
        page.get_by_role("button", name="Pause").press("Enter")
        expect(page.get_by_role("button", name="Resume")).to_be_focused()
        page.get_by_role("button", name="Resume").press("Enter")
        expect(page.get_by_role("button", name="Pause")).to_be_focused()
        page.get_by_role("button", name="Cancel: soon gone").press("Enter")
        expect(page.get_by_role("table", name="Waiting")).to_be_focused()
        page.get_by_role("button", name="Cancelled").click()
        page.get_by_role("button", name="Retry: soon gone").press("Enter")
        expect(page.get_by_role("heading", name="Results")).to_be_focused()
        page.get_by_role("button", name="Cancel: soon gone").press("Enter")
        watched.check()


def test_the_line_is_a_table_to_a_screen_reader(browser: Browser, service: ServiceProcess) -> None:
    with watched_page(browser, service.url) as watched:
        page = watched.open()
        table = page.get_by_role("table", name="Waiting")
        expect(table).to_have_attribute("aria-rowcount", "3")
        expect(table.get_by_role("columnheader")).to_have_text(["Place", "Job", "Model", "Ready", "Actions"])
        expect(table.get_by_role("row").nth(1).get_by_role("cell")).to_have_count(5)
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        expect(page.get_by_text("No worker is connected")).to_be_visible()


def test_a_job_that_is_not_there_is_said_to_be_so(browser: Browser, service: ServiceProcess) -> None:
    with watched_page(browser, service.url) as watched:
        page = watched.open("/#/jobs/nobody")
        expect(page.get_by_role("heading", level=1)).to_have_text("There is no such job")
        page.get_by_role("link", name="All jobs").click()
        expect(page.get_by_role("heading", name="Queue")).to_be_visible()
        watched.check(allowed=("404",))


def test_an_ended_job_of_ones_own_is_announced(browser: Browser, service: ServiceProcess) -> None:
    with watched_page(browser, service.url) as watched, httpx.Client(base_url=service.url) as client:
        page = watched.open()
        page.get_by_label("What should it show?").fill("mine to hear of")
        page.get_by_role("button", name="Submit", exact=True).click()
        row = page.locator("#rows [data-job]").filter(has_text="mine to hear of")
        expect(row).to_be_visible()
        client.post(f"/v1/jobs/{row.get_attribute('data-job')}/cancel")
        expect(page.locator("#announcer")).to_contain_text("mine to hear of was cancelled")
        watched.check()


def test_whoever_looks_elsewhere_is_notified_of_the_end_of_their_own_job(
    browser: Browser, service: ServiceProcess
) -> None:
    shown = """
        window.shown = [];
        window.Notification = class {
            static permission = "default";
            static requestPermission = async () => (Notification.permission = "granted");
            constructor(text, { body }) { window.shown.push([text, body]); }
        };
        document.hasFocus = () => false;
    """
    with watched_page(browser, service.url) as watched, httpx.Client(base_url=service.url) as client:
        watched.page.add_init_script(shown)  # a system's own notifications cannot be seen from a test
        page = watched.open()
        page.get_by_role("button", name="Notify me").click()
        expect(page.get_by_role("button", name="Notify me")).to_be_hidden()
        client.post("/v1/jobs", json={"params": {"prompt": "of somebody else"}})
        page.get_by_label("What should it show?").fill("of mine")
        page.get_by_role("button", name="Submit", exact=True).click()
        for prompt in ("of somebody else", "of mine"):
            page.get_by_role("button", name=f"Cancel: {prompt}").click()
            expect(page.get_by_role("button", name=f"Cancel: {prompt}")).to_have_count(0)
        assert page.evaluate("window.shown") == [["Your job was cancelled", "of mine"]]
        watched.check()


def test_a_service_with_keys_is_entered_with_one_and_left_again(browser: Browser, tmp_path: Path) -> None:
    with running_service(tmp_path, "--no-worker") as service:
        made = httpx.post(f"{service.url}/v1/keys", json={"name": "ann", "scopes": ["operator"]})
        key = made.json()["key"]
    service.log_file.unlink()  # the address is read from it
    # 127.0.0.2 reaches this machine only, and is none of the names that need no key.
    with (
        running_service(tmp_path, "--no-worker", "--host", "127.0.0.2") as service,
        watched_page(browser, service.url) as watched,
    ):
        page = watched.page
        page.goto(service.url)
        field = page.get_by_label("Key", exact=True)
        expect(field).to_be_focused()
        expect(page.locator("#board")).to_be_hidden()
        field.fill("safelight_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="that key opens nothing")).to_be_visible()
        field.fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("The queue default is paused")).to_be_visible()
        assert key not in page.evaluate("document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })")
        page.get_by_role("button", name="Log out").click()
        expect(field).to_be_visible()
        watched.check(allowed=("401",))
