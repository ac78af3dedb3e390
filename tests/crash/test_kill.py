"""kill -9 at bad moments: every acknowledged job ends exactly once, and its history says what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service, wait_for

LONG = {"task": "pretend", "params": {"steps": 30, "step_s": 0.1}}


def submit(service: ServiceProcess, body: dict[str, Any]) -> str:
    return str(httpx.post(f"{service.url}/v1/jobs", json=body).json()["id"])


def job_of(service: ServiceProcess, job: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{service.url}/v1/jobs/{job}").json()
    return found


def step_of(service: ServiceProcess, job: str, least: int = 1) -> bool:
    return ((job_of(service, job)["progress"] or {}).get("step") or 0) >= least


def completes(service: ServiceProcess, job: str, within_s: float = 90) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = job_of(service, job)
        assert found["status"] not in ("failed", "cancelled"), found
        return found if found["status"] == "completed" else None

    return wait_for(ended, within_s, f"job {job} to complete", service.log)


def types_of(service: ServiceProcess, job: str) -> list[str]:
    events = httpx.get(f"{service.url}/v1/jobs/{job}/events").json()["events"]
    return [e["type"] if e["type"] != "job-requeued" else f"requeued: {e['data']['reason']}" for e in events]


def processes(name: str, below: int | None = None) -> list[int]:
    """Pids of running Python processes started as `-m name`, of one process group's session if given."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if name.encode() in words and (below is None or parent == below):
            found.append(int(entry.name))
    return found


def gpu_child(service: ServiceProcess) -> int:
    """The pid of the child of the service's own worker."""
    (agent,) = wait_for(lambda: processes("service.worker.cli", service.process.pid), 30, "the agent", service.log)
    (child,) = wait_for(lambda: processes("service.worker.child", agent), 30, "the GPU child", service.log)
    return int(child)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with running_service(tmp_path, "--worker-model", "pretend", "--lease", "5") as service:
        yield service


@contextmanager
def remote_worker(service: ServiceProcess, spool: Path, name: str = "remote") -> Iterator[subprocess.Popen[bytes]]:
    """A worker of its own, as on another machine."""
    with (spool.parent / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.worker.cli", "--server", service.url, "--name", name,
             "--model", "pretend", "--key-file", str(service.data / "keys" / "worker.key"), "--spool", str(spool)],
            stderr=log, stdout=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_gpu_child_is_killed_and_the_job_runs_again(service: ServiceProcess) -> None:
    job = submit(service, LONG)
    wait_for(lambda: step_of(service, job), 30, "a first step", service.log)
    os.kill(gpu_child(service), signal.SIGKILL)
    done = completes(service, job)
    assert [a["outcome"] for a in done["attempts"]] == ["crash", "completed"]
    assert "SIGKILL" in done["attempts"][0]["detail"]
    assert types_of(service, job).count("job-completed") == 1
    assert "requeued: crash" in types_of(service, job)


def test_a_job_that_always_crashes_ends_failed_and_the_worker_goes_on(service: ServiceProcess) -> None:
    poison = submit(service, {"task": "pretend", "params": {"outcome": "crash"}})
    healthy = submit(service, {"task": "pretend", "params": {}})
    wait_for(lambda: job_of(service, poison)["status"] == "failed", 90, "the poisonous job to fail", service.log)
    assert job_of(service, poison)["error"]["kind"] == "crash"
    assert len(job_of(service, poison)["attempts"]) == 3
    assert completes(service, healthy)["attempts"]


def test_the_service_is_killed_with_its_worker_and_the_job_completes_after_the_restart(
    service: ServiceProcess,
) -> None:
    job = submit(service, LONG)
    wait_for(lambda: step_of(service, job), 30, "a first step", service.log)
    agents = processes("service.worker.cli", service.process.pid)
    service.kill()
    wait_for(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in agents), 30, "the local worker to end with it"
    )
    service.restart()
    done = completes(service, job)
    assert types_of(service, job).count("job-completed") == 1
    assert "requeued: worker-restarted" in types_of(service, job)
    assert [a["attempt"] for a in done["attempts"]] == [1, 2]


