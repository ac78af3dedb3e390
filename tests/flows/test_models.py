"""Models of one's own through every real part: the file, service, worker, GPU child, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from service.worker.cli import worker
from tests.service_process import ServiceProcess, running_service, wait_for
from web.serve import serve

FILE = """
[models.quick]
title = "Four steps of the demo model"
source = "package:demo_model"
tasks = ["text-to-image", "pretend"]
defaults = { steps = 4, guidance = 2.0, width = 512, height = 512 }
sizes = [[512, 512]]
enlarge = 8
memory_bytes = "1 MiB"
scheduler = { class = "EulerDiscreteScheduler" }
"""


def completed(client: httpx.Client, service: ServiceProcess, body: dict[str, Any]) -> dict[str, Any]:
    """The job that the body makes, once it is done."""
    job = client.post("/v1/jobs", json=body).json()["id"]

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        return found if found["status"] == "completed" else None

    found: dict[str, Any] = wait_for(ended, 60, "the job to complete", service.log)
    return found


def test_a_model_of_the_data_folder_is_known_to_the_service_and_drawn_with_by_its_worker(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models.toml").write_text(FILE)
    with running_service(tmp_path) as service, httpx.Client(base_url=service.url) as client:
        bodies = ({"params": {"prompt": "a large red circle"}}, {"task": "pretend", "params": {}})
        drawn, pretended = (completed(client, service, body) for body in bodies)
        for job in (drawn, pretended):
            assert (job["model"], job["params"]["steps"]) == ("quick", 4)
        assert drawn["facts"]["scheduler"]["class"] == "EulerDiscreteScheduler"
        assert len(drawn["facts"]["model_digest"]) == 64
        listed = client.get("/v1/models").json()["models"]
        assert [m["id"] for m in listed] == ["quick", "demo", "pretend"]
        assert (listed[0]["tasks"], listed[0]["is_available"]) == (["text-to-image", "pretend"], True)


@pytest.mark.parametrize("command", [serve, worker])
def test_a_file_with_mistakes_is_a_misuse_that_names_every_one(command: object, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(FILE.replace("steps = 4", "steps = 0").replace("enlarge = 8", 'enlarge = "8"'))
    done = CliRunner().invoke(command, ["--models", str(file)])  # type: ignore[arg-type]
    assert done.exit_code == 2
    assert f"{file}: models.quick.enlarge: '8' is not accepted" in done.output


def test_a_worker_is_told_which_models_there_are(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(FILE)
    done = CliRunner().invoke(worker, ["--models", str(file), "--model", "dall-e"])
    assert done.exit_code == 2
    assert "'dall-e' is not in the catalogue; use quick, demo, pretend" in done.output
