"""Jobs that start from pictures, through the real service, worker, child and embedded model."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.service_process import ServiceProcess, running_service, wait_for

SIZE = (512, 512)
GREEN_ON_YELLOW = "a large green circle on a yellow background"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("flow")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def circle(size: tuple[int, int] = SIZE, kind: str = "PNG", **options: Any) -> bytes:
    """A large red circle on blue."""
    picture = Image.new("RGB", size, "blue")
    width, height = size
    ImageDraw.Draw(picture).ellipse((width * 0.15, height * 0.15, width * 0.85, height * 0.85), fill="red")
    return saved(picture, kind, **options)


def right_half(size: tuple[int, int] = SIZE) -> bytes:
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 2, 0, *size))
    return saved(mask)


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def upload(client: httpx.Client, data: bytes, media_type: str = "image/png") -> str:
    answer = client.post("/v1/artifacts", content=data, headers={"Content-Type": media_type})
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["digest"])


def finished(client: httpx.Client, service: ServiceProcess, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    job = answer.json()["id"]

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        return found if found["status"] in ("completed", "failed", "cancelled") else None

    return wait_for(ended, 90, f"job {job} to end", service.log)


def picture_of(client: httpx.Client, job: dict[str, Any]) -> np.ndarray:
    assert job["status"] == "completed", job["error"]
    return np.asarray(Image.open(io.BytesIO(client.get(job["artifacts"][0]["url"]).content)))


def reading_of(picture: np.ndarray) -> Any:
    """What the picture shows, as the embedded model's own judge sees it."""
    import torch

    from service.worker.demo_model.checker import read_pictures

    small = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BOX), np.float32) / 255
    return read_pictures(torch.from_numpy(small).permute(2, 0, 1)[None])[0].scene


def test_a_picture_becomes_what_the_prompt_says_as_far_as_it_may(
    client: httpx.Client, service: ServiceProcess
) -> None:
    image = upload(client, circle())
    seen = {}
    for strength in (0.1, 1.0):
        params = {"prompt": GREEN_ON_YELLOW, "image": image, "strength": strength, "seed": 3}
        job = finished(client, service, client.post("/v1/jobs", json={"task": "image-to-image", "params": params}))
        seen[strength] = reading_of(picture_of(client, job))
        assert job["params"]["image"] == image, "what it started from is no secret"
        assert (job["params"]["width"], job["params"]["height"]) == SIZE
    assert (seen[0.1].colour, seen[0.1].background) == ("red", "blue")
    assert (seen[1.0].shape, seen[1.0].colour, seen[1.0].background) == ("circle", "green", "yellow")


def test_a_result_can_be_begun_from_and_half_of_it_made_anew(client: httpx.Client, service: ServiceProcess) -> None:
    drawn = finished(client, service, client.post("/v1/jobs", json={"params": {"prompt": GREEN_ON_YELLOW}}))
    before = picture_of(client, drawn)
    params = {
        "prompt": "a large pink square on a black background",
        "image": drawn["artifacts"][0]["digest"],
        "mask": upload(client, right_half()),
    }
    job = finished(client, service, client.post("/v1/jobs", json={"task": "inpaint", "params": params}))
    after = picture_of(client, job)
    assert np.array_equal(after[:, :256], before[:, :256])
    assert after[20, 490].max() < 90, "black paper"
    assert after[256, 300, 0] > 180 > after[256, 300, 1], "pink ink"


def test_a_form_brings_job_and_pictures_at_once(client: httpx.Client, service: ServiceProcess) -> None:
    said = {"task": "inpaint", "params": {"prompt": GREEN_ON_YELLOW, "steps": 4, "seed": 1}}
    files = {
        "job": (None, json.dumps(said), "application/json"),
        "image": ("../../a photo.jpg", circle((300, 300), "JPEG"), "image/jpeg"),
        "mask": ("mask.png", right_half((300, 300)), "image/png"),
    }
    repeat = {"Idempotency-Key": "form-1"}
    answer = client.post("/v1/jobs", files=files, headers=repeat)
    job = finished(client, service, answer)
    assert picture_of(client, job).shape == (512, 512, 3)
    assert job["params"]["image"] == hashlib.sha256(files["image"][1]).hexdigest()
    again = client.post("/v1/jobs", files=files, headers=repeat)  # in another boundary
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    files["mask"] = ("mask.png", right_half((300, 301)), "image/png")
    assert client.post("/v1/jobs", files=files, headers=repeat).status_code == 409


