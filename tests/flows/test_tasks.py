"""Every task beside pictures through the real service and worker: tiny models, and another's package."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.service_process import ServiceProcess, running_service, wait_for

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "tasks.md"

MODELS = """
[models.film]
source = "film"
tasks = ["text-to-video", "video-to-video"]
defaults = { steps = 3, guidance = 4.0, width = 64, height = 64, frames = 9, fps = 8 }

[models.noise]
source = "noise"
tasks = ["text-to-audio"]
defaults = { steps = 3, guidance = 4.0, seconds = 1.0 }

[models.writer]
source = "writer"
tasks = ["enhance"]

[models.demo-sepia]
source = "package:demo_model"
tasks = ["sepia"]
defaults = { steps = 4, guidance = 2.0, width = 512, height = 512 }
sizes = [[512, 512]]
enlarge = 8
"""


def install_from_docs(folder: Path) -> None:
    """What docs/tasks.md tells the author of a package to write, as an installer puts it on the path."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", DOCS.read_text(), re.MULTILINE)
    entry, params, runner = (re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() + "\n" for block in blocks)
    assert sum(len(part.splitlines()) for part in (entry, params, runner)) <= 36, "docs show a task in 30 lines"
    package, info = folder / "safelight_sepia", folder / "safelight_sepia-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text(params)
    (package / "runner.py").write_text(runner)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: safelight-sepia\nVersion: 1.0\n")
    # the one place where the two formats differ is the quoting
    entry = entry.replace('[project.entry-points."safelight.tasks"]', "[safelight.tasks]").replace('"', "")
    (info / "entry_points.txt").write_text(entry)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    from tests.tiny.language import save_language_model
    from tests.tiny.sounds import sound_pipeline
    from tests.tiny.videos import video_pipeline

    folder = tmp_path_factory.mktemp("tasks")
    video_pipeline("wan").save_pretrained(folder / "film")
    sound_pipeline().save_pretrained(folder / "noise")
    save_language_model(folder / "writer")
    (folder / "models.toml").write_text(MODELS)
    (folder / "packages").mkdir()
    install_from_docs(folder / "packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "packages"), prepend=":")
        with running_service(folder, "--models", str(folder / "models.toml")) as service:
            yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def done(client: httpx.Client, service: ServiceProcess, task: str, **params: Any) -> dict[str, Any]:
    """The job of that task once it is over, and completed."""
    answer = client.post("/v1/jobs", json={"task": task, "params": params})
    assert answer.status_code == 201, answer.text

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/v1/jobs/{answer.json()['id']}").json()
        return found if found["status"] in ("completed", "failed") else None

    job: dict[str, Any] = wait_for(ended, 90, f"a job of {task} to end", service.log)
    assert job["status"] == "completed", (job["error"], service.log())
    return job


def test_a_video_from_a_prompt_can_be_played(client: httpx.Client, service: ServiceProcess) -> None:
    import av

    job = done(client, service, "text-to-video", prompt="a red circle", seed=3)
    (artifact,) = job["artifacts"]
    shown = {name: artifact[name] for name in ("media_type", "width", "height", "frames", "fps", "seconds")}
    assert shown == {
        "media_type": "video/mp4", "width": 64, "height": 64, "frames": 9, "fps": 8, "seconds": None,
    }  # fmt: skip
    result = client.get(f"/v1/jobs/{job['id']}/result")
    assert result.headers["content-type"] == "video/mp4"
    assert result.headers["content-disposition"].endswith('.mp4"')
    with av.open(io.BytesIO(result.content)) as container:
        assert len(list(container.decode(video=0))) == 9


def test_a_video_can_be_made_from_one_that_a_job_made_or_that_was_sent(
    client: httpx.Client, service: ServiceProcess, tmp_path: Path
) -> None:
    first = done(client, service, "text-to-video", prompt="a red circle", seed=3)["artifacts"][0]
    second = done(client, service, "video-to-video", prompt="a blue star", seed=3, video=first["digest"], steps=4)
    (artifact,) = second["artifacts"]
    assert (artifact["media_type"], artifact["frames"], artifact["fps"]) == ("video/mp4", 9, 8)
    assert artifact["digest"] != first["digest"]
    path = tmp_path / "clip.mp4"
    path.write_bytes(client.get(first["url"]).content)
    told = safelight("submit", "a star", "--video", str(path), "--seed", "3", url=service.url, cwd=tmp_path)
    assert "64 x 64 px, 9 frames at 8 a second, seed 3" in told
    assert len(list(tmp_path.glob("*.mp4"))) == 2


def test_a_sound_from_a_prompt_can_be_heard(client: httpx.Client, service: ServiceProcess) -> None:
    import soundfile

    job = done(client, service, "text-to-audio", prompt="a star", seed=3)
    (artifact,) = job["artifacts"]
    assert (artifact["media_type"], artifact["seconds"], artifact["sample_rate_hz"]) == ("audio/flac", 1.0, 16_000)
    wave, rate_hz = soundfile.read(io.BytesIO(client.get(artifact["url"]).content))
    assert (wave.shape, rate_hz) == ((16_000, 2), 16_000)


def safelight(*words: str, url: str, cwd: Path | None = None) -> str:
    """What the command line prints."""
    done = subprocess.run(
        [sys.executable, "-m", "web.cli", *words, "--url", url],
        capture_output=True, text=True, timeout=120, cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_enhanced_prompt_stands_in_its_file_and_nowhere_else(
    client: httpx.Client, service: ServiceProcess
) -> None:
    job = done(client, service, "enhance", prompt="a red star", seed=3, max_new_tokens=8, temperature=1.0)
    answer = client.get(job["artifacts"][0]["url"])
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text
    assert answer.text not in str(job["facts"])
    assert set(job["facts"]) >= {"seed", "tokens", "dtype", "timings"}


def test_what_other_packages_add_is_known_without_torch(service: ServiceProcess) -> None:
    code = "import sys; from service.tasks.registry import TASKS; print('sepia' in TASKS, 'torch' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout == "True False\n"


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_a_task_of_another_package_draws_with_our_model(
    client: httpx.Client, service: ServiceProcess, kind: str
) -> None:
    listed = {task["name"]: task["schema"] for task in client.get("/v1/tasks").json()["tasks"]}
    assert "0 is grey" in str(listed["sepia"])
    job = done(client, service, "sepia", prompt="a large red circle on a blue background", seed=3, format=kind)
    assert job["params"]["tone"] == 0.7
    result = client.get(f"/v1/jobs/{job['id']}/result")
    assert result.headers["content-type"] == f"image/{kind}"
    red, green, blue = np.asarray(Image.open(io.BytesIO(result.content)).convert("RGB")).reshape(-1, 3).mean(0)
    assert red > green > blue + 10


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_what_was_made_plays_and_is_read_in_the_page(client: httpx.Client, service: ServiceProcess) -> None:
    from tests.web.browser import running_chromium, watched_page

    film = done(client, service, "text-to-video", prompt="a red circle", seed=3)["id"]
    noise = done(client, service, "text-to-audio", prompt="a star", seed=3)["id"]
    text = done(client, service, "enhance", prompt="a red star", seed=3, max_new_tokens=8, temperature=1.0)
    with running_chromium() as browser, watched_page(browser, service.url) as watched:
        page = watched.open()
        written = client.get(text["artifacts"][0]["url"]).text
        page.locator(f'[data-job="{text["id"]}"] .written').get_by_text(written, exact=True).wait_for()
        for job, tag in ((film, "video"), (noise, "audio")):
            page.goto(f"{service.url}/#/jobs/{job}")
            page.locator(f".picture {tag}").wait_for()
            assert page.evaluate(
                """async (tag) => {
                    const player = document.querySelector(`.picture ${tag}`);
                    player.muted = true;
                    await player.play();
                    return player.error === null && player.duration > 0;
                }""", tag
            )  # fmt: skip
        watched.check()


def test_the_doctor_names_what_other_packages_add(service: ServiceProcess) -> None:
    told = json.loads(safelight("doctor", "--json", url=service.url))
    findings = {finding["subject"]: finding for finding in told["findings"]}
    assert findings["tasks"]["words"] == "added by other packages: sepia"


def test_a_value_out_of_another_packages_bounds_is_refused_in_our_words(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json={"task": "sepia", "params": {"prompt": "x", "tone": 3}})
    assert (answer.status_code, answer.json()["field"]) == (422, "params.tone")
