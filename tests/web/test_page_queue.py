"""The page's hands on the queue, in a real Chromium: hold, move, change, batches, deadlines, rules, quarantine."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.service_process import ServiceProcess, running_service, wait_for
from tests.web.browser import Watched, watched_page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PRETEND: dict[str, Any] = {"task": "pretend", "params": {"steps": 1}}


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("queue"), "--worker-model", "pretend") as service:
        wait_for(lambda: httpx.get(f"{service.url}/v1/workers").json()["workers"], 60, "the worker", service.log)
        yield service


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    """The service, paused and without waiting jobs."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        client.post("/v1/queues/default/pause")

        def is_empty() -> bool:
            body: dict[str, Any] = {"action": "cancel", "which": {}}
            found = client.post("/v1/jobs/bulk", json=body).json()["matched"]
            client.post("/v1/jobs/bulk", json={**body, "expected": found})
            return bool(found == 0)

        wait_for(is_empty, 30, "every job to have ended", service.log)
        client.put("/v1/queues/default", json={})
        client.post("/v1/queues/default/resume")  # which ends a drain, too
        client.post("/v1/queues/default/pause")
        yield client


@pytest.fixture
def watched(browser: Browser, service: ServiceProcess) -> Iterator[Watched]:
    with watched_page(browser, service.url) as watched:
        yield watched
        watched.check()


