"""The queue with a real service and a real worker: deadlines, estimates, order, quarantine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service, wait_for

LONG = {"steps": 200, "step_s": 0.1}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("flow"), "--worker-model", "pretend") as service:
        wait_for(lambda: httpx.get(f"{service.url}/v1/workers").json()["workers"], 60, "the worker", service.log)
        yield service


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def submit(client: httpx.Client, params: dict[str, Any] | None = None, **fields: Any) -> str:
    answer = client.post("/v1/jobs", json={"task": "pretend", "params": params or {}, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def job_of(client: httpx.Client, job: str) -> dict[str, Any]:
    return client.get(f"/v1/jobs/{job}").json()  # type: ignore[no-any-return]


def becomes(client: httpx.Client, service: ServiceProcess, job: str, status: str) -> dict[str, Any]:
    wait_for(lambda: job_of(client, job)["status"] == status, 30, f"{job} to be {status}", service.log)
    return job_of(client, job)


def test_a_running_job_past_its_deadline_is_dropped_and_the_next_one_runs(
    client: httpx.Client, service: ServiceProcess
) -> None:
    late = submit(client, LONG, finish_deadline=(datetime.now(UTC) + timedelta(seconds=1.5)).isoformat())
    becomes(client, service, late, "running")
    following = submit(client)
    ended = becomes(client, service, late, "expired")
    assert (ended["expired"], ended["attempts"][0]["outcome"]) == ("finish", "expired")
    assert becomes(client, service, following, "completed")["artifacts"] == []


def test_a_waiting_job_says_when_it_will_be_done_and_is_about_right(
    client: httpx.Client, service: ServiceProcess
) -> None:
    for _ in range(6):  # what jobs of this kind cost is learned from these
        becomes(client, service, submit(client, {"steps": 10, "step_s": 0.02}), "completed")
    batch = client.post("/v1/jobs", json={"task": "pretend", "params": {"steps": 10, "step_s": 0.05}, "count": 6})
    last = client.get("/v1/jobs", params={"batch": batch.json()["id"]}).json()["jobs"][0]["id"]
    told = wait_for(lambda: job_of(client, last)["eta"], 10, "an estimate", service.log)
    assert told["blocked"] is None
    assert told["jobs_ahead"] >= 3
    assert told["start_at"] < told["done_at"] <= told["done_p90_at"]
    finished = datetime.fromisoformat(becomes(client, service, last, "completed")["finished_at"])
    off_s = abs((finished - datetime.fromisoformat(told["done_at"])).total_seconds())
    assert off_s < 2.0, "three seconds of work were foreseen to two, on a machine that does other things too"


def test_the_line_is_served_in_the_order_it_was_moved_to(client: httpx.Client, service: ServiceProcess) -> None:
    first = submit(client, {"steps": 10, "step_s": 0.05})
    becomes(client, service, first, "running")
    a, b, c = (submit(client, {"steps": 1}) for _ in range(3))
    client.post(f"/v1/jobs/{c}/move", json={"where": "top"})
    client.post(f"/v1/jobs/{a}/hold")
    for job in (b, c):
        becomes(client, service, job, "completed")
    assert job_of(client, c)["finished_at"] < job_of(client, b)["finished_at"]
    assert job_of(client, a)["status"] == "held"
    client.post(f"/v1/jobs/{a}/release")
    becomes(client, service, a, "completed")


def test_a_job_that_nobody_can_run_says_so_and_blocks_nobody(client: httpx.Client, service: ServiceProcess) -> None:
    picture = client.post("/v1/jobs", json={"params": {"prompt": "a fox"}, "priority": 100}).json()
    assert "no worker can run task text-to-image" in picture["blocked"]
    behind = submit(client)
    assert becomes(client, service, behind, "completed")
    assert job_of(client, picture["id"])["status"] == "queued"
    client.post(f"/v1/jobs/{picture['id']}/cancel")


def test_a_worker_that_takes_down_one_job_after_another_is_quarantined_until_it_is_released(
    client: httpx.Client, service: ServiceProcess
) -> None:
    crashing = [submit(client, {"outcome": "crash"}) for _ in range(3)]
    (worker,) = client.get("/v1/workers").json()["workers"]
    wait_for(
        lambda: client.get("/v1/workers").json()["workers"][0]["quarantine"], 60, "the quarantine", service.log
    )
    waiting = submit(client)
    for job in crashing:
        client.post(f"/v1/jobs/{job}/cancel")
    shown = wait_for(lambda: job_of(client, waiting)["blocked"], 10, "the reason", service.log)
    assert "every worker that has it is quarantined" in shown
    began_at = time.monotonic()
    released = client.post(f"/v1/workers/{worker['name']}/release").json()
    assert released["quarantine"] is None
    assert becomes(client, service, waiting, "completed")
    assert time.monotonic() - began_at < 10
