"""The example worker of docs/http-worker.md, as it stands there: it makes pictures, obeys, and survives."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service, wait_for

DOCS = Path(__file__).parents[2] / "docs" / "http-worker.md"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one block of Python on the page."""
    (block,) = DOCS.read_text().split("```python\n")[1:]
    path = tmp_path_factory.mktemp("example") / "worker.py"
    path.write_text(block.partition("```")[0])
    return path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with running_service(tmp_path, "--no-worker", "--lease", "5") as service:
        yield service


@contextmanager
def example(program: Path, service: ServiceProcess, name: str = "painter") -> Iterator[subprocess.Popen[str]]:
    environment = {
        "PATH": os.environ["PATH"],
        "SAFELIGHT_URL": service.url,
        "SAFELIGHT_WORKER_KEY": (service.data / "keys" / "worker.key").read_text().strip(),
        "WORKER_NAME": name,
    }
    process = subprocess.Popen(
        [sys.executable, "-I", str(program)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def submit(service: ServiceProcess, steps: int = 4) -> str:
    body = {"params": {"prompt": "stripes", "seed": 7, "steps": steps}}
    return str(httpx.post(f"{service.url}/v1/jobs", json=body).json()["id"])


def job_of(service: ServiceProcess, job: str) -> dict[str, Any]:
    return httpx.get(f"{service.url}/v1/jobs/{job}").json()  # type: ignore[no-any-return]


def ends(service: ServiceProcess, job: str, status: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = job_of(service, job)
        return found if found["status"] in ("completed", "failed", "cancelled") else None

    found: dict[str, Any] = wait_for(ended, 60, f"job {job} to end", service.log)
    assert found["status"] == status, found
    return found


def types_of(service: ServiceProcess, job: str) -> list[str]:
    return [event["type"] for event in httpx.get(f"{service.url}/v1/jobs/{job}/events").json()["events"]]


def test_it_is_short_enough_to_be_read(program: Path) -> None:
    assert len([line for line in program.read_text().splitlines() if line]) <= 80


def test_two_of_it_make_all_the_pictures(program: Path, service: ServiceProcess) -> None:
    from PIL import Image

    with example(program, service, "one"), example(program, service, "two"):
        jobs = [submit(service) for _ in range(8)]
        ended = [ends(service, job, "completed") for job in jobs]
    assert {job["attempts"][0]["worker"] for job in ended} <= {"one", "two"}
    picture = Image.open(io.BytesIO(httpx.get(f"{service.url}/v1/jobs/{jobs[0]}/result").content)).convert("RGB")
    assert picture.size == (512, 512)
    assert picture.getpixel((0, 511)) == (7, 255, 191)


def test_it_stops_when_its_job_is_cancelled_and_takes_the_next(program: Path, service: ServiceProcess) -> None:
    with example(program, service):
        job, following = submit(service, 150), submit(service)
        wait_for(lambda: job_of(service, job)["status"] == "running", 30, "the job to run", service.log)
        httpx.post(f"{service.url}/v1/jobs/{job}/cancel")
        ends(service, job, "cancelled")
        ends(service, following, "completed")


def test_it_goes_on_with_the_same_attempt_when_the_service_is_killed(
    program: Path, service: ServiceProcess
) -> None:
    with example(program, service):
        job = submit(service, 150)
        wait_for(lambda: job_of(service, job)["status"] == "running", 30, "the job to run", service.log)
        service.kill()
        service.restart()
        ends(service, job, "completed")
        assert types_of(service, job) == ["job-submitted", "job-leased", "job-completed"]


def test_it_ends_when_another_process_takes_its_name(program: Path, service: ServiceProcess) -> None:
    with example(program, service) as older:
        ends(service, submit(service), "completed")
        with example(program, service):
            assert older.wait(30) == 3
            assert older.stdout is not None
            assert "replaced by a newer process" in older.stdout.read()
