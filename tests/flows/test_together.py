"""Jobs that compute together on one device, through a real service and a real worker."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.service_process import ServiceProcess, running_service, wait_for

PROMPT = "a large red circle on a blue background"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("flow"), "--worker-model", "demo") as service:
        wait_for(lambda: httpx.get(f"{service.url}/v1/workers").json()["workers"], 60, "the worker", service.log)
        yield service


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        client.post("/v1/queues/default/pause")  # until a test has submitted all it wants
        yield client


def submit(client: httpx.Client, seed: int, steps: int = 20, **fields: Any) -> str:
    answer = client.post("/v1/jobs", json={"params": {"prompt": PROMPT, "seed": seed, "steps": steps}, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def finished(client: httpx.Client, service: ServiceProcess, jobs: list[str]) -> list[dict[str, Any]]:
    def ended() -> list[dict[str, Any]] | None:
        found = [client.get(f"/v1/jobs/{job}").json() for job in jobs]
        return found if all(job["finished_at"] for job in found) else None

    return wait_for(ended, 90, "the pictures", service.log)  # type: ignore[no-any-return]


def picture(client: httpx.Client, job: dict[str, Any]) -> np.ndarray[Any, Any]:
    data = client.get(job["artifacts"][0]["url"]).content
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def resume(client: httpx.Client) -> None:
    assert client.post("/v1/queues/default/resume").status_code == 200


def test_jobs_of_many_share_calls_and_draw_what_they_draw_alone(
    client: httpx.Client, service: ServiceProcess
) -> None:
    seeds = range(8)
    for _ in range(2):  # how many calls together pay is learned in the first
        together = [submit(client, seed, steps=12 + seed) for seed in seeds]
        resume(client)
        jobs = finished(client, service, together)
        assert [job["status"] for job in jobs] == ["completed"] * len(jobs)
        client.post("/v1/queues/default/pause")
    shared = [job["facts"]["batch"] for job in jobs]
    # How many at once is for the worker to learn, and a machine that does other things teaches it another number.
    assert sum(len(batch["beside"]) > 0 for batch in shared) >= 2
    assert any(max(map(int, batch["steps"])) > 2 for batch in shared)  # a picture with guidance has two rows
    assert all(isinstance(batch["saved_s"], float) for batch in shared if batch["beside"])
    pictures = [picture(client, job) for job in jobs]
    resume(client)
    for seed, drawn in zip(seeds, pictures, strict=True):
        (alone,) = finished(client, service, [submit(client, seed, steps=12 + seed)])
        assert alone["facts"]["batch"]["beside"] == []
        # the picture is enlarged eight times by Lanczos, which makes up to two levels of one
        assert np.abs(picture(client, alone) - drawn).max() <= 2


def test_a_cancelled_one_leaves_the_others_alone(client: httpx.Client, service: ServiceProcess) -> None:
    together = [submit(client, seed, steps=100) for seed in range(4)]
    resume(client)
    wait_for(
        lambda: (client.get(f"/v1/jobs/{together[0]}").json()["progress"] or {}).get("step"),
        60,
        "the first to compute",
        service.log,
    )
    client.post(f"/v1/jobs/{together[1]}/cancel")
    jobs = finished(client, service, together)
    assert [job["status"] for job in jobs] == ["completed", "cancelled", "completed", "completed"]


def test_an_urgent_job_is_served_while_a_long_one_stands(client: httpx.Client, service: ServiceProcess) -> None:
    long = submit(client, 1, steps=150)
    resume(client)
    wait_for(
        lambda: (client.get(f"/v1/jobs/{long}").json()["progress"] or {}).get("step"), 60, "steps", service.log
    )
    urgent = submit(client, 2, steps=10, priority=90)
    jobs = finished(client, service, [urgent, long])
    assert jobs[0]["finished_at"] < jobs[1]["finished_at"]
    assert jobs[0]["started_at"] < jobs[1]["finished_at"]


def test_after_a_crash_the_attempts_go_on_from_what_was_kept(client: httpx.Client, service: ServiceProcess) -> None:
    seeds = range(12)  # several seconds of computing, also on a faster machine
    together = [submit(client, seed, steps=150) for seed in seeds]
    resume(client)
    spool = service.data / "spool"
    wait_for(lambda: list(spool.glob("**/*.tape")), 60, "something to be kept", service.log)
    (agent,) = psutil.Process(service.process.pid).children()
    (child,) = agent.children()
    child.kill()
    jobs = finished(client, service, together)
    assert [job["status"] for job in jobs] == ["completed"] * len(jobs)
    # One that the worker had accepted and not begun is handed back, which is charged to nobody.
    earlier = [attempt["outcome"] for job in jobs for attempt in job["attempts"][:-1]]
    assert set(earlier) <= {"released"}, earlier
    assert sum(len(job["attempts"]) == 1 for job in jobs) >= 2
    kept = [job for job in jobs if job["facts"]["batch"]["steps"] and _steps(job) < 150]
    assert kept, "no step of any was spared"
    assert not list(spool.glob("**/*.tape"))
    for job in kept[:1]:
        (alone,) = finished(client, service, [submit(client, job["params"]["seed"], steps=150)])
        assert np.abs(picture(client, alone) - picture(client, job)).max() <= 2


def _steps(job: dict[str, Any]) -> int:
    return sum(job["facts"]["batch"]["steps"].values())
