"""The page with very many jobs: a waiting line of two thousand, and more results than a snapshot holds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service_process import ServiceProcess, running_service, wait_for
from tests.web.browser import watched_page
from web.browser_socket import SNAPSHOT_FINISHED

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

WAITING = 2_000
CANCELLED = SNAPSHOT_FINISHED + 30


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A paused service with WAITING jobs in line that its worker could run, and CANCELLED cancelled ones."""
    with running_service(tmp_path_factory.mktemp("many")) as service:
        with httpx.Client(base_url=service.url, timeout=60) as client, ThreadPoolExecutor(8) as pool:
            client.post("/v1/queues/default/pause")
            wait_for(lambda: client.get("/v1/workers").json()["workers"], 60, "the worker", service.log)

            def submit(number: int) -> Any:
                return client.post("/v1/jobs", json={"params": {"prompt": f"picture {number}"}}).json()["id"]

            ids = list(pool.map(submit, range(WAITING + CANCELLED)))
            list(pool.map(lambda job: client.post(f"/v1/jobs/{job}/cancel"), ids[WAITING:]))
        yield service


@pytest.fixture
def page(browser: Browser, service: ServiceProcess) -> Iterator[Page]:
    with watched_page(browser, service.url) as watched:
        yield watched.open()
        watched.check()


def scroll_rows(page: Page, top_px: int) -> None:
    page.locator("#rows").evaluate("(rows, top) => { rows.scrollTop = top; }", top_px)


def test_two_thousand_waiting_jobs_cost_as_many_nodes_as_can_be_seen(page: Page) -> None:
    rows = page.locator("#rows")
    expect(rows).to_have_attribute("aria-rowcount", str(WAITING + 1))
    expect(rows.get_by_role("row").nth(1)).to_have_attribute("aria-rowindex", "2")
    assert rows.locator("[data-job]").count() < 40
    assert page.evaluate("document.querySelectorAll('*').length") < 1_000


def test_every_waiting_job_can_be_scrolled_to(page: Page) -> None:
    rows = page.locator("#rows")
    height = rows.evaluate("rows => rows.scrollHeight")
    assert height > WAITING * 40
    scroll_rows(page, height)
    last = rows.locator(f'[aria-rowindex="{WAITING + 1}"]')
    expect(last).to_be_in_viewport()
    expect(last.locator(".place")).to_have_text(str(WAITING))
    shown = [int(row.get_attribute("aria-rowindex") or 0) for row in rows.locator("[data-job]").all()]
    assert shown == sorted(shown)  # the order of Tab and of a screen reader
    assert len(shown) < 40


def test_the_focus_never_passes_from_one_job_to_another(page: Page) -> None:
    button = page.locator("#rows [data-job]").first.get_by_role("button", name="Cancel")
    button.focus()
    scroll_rows(page, 20_000)
    expect(page.locator("#rows")).to_be_focused()
    assert page.evaluate("document.activeElement.id") == "rows"


def test_the_filter_finds_a_waiting_job_that_is_out_of_sight(page: Page, service: ServiceProcess) -> None:
    page.get_by_label("Filter the waiting jobs").fill("picture 1234")
    found = page.locator("#rows [data-job]")
    expect(found).to_have_count(1)
    place = int(found.locator(".place").inner_text())
    job = found.get_attribute("data-job")
    with httpx.Client(base_url=service.url) as client:
        assert client.get(f"/v1/jobs/{job}").json()["rank"] == place
    page.get_by_label("Filter the waiting jobs").fill("no such picture")
    expect(page.get_by_text("No waiting job matches.")).to_be_visible()


def test_show_more_reaches_every_result_once(page: Page) -> None:
    page.get_by_role("button", name="Cancelled").click()
    tiles, more = page.locator("#gallery > li"), page.get_by_role("button", name="Show more")
    expect(tiles).to_have_count(24)

    def press() -> bool:
        if more.is_visible():
            more.click()
        return tiles.count() == CANCELLED

    wait_for(press, 60, "every tile")
    expect(more).to_be_hidden()
    ids = tiles.evaluate_all("items => items.map((item) => item.dataset.job)")
    assert len(set(ids)) == CANCELLED


def test_frames_stay_short_while_two_thousand_jobs_are_scrolled(page: Page) -> None:
    """The bar of docs/page.md: 8 ms of main thread a frame, by the thread's own clock, so that others' load
    does not count."""
    scrolled = """() => new Promise((done) => {
        const rows = document.getElementById("rows");
        let frames = 0;
        requestAnimationFrame(function frame() {
            rows.scrollTop += 40;
            if (++frames < 120) requestAnimationFrame(frame);
            else done(frames);
        });
    })"""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def task_s() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    before = task_s()
    frames = page.evaluate(scrolled)
    assert (task_s() - before) * 1000 / frames < 8