def test_a_remote_worker_survives_the_service_and_brings_its_result(tmp_path: Path) -> None:
    with running_service(tmp_path, "--no-worker") as service, remote_worker(service, tmp_path / "spool"):
        job = submit(service, LONG)
        wait_for(lambda: step_of(service, job), 30, "a first step", service.log)
        service.kill()
        service.restart()
        done = completes(service, job)
        assert [a["outcome"] for a in done["attempts"]] == ["completed"], "the same attempt went on"
        assert types_of(service, job).count("job-completed") == 1


def test_the_agent_is_killed_and_the_job_runs_again(service: ServiceProcess) -> None:
    job = submit(service, LONG)
    wait_for(lambda: step_of(service, job), 30, "a first step", service.log)
    (agent,) = processes("service.worker.cli", service.process.pid)
    os.kill(agent, signal.SIGKILL)
    done = completes(service, job)
    assert types_of(service, job).count("job-completed") == 1
    assert len(done["attempts"]) == 2


def test_a_frozen_worker_loses_its_job_to_another_and_is_fenced_when_it_wakes(tmp_path: Path) -> None:
    with (
        running_service(tmp_path, "--no-worker", "--lease", "3") as service,
        remote_worker(service, tmp_path / "spool") as frozen,
    ):
        job = submit(service, {"task": "pretend", "params": {"steps": 20, "step_s": 0.1}})
        wait_for(lambda: step_of(service, job), 30, "a first step", service.log)
        os.kill(frozen.pid, signal.SIGSTOP)
        wait_for(lambda: job_of(service, job)["status"] == "queued", 30, "the lease to expire", service.log)
        with remote_worker(service, tmp_path / "other", "second"):
            wait_for(lambda: job_of(service, job)["status"] == "running", 30, "the second worker to take it")
            os.kill(frozen.pid, signal.SIGCONT)
            done = completes(service, job)
            assert [(a["worker"], a["outcome"]) for a in done["attempts"]] == [
                ("remote", "lease-expired"),
                ("second", "completed"),
            ]
            assert types_of(service, job).count("job-completed") == 1


def test_nothing_acknowledged_is_lost_when_the_service_is_killed_while_many_submit(tmp_path: Path) -> None:
    import threading

    with running_service(tmp_path, "--no-worker") as service:
        for _ in range(3):
            acknowledged: list[str] = []

            def keep_submitting(into: list[str] = acknowledged) -> None:
                with httpx.Client(base_url=service.url) as client:
                    try:
                        while True:
                            answer = client.post("/v1/jobs", json={"task": "pretend", "params": {}})
                            if answer.status_code == 201:
                                into.append(answer.json()["id"])
                    except httpx.HTTPError:
                        return

            threads = [threading.Thread(target=keep_submitting) for _ in range(4)]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(acknowledged) > 40, 30, "submissions", service.log)  # noqa: B023
            service.kill()
            for thread in threads:
                thread.join()
            service.restart()
            known = {job["id"] for job in _all_jobs(service)}
            assert set(acknowledged) <= known
            head = httpx.get(f"{service.url}/v1/health").json()
            assert head["log"]["head"] == head["views"]["position"]


def _all_jobs(service: ServiceProcess) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = httpx.get(f"{service.url}/v1/jobs?limit=1000{cursor}").json()
        jobs += page["jobs"]
        if page["next_cursor"] is None:
            return jobs
        cursor = f"&cursor={page['next_cursor']}"


def test_sigterm_ends_in_order_and_hands_the_running_job_back(service: ServiceProcess) -> None:
    job = submit(service, {"task": "pretend", "params": {"steps": 600, "step_s": 0.1}})
    wait_for(lambda: step_of(service, job), 30, "a first step", service.log)
    assert service.stop() == 0
    service.restart()
    assert "requeued: released" in types_of(service, job)
    httpx.post(f"{service.url}/v1/jobs/{job}/cancel")


def test_a_pause_survives_a_kill(service: ServiceProcess) -> None:
    httpx.post(f"{service.url}/v1/queues/default/pause")
    job = submit(service, {"task": "pretend", "params": {}})
    service.kill()
    service.restart()
    assert httpx.get(f"{service.url}/v1/queues/default").json()["is_paused"]
    assert job_of(service, job)["status"] == "queued"
    httpx.post(f"{service.url}/v1/queues/default/resume")
    completes(service, job)
