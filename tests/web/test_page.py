"""The page in a real Chromium, over the whole service: submit, watch, cancel, retry, pause, and come back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from service.worker import encoding
from tests.service_process import ServiceProcess, running_service, wait_for
from tests.web.browser import Watched, watched_page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

LONG: dict[str, Any] = {"task": "pretend", "params": {"steps": 600, "step_s": 0.1}}


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("page")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


@pytest.fixture
def watched(browser: Browser, service: ServiceProcess) -> Iterator[Watched]:
    with watched_page(browser, service.url) as watched:
        yield watched


def submit(client: httpx.Client, body: dict[str, Any]) -> str:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job: str = answer.json()["id"]
    return job


def of_job(page: Page, where: str, job: str) -> Locator:
    return page.locator(f'{where} [data-job="{job}"]')


def choose_results(page: Page, name: str) -> None:
    page.get_by_role("group", name="Which results").get_by_role("button", name=name).click()


def test_a_job_goes_from_the_form_over_its_preview_to_its_picture_without_a_reload(
    watched: Watched, client: httpx.Client
) -> None:
    client.post("/v1/queues/default/pause")
    page = watched.open()
    page.evaluate("window.sameDocument = true")
    page.get_by_label("What should it show?").fill("a large red circle on a blue background")
    page.get_by_text("Options").click()
    page.get_by_label("Steps", exact=True).fill("150")
    page.get_by_role("button", name="Submit", exact=True).click()
    row = page.locator("#rows").get_by_role("row").filter(has_text="a large red circle")
    expect(row).to_be_visible()
    job = row.get_attribute("data-job") or ""

    page.get_by_role("button", name="Resume").click()
    card = of_job(page, "#running", job)
    expect(card).to_contain_text("of 150")
    preview = card.get_by_role("img", name="Preview: a large red circle")
    expect(preview).to_have_attribute("src", re.compile("^blob:"))
    wait_for(lambda: preview.count() == 0 or preview.evaluate("image => image.naturalWidth") > 0, 30, "a preview")
    expect(card.get_by_role("progressbar")).to_have_attribute("max", "150")

    tile = of_job(page, "#gallery", job)
    expect(tile).to_be_visible()
    expect(card).to_have_count(0)
    expect(row).to_have_count(0)
    picture = tile.get_by_role("img")
    wait_for(lambda: picture.evaluate("image => image.naturalWidth") == 512, 30, "the picture to load")
    assert page.evaluate("window.sameDocument")
    watched.check()


def test_a_job_page_tells_the_whole_course_of_its_job(watched: Watched, client: httpx.Client) -> None:
    body = {"params": {"prompt": "a small green star on a white background", "steps": 4, "seed": 11}}
    job = submit(client, body)
    page = watched.open()
    of_job(page, "#gallery", job).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("a small green star on a white background")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    events = client.get(f"/v1/jobs/{job}/events").json()["events"]
    shown = page.locator(".events > li")
    expect(shown).to_have_count(len(events))
    assert [item.get_attribute("data-type") for item in shown.all()] == [event["type"] for event in events]
    expect(page.locator(".parameters")).to_contain_text("11")
    expect(page.locator(".files a[download]")).to_have_attribute(
        "href", client.get(f"/v1/jobs/{job}").json()["artifacts"][0]["url"]
    )
    page.get_by_role("link", name="All jobs").click()
    expect(of_job(page, "#gallery", job).get_by_role("link")).to_be_focused()
    watched.check()


def test_an_open_job_page_follows_its_job_to_the_picture(watched: Watched, client: httpx.Client) -> None:
    client.post("/v1/queues/default/pause")
    job = submit(client, {"params": {"prompt": "a large purple cross on a white background", "steps": 150}})
    page = watched.open(f"/#/jobs/{job}")
    status = page.locator(".job-state .status")
    expect(status).to_have_text("Queued")
    client.post("/v1/queues/default/resume")
    expect(status).to_have_text("Running")
    expect(page.get_by_role("img", name="Preview: a large purple cross")).to_be_visible()
    expect(status).to_have_text("Completed")
    picture = page.locator(".picture img:not(.preview)")
    wait_for(lambda: picture.evaluate("image => image.naturalWidth") == 512, 30, "the picture to load")
    expect(page.locator('.events [data-type="job-completed"]')).to_be_visible()
    expect(page.locator("#announcer")).to_have_text("a large purple cross on a white background: completed")
    watched.check()


def test_a_running_job_is_cancelled_from_its_card(watched: Watched, client: httpx.Client) -> None:
    job = submit(client, LONG)
    page = watched.open()
    card = of_job(page, "#running", job)
    expect(card).to_contain_text("of 600")
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_have_count(0)
    choose_results(page, "Cancelled")
    expect(of_job(page, "#gallery", job)).to_be_visible()
    watched.check()


def test_a_waiting_job_is_cancelled_from_its_row(watched: Watched, client: httpx.Client) -> None:
    client.post("/v1/queues/default/pause")
    kept, ended = submit(client, LONG), submit(client, {"params": {"prompt": "never mind"}})
    page = watched.open()
    of_job(page, "#rows", ended).get_by_role("button", name="Cancel: never mind").click()
    expect(of_job(page, "#rows", ended)).to_have_count(0)
    expect(of_job(page, "#rows", kept)).to_be_visible()
    assert client.get(f"/v1/jobs/{ended}").json()["status"] == "cancelled"
    client.post(f"/v1/jobs/{kept}/cancel")
    client.post("/v1/queues/default/resume")
    watched.check()


def test_a_failed_job_says_why_and_is_retried_live(watched: Watched, client: httpx.Client) -> None:
    job = submit(client, {"task": "pretend", "params": {"outcome": "failed"}})
    page = watched.open()
    choose_results(page, "Failed")
    of_job(page, "#gallery", job).get_by_role("link").click()
    expect(page.get_by_role("heading", name="Why it failed")).to_be_visible()
    expect(page.locator(".attempts > ol > li")).to_have_count(2)  # an internal error is tried again once
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".attempts > ol > li")).to_have_count(4)
    expect(page.locator('.events [data-type="job-retried"]')).to_have_count(1)
    expect(page.locator('.events [data-type="job-failed"]')).to_have_count(2)
    watched.check()


def test_submit_again_takes_over_what_the_job_had(watched: Watched, client: httpx.Client) -> None:
    body = {"params": {"prompt": "a large blue ring on a white background", "steps": 3, "seed": 77}, "priority": 60}
    job = submit(client, body)
    page = watched.open(f"/#/jobs/{job}")
    page.get_by_role("button", name="Submit again with changes").click()
    expect(page.get_by_label("What should it show?")).to_have_value("a large blue ring on a white background")
    expect(page.get_by_label("Seed")).to_have_value("77")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("3")
    expect(page.get_by_label("Priority")).to_have_value("60")
    watched.check()


def test_submit_again_asks_for_what_the_job_was_not_for_the_models_first_task(
    watched: Watched, client: httpx.Client
) -> None:
    png = {"Content-Type": "image/png"}
    picture = client.post(
        "/v1/artifacts", content=encoding.png(np.zeros((8, 8, 3), np.uint8), {}), headers=png
    ).json()
    params = {"prompt": "a large red star on a black background", "image": picture["digest"], "steps": 3}
    job = submit(client, {"task": "image-to-image", "params": params, "hold": True})
    page = watched.open(f"/#/jobs/{job}")
    page.get_by_role("button", name="Submit again with changes").click()
    expect(page.get_by_label("Image")).to_have_value(picture["digest"])
    page.get_by_role("button", name="Submit", exact=True).click()
    found = {"task": "image-to-image", "status": ["queued", "running", "completed"]}
    wait_for(lambda: client.get("/v1/jobs", params=found).json()["jobs"], 30, "the second job")
    expect(page.get_by_label("Image")).to_have_count(0)
    client.post(f"/v1/jobs/{job}/cancel")
    watched.check()


def test_a_paused_queue_says_so_and_goes_on_when_it_is_resumed(watched: Watched, client: httpx.Client) -> None:
    page = watched.open()
    page.get_by_role("button", name="Pause").click()
    banner = page.get_by_text("The queue default is paused")
    expect(banner).to_be_visible()
    job = submit(client, {"task": "pretend", "params": {}})
    expect(of_job(page, "#rows", job)).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(banner).to_have_count(0)
    expect(of_job(page, "#gallery", job)).to_be_visible()
    watched.check()


def test_what_the_service_refuses_is_shown_at_its_field(watched: Watched, client: httpx.Client) -> None:
    page = watched.open()
    page.get_by_role("button", name="Submit", exact=True).click()
    prompt = page.get_by_label("What should it show?")
    expect(prompt).to_have_attribute("aria-invalid", "true")
    expect(prompt).to_be_focused()
    prompt.fill("a star")
    page.get_by_text("Options").click()
    steps = page.get_by_label("Steps", exact=True)
    steps.fill("999")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(steps).to_have_attribute("aria-invalid", "true")
    expect(steps).to_be_focused()
    expect(steps).to_have_accessible_description(re.compile("999 is not accepted.*150"))
    expect(prompt).not_to_have_attribute("aria-invalid", "true")
    steps.fill("2")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Submitted:")).to_be_visible()
    expect(steps).not_to_have_attribute("aria-invalid", "true")
    watched.check(allowed=("422",))


def test_markup_in_a_prompt_stays_text(watched: Watched, client: httpx.Client) -> None:
    prompt = "<img src=x onerror='window.ran=1'><script>window.ran=1</script><b>bold</b>"
    client.post("/v1/queues/default/pause")
    job = submit(client, {"params": {"prompt": prompt, "steps": 1}})
    page = watched.open()
    expect(of_job(page, "#rows", job)).to_contain_text(prompt)
    client.post("/v1/queues/default/resume")
    tile = of_job(page, "#gallery", job)
    expect(tile).to_contain_text(prompt)
    tile.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(prompt)
    assert page.locator("main b, main script").count() == 0
    assert page.evaluate("window.ran") is None
    watched.check()


def test_a_page_goes_on_where_it_was_after_the_service_was_killed(browser: Browser, tmp_path: Path) -> None:
    with (
        running_service(tmp_path, "--no-worker") as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
        watched_page(browser, service.url) as watched,
    ):
        before = [submit(client, {"params": {"prompt": f"before {n}"}}) for n in range(3)]
        page = watched.open()
        page.evaluate("window.sameDocument = true")
        expect(page.locator("#rows [data-job]")).to_have_count(3)
        service.kill()
        expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
        expect(page.get_by_text("This is how things stood")).to_be_visible()
        service.restart()
        client.post(f"/v1/jobs/{before[0]}/cancel")
        after = submit(client, {"params": {"prompt": "after"}})
        expect(of_job(page, "#rows", after)).to_be_visible()
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        shown = page.locator("#rows [data-job]")
        expect(shown).to_have_count(3)
        assert [row.get_attribute("data-job") for row in shown.all()] == [*before[1:], after]
        assert page.evaluate("window.sameDocument")
        assert "after=" not in watched.sockets[0]
        assert "after=" in watched.sockets[-1]  # resumed, not begun anew
        watched.check(allowed=("ERR_CONNECTION", "WebSocket"))


def test_a_job_opened_while_the_service_was_away_is_whole_when_it_is_back(browser: Browser, tmp_path: Path) -> None:
    with running_service(tmp_path, "--no-worker") as service, watched_page(browser, service.url) as watched:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            job = submit(client, {"params": {"prompt": "opened too early"}})
        page = watched.open()
        service.kill()
        expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
        of_job(page, "#rows", job).get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("opened too early|cannot be shown"))
        service.restart()
        expect(page.locator(".events > li")).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_text("opened too early")
        watched.check(allowed=("ERR_CONNECTION", "WebSocket"))


def test_a_page_forgets_everything_when_the_log_is_another_one(browser: Browser, tmp_path: Path) -> None:
    with running_service(tmp_path, "--no-worker") as service, watched_page(browser, service.url) as watched:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            gone = submit(client, {"params": {"prompt": "of the old log"}})
        page = watched.open()
        expect(of_job(page, "#rows", gone)).to_be_visible()
        service.kill()
        shutil.rmtree(service.data)
        service.restart()
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        expect(of_job(page, "#rows", gone)).to_have_count(0)
        expect(page.get_by_text("Nothing runs and nothing waits.")).to_be_visible()
        watched.check(allowed=("ERR_CONNECTION", "WebSocket"))


def test_two_pages_show_the_same_and_one_submission_is_one_job(
    browser: Browser, service: ServiceProcess, watched: Watched, client: httpx.Client
) -> None:
    client.post("/v1/queues/default/pause")
    page = watched.open()
    with watched_page(browser, service.url, color_scheme="light") as other:
        second = other.open()
        page.get_by_label("What should it show?").fill("seen by two")
        # The answer is lost on the way back: the same click again must not make a second job.
        page.route("**/v1/jobs", lambda route: (route.fetch(), route.abort()), times=1)
        button = page.get_by_role("button", name="Submit", exact=True)
        button.click()
        expect(page.get_by_text("The service does not answer")).to_be_visible()
        button.click()
        expect(page.get_by_text("Submitted:")).to_be_visible()
        for shown in (page, second):
            expect(shown.locator("#rows [data-job]").filter(has_text="seen by two")).to_have_count(1)
        other.check()
    client.post("/v1/queues/default/resume")
    watched.check(allowed=("ERR_FAILED",))


def test_a_job_that_no_worker_can_run_is_explained(browser: Browser, tmp_path: Path) -> None:
    with (
        running_service(tmp_path, "--worker-model", "pretend") as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
        watched_page(browser, service.url) as watched,
    ):
        page = watched.open()
        expect(page.locator("#workers")).to_contain_text("ready")
        job = submit(client, {"params": {"prompt": "nobody can"}})
        expect(
            page.get_by_text("No worker can run 1 waiting job: no worker can run task text-to-image")
        ).to_be_visible()
        client.post(f"/v1/jobs/{job}/cancel")
        expect(page.get_by_text("No worker can run")).to_have_count(0)
        watched.check()