def submit(client: httpx.Client, **fields: Any) -> str:
    answer = client.post("/v1/jobs", json={**PRETEND, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def job_of(client: httpx.Client, job: str) -> Any:
    return client.get(f"/v1/jobs/{job}").json()


def row(page: Page, job: str) -> Locator:
    return page.locator(f'#rows [data-job="{job}"]')


def in_line(page: Page) -> list[str | None]:
    return [found.get_attribute("data-job") for found in page.locator("#rows [data-job]").all()]


def act(page: Page, job: str, name: str) -> None:
    """Choose from the menu of a row."""
    row(page, job).get_by_role("button", name="More actions").click()
    page.locator(".menu").get_by_role("button", name=name, exact=True).click()


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_job_is_held_and_released_from_its_row(watched: Watched, client: httpx.Client) -> None:
    job = submit(client)
    page = watched.open()
    expect(row(page, job).locator(".place")).to_have_text("1")
    act(page, job, "Hold")
    expect(row(page, job)).to_contain_text("held")
    expect(row(page, job).locator(".place")).to_have_text("–")
    assert job_of(client, job)["status"] == "held"
    act(page, job, "Release")
    expect(row(page, job)).not_to_contain_text("held")
    assert job_of(client, job)["status"] == "queued"


def test_a_job_is_moved_by_the_menu_and_by_the_keyboard(watched: Watched, client: httpx.Client) -> None:
    first, second, third = (submit(client) for _ in range(3))
    page = watched.open()
    act(page, third, "Run next")
    wait_for(lambda: in_line(page) == [third, first, second], 30, "the move")
    page.keyboard.press("Escape")
    more = row(page, third).get_by_role("button", name="More actions")
    more.focus()
    page.keyboard.press("Alt+ArrowDown")
    wait_for(lambda: in_line(page) == [first, third, second], 30, "the step down")
    expect(more).to_be_focused()
    page.keyboard.press("Alt+End")
    wait_for(lambda: in_line(page) == [first, second, third], 30, "the way to the end")
    expect(more).to_be_focused()
    assert [job_of(client, job)["rank"] for job in (first, second, third)] == [1, 2, 3]


def test_a_job_is_dragged_to_another_place(watched: Watched, client: httpx.Client) -> None:
    first, second, third = (submit(client) for _ in range(3))
    page = watched.open()
    row(page, third).drag_to(row(page, first), target_position={"x": 40, "y": 4})
    wait_for(lambda: in_line(page) == [third, first, second], 30, "the drop above the first")
    row(page, third).drag_to(row(page, second), target_position={"x": 40, "y": 40})
    wait_for(lambda: in_line(page) == [first, second, third], 30, "the drop below the last")
    expect(page.locator("[data-drop]")).to_have_count(0)


def test_a_waiting_job_is_changed(watched: Watched, client: httpx.Client) -> None:
    other, job = submit(client), submit(client, tags=["old"])
    page = watched.open()
    act(page, job, "Change…")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Tags")).to_have_value("old")
    dialog.get_by_label("Steps").fill("99999")
    dialog.get_by_label("Priority").fill("70")
    dialog.get_by_label("Tags").fill("new, wall")
    dialog.get_by_role("button", name="Change").click()
    expect(dialog.get_by_label("Steps")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Steps").fill("7")
    dialog.get_by_role("button", name="Change").click()
    expect(dialog).to_have_count(0)
    expect(row(page, job)).to_contain_text("priority 70")
    expect(row(page, job)).to_contain_text("wall")
    assert in_line(page) == [job, other]
    changed = job_of(client, job)
    assert (changed["params"]["steps"], changed["priority"], changed["tags"]) == (7, 70, ["new", "wall"])
    watched.errors[:] = [error for error in watched.errors if "422" not in error]  # the refusal that was meant


def test_a_failed_job_is_changed_and_goes_back_in_line(watched: Watched, client: httpx.Client) -> None:
    client.post("/v1/queues/default/resume")
    job = submit(client, params={"outcome": "failed"})
    wait_for(lambda: job_of(client, job)["status"] == "failed", 30, "the failure")
    page = watched.open(f"/#/jobs/{job}")
    page.get_by_role("button", name="Change and requeue…").click()
    page.get_by_role("dialog").get_by_label("Outcome").select_option("completed")
    page.get_by_role("dialog").get_by_role("button", name="Change and requeue").click()
    expect(page.locator(".job-state .status")).to_have_text("Completed")
    expect(page.locator('.events [data-type="job-edited"]')).to_have_count(1)
    expect(page.locator(".parameters")).to_contain_text("completed")


def test_a_batch_is_submitted_by_the_form_and_stopped_as_a_whole(watched: Watched, client: httpx.Client) -> None:
    page = watched.open()
    page.get_by_label("Model").select_option("pretend")
    page.get_by_text("When and how many").click()
    page.get_by_label("How many").fill("3")
    page.get_by_label("Tags").fill("wall")
    page.get_by_label("In the background").check()
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_text("Submitted: 3 jobs in one batch")).to_be_visible()
    rows = page.locator("#rows [data-job]")
    expect(rows).to_have_count(3)
    for shown in rows.all():
        expect(shown).to_contain_text(re.compile("background.*batch.*wall"))
    jobs = client.get("/v1/jobs?status=queued").json()["jobs"]
    assert {(job["background"], tuple(job["tags"]), job["batch"] is None) for job in jobs} == {
        (True, ("wall",), False)
    }
    act(page, jobs[0]["id"], "Stop its batch (3)")
    expect(rows).to_have_count(0)
    assert client.get(f"/v1/batches/{jobs[0]['batch']}").json()["counts"] == {"cancelled": 3}
    expect(page.locator("#announcer")).to_contain_text("pretend was cancelled")  # it is one's own


def test_a_job_waits_for_its_time_and_one_whose_deadline_passes_expires(
    watched: Watched, client: httpx.Client
) -> None:
    page = watched.open()
    scheduled = submit(client, not_before=soon(2))
    late = submit(client, start_deadline=soon(2))
    expect(row(page, scheduled)).to_contain_text("from ")
    expect(row(page, late).locator(".place")).to_have_text("1")
    expect(row(page, scheduled)).not_to_contain_text("from ")
    expect(row(page, late)).to_have_count(0)
    page.get_by_role("button", name="Expired").click()
    tile = page.locator(f'#gallery [data-job="{late}"]')
    expect(tile).to_contain_text("Expired: not started in time")
    tile.get_by_role("button", name="Retry").click()
    expect(row(page, late)).to_be_visible()


def test_the_form_holds_and_schedules(watched: Watched, client: httpx.Client) -> None:
    page = watched.open()
    page.get_by_label("Model").select_option("pretend")
    page.get_by_text("When and how many").click()
    page.get_by_label("Hold it").check()
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#rows [data-job]")).to_contain_text("held")
    page.get_by_label("Hold it").uncheck()
    page.get_by_label("Not before").fill("2027-06-01T12:00")
    page.get_by_label("Finish by").fill("2020-06-01T12:00")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_label("Finish by")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Finish by").fill("")
    page.get_by_label("Not before").fill((datetime.now() + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M"))
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#rows [data-job]").filter(has_text="from ")).to_have_count(1)
    watched.errors[:] = [error for error in watched.errors if "422" not in error]  # the refusal that was meant


def test_what_will_be_ready_when_is_said_and_kept_up_to_date(watched: Watched, client: httpx.Client) -> None:
    client.post("/v1/queues/default/resume")
    running = submit(client, params={"steps": 100, "step_s": 0.2})
    wait_for(lambda: job_of(client, running)["status"] == "running", 30, "the start")
    page = watched.open()
    job = submit(client, params={"steps": 20, "step_s": 0.2})
    expect(row(page, job).locator(".ready")).to_have_text(re.compile(r"about \d\d:\d\d"))
    client.post(f"/v1/jobs/{job}/hold")
    expect(row(page, job).locator(".ready")).to_have_text("")
    client.post(f"/v1/jobs/{job}/release")
    expect(row(page, job).locator(".ready")).to_have_text(re.compile("about"))
    client.post("/v1/queues/default/pause")
    expect(row(page, job).locator(".ready")).to_have_text("")
    client.post("/v1/queues/default/resume")
    expect(row(page, job).locator(".ready")).to_have_text(re.compile("about"))
    row(page, job).get_by_role("link").click()
    expect(page.locator(".job-state")).to_contain_text("number 1 in queue default")
    expect(page.locator(".job-state")).to_contain_text(re.compile(r"about \d\d:\d\d"))
    client.post(f"/v1/jobs/{running}/cancel")


def test_a_job_that_nobody_can_run_says_why_and_takes_no_place(watched: Watched, client: httpx.Client) -> None:
    blocked = submit(client, task="text-to-image", params={"prompt": "nobody can"})
    behind = submit(client)
    page = watched.open()
    expect(row(page, blocked)).to_contain_text("no worker")
    expect(row(page, blocked).locator(".place")).to_have_text("–")
    expect(row(page, behind).locator(".place")).to_have_text("1")
    row(page, blocked).get_by_role("link").click()
    why = job_of(client, blocked)["blocked"]
    expect(page.locator(".job-state")).to_contain_text(f"No worker can run this: {why}")


def test_many_jobs_are_cancelled_and_retried_by_a_filter_that_says_how_many(
    watched: Watched, client: httpx.Client
) -> None:
    tag = f"wall-{time.time_ns()}"
    for _ in range(3):
        submit(client, tags=[tag])
    kept = submit(client)
    page = watched.open()
    page.locator("#several").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel 4 jobs")).to_be_visible()
    dialog.get_by_label("Tag").fill(tag)
    expect(dialog.get_by_role("button", name="Cancel 3 jobs")).to_be_visible()
    late = submit(client, tags=[tag])
    dialog.get_by_role("button", name="Cancel 3 jobs").click()
    # There are more than was said: nothing is done but to say so.
    expect(dialog.get_by_role("button", name="Cancel 4 jobs")).to_be_visible()
    assert job_of(client, late)["status"] == "queued"
    dialog.get_by_role("button", name="Cancel 4 jobs").click()
    expect(dialog).to_have_count(0)
    expect(page.locator("#rows [data-job]")).to_have_count(1)
    assert in_line(page) == [kept]
    page.get_by_role("button", name="Cancelled").click()
    page.locator("#several-ended").click()
    dialog.get_by_label("Tag").fill(tag)
    dialog.get_by_role("button", name="Retry 4 jobs").click()
    expect(page.locator("#rows [data-job]")).to_have_count(5)
    watched.errors[:] = [error for error in watched.errors if "409" not in error]  # the refusal that was meant


def test_jobs_that_find_no_room_to_come_back_to_are_told_of(watched: Watched, client: httpx.Client) -> None:
    tag = f"wall-{time.time_ns()}"
    for job in [submit(client, tags=[tag]) for _ in range(3)]:
        client.post(f"/v1/jobs/{job}/cancel")
    client.put("/v1/queues/default", json={"capacity": 1})
    page = watched.open()
    page.get_by_role("button", name="Cancelled").click()
    page.locator("#several-ended").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Tag").fill(tag)
    dialog.get_by_role("button", name="Retry 3 jobs").click()
    expect(page.locator("#trouble-text")).to_contain_text("2 jobs found no room to come back to")
    expect(page.locator("#rows [data-job]")).to_have_count(1)


def test_a_queue_says_its_rules_and_is_drained_and_opened_again(watched: Watched, client: httpx.Client) -> None:
    client.post("/v1/queues/default/resume")
    page = watched.open()
    facts = page.locator("#queue-controls .facts")
    expect(facts).to_have_text("first come, first served")
    client.put("/v1/queues/default", json={"policy": "fair", "capacity": 3, "keep_jobs": 500})
    expect(facts).to_have_text("fair shares of GPU time · 0 of 3 places taken · keeps 500 results")
    page.get_by_role("button", name="Drain").click()
    expect(page.get_by_text("The queue default is drained")).to_be_visible()
    assert client.post("/v1/jobs", json=PRETEND).status_code == 429
    page.get_by_role("button", name="Take jobs again").click()
    expect(page.get_by_text("The queue default is drained")).to_have_count(0)
    assert client.post("/v1/jobs", json=PRETEND).status_code == 201


def test_results_that_the_service_forgets_leave_the_page(watched: Watched, client: httpx.Client) -> None:
    job = submit(client)
    client.post(f"/v1/jobs/{job}/cancel")
    page = watched.open()
    page.get_by_role("button", name="Cancelled").click()
    tile = page.locator(f'#gallery [data-job="{job}"]')
    expect(tile).to_be_visible()
    client.post("/v1/queues/default/prune")
    expect(tile).to_have_count(0)


def test_a_quarantined_worker_says_why_and_is_released(watched: Watched, client: httpx.Client) -> None:
    client.post("/v1/queues/default/resume")
    page = watched.open()
    for _ in range(3):
        submit(client, params={"outcome": "crash"})
    worker = page.locator("#workers li")
    expect(worker).to_contain_text("quarantined")
    expect(worker).to_contain_text("3 different jobs in a row")
    client.post("/v1/queues/default/pause")
    worker.get_by_role("button", name="Release").click()
    expect(worker).not_to_contain_text("quarantined")
    assert client.get("/v1/workers").json()["workers"][0]["quarantine"] is None
