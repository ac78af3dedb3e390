"""The workers a service starts itself: one a device, each under its own name, gone with the service."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.local_worker import devices_here
from tests.service_process import running_service, wait_for


@pytest.mark.anyio
async def test_a_machine_without_a_gpu_has_one_device() -> None:
    found = await devices_here()
    assert found == ["cpu"] or all(label.startswith(("cuda:", "mps")) for label in found)


def test_every_device_gets_a_worker_and_jobs_run_side_by_side(tmp_path: Path) -> None:
    arguments = ("--device", "cpu", "--device", "cpu", "--worker-model", "pretend")
    with running_service(tmp_path, *arguments) as service, httpx.Client(base_url=service.url) as client:

        def connected() -> list[str]:
            return [w["name"] for w in client.get("/v1/workers").json()["workers"] if w["is_connected"]]

        wait_for(lambda: len(connected()) == 2, 30, "two workers", service.log)
        assert [name.rpartition("-")[2] for name in sorted(connected())] == ["0", "1"]
        body = {"task": "pretend", "params": {"steps": 600, "step_s": 0.1}}
        jobs = [client.post("/v1/jobs", json=body).json()["id"] for _ in range(2)]
        wait_for(
            lambda: {client.get(f"/v1/jobs/{job}").json()["status"] for job in jobs} == {"running"},
            30, "both jobs to run", service.log,
        )  # fmt: skip
        workers = client.get("/v1/workers").json()["workers"]
        assert sorted(len(worker["running"]) for worker in workers) == [1, 1]