def test_a_photo_on_its_side_is_begun_from_upright(client: httpx.Client, service: ServiceProcess) -> None:
    picture = Image.new("RGB", (400, 200), "blue")
    picture.paste("red", (0, 0, 400, 100))  # red above blue; turned by the camera, red is on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    image = upload(client, saved(picture, "JPEG", exif=exif, quality=95), "image/jpeg")
    stored = client.post("/v1/jobs", json={
        "task": "image-to-image",
        "params": {"prompt": GREEN_ON_YELLOW, "image": image, "strength": 0.05, "seed": 1},
    })  # fmt: skip
    drawn = picture_of(client, finished(client, service, stored)).astype(int)
    assert drawn[256, 400, 0] > drawn[256, 400, 2] + 60, "red on the right"
    assert drawn[256, 100, 2] > drawn[256, 100, 0] + 60, "blue on the left"


def test_a_stored_picture_is_there_to_be_read_and_stored_once(client: httpx.Client) -> None:
    data = circle((40, 30), "WEBP", lossless=True)
    headers = {"Content-Type": "image/webp"}
    first, second = (client.post("/v1/artifacts", content=data, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert {name: first.json()[name] for name in ("media_type", "bytes", "width", "height")} == {
        "media_type": "image/webp", "bytes": len(data), "width": 40, "height": 30,
    }  # fmt: skip
    read = client.get(first.headers["Location"])
    assert (read.content, read.headers["content-type"]) == (data, "image/webp")
    assert "sandbox" in read.headers["content-security-policy"]


def test_a_job_whose_picture_is_gone_says_so(client: httpx.Client, service: ServiceProcess) -> None:
    image = upload(client, circle((64, 65)))
    params = {"prompt": GREEN_ON_YELLOW, "image": image}
    answer = client.post("/v1/jobs", json={"task": "image-to-image", "params": params, "hold": True})
    (service.data / "artifacts" / image[:2] / image).unlink()
    client.post(f"/v1/jobs/{answer.json()['id']}/release")
    job = finished(client, service, answer)
    assert (job["status"], job["error"]["kind"]) == ("failed", "invalid-input")
    assert "params.image" in job["error"]["message"]
    assert "upload it again" in job["error"]["message"]


def test_the_command_line_uploads_and_submits(
    client: httpx.Client, service: ServiceProcess, tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(circle())
    (tmp_path / "mask.png").write_bytes(right_half())
    submit = [sys.executable, "-m", "web.cli", "submit", GREEN_ON_YELLOW, "--url", service.url, "--steps", "4"]
    submit += [f"--image={tmp_path}/photo.png", f"--mask={tmp_path}/mask.png", f"--output={tmp_path}/out.png"]
    done = subprocess.run(submit, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(made[:, :256], np.asarray(Image.open(tmp_path / "photo.png"))[:, :256])
    (tmp_path / "photo.png").write_text("no picture")
    refused = subprocess.run(submit, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1
    assert "photo.png: the bytes are no PNG, JPEG or WebP picture" in refused.stderr


def test_a_model_of_ones_own_makes_pictures_larger(tmp_path: Path) -> None:
    from tests.tiny.upscaler import upscaler

    upscaler().save_pretrained(tmp_path / "weights")
    defaults = "{ steps = 2, guidance = 1.0, factor = 4 }"
    entry = f'[models.larger]\nsource = "weights"\ntasks = ["upscale"]\ndefaults = {defaults}\n'
    (tmp_path / "models.toml").write_text(entry)
    arguments = ("--models", str(tmp_path / "models.toml"), "--worker-model", "larger")
    with running_service(tmp_path / "service", *arguments) as service, httpx.Client(base_url=service.url) as client:
        image = upload(client, circle((40, 24)))
        answer = client.post("/v1/jobs", json={"task": "upscale", "params": {"image": image}})
        job = finished(client, service, answer)
        assert picture_of(client, job).shape == (96, 160, 3)
        assert [file["width"] for file in job["artifacts"]] == [160]
