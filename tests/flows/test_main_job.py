"""The main job through every real part: service, worker, GPU child, embedded model, push socket, command line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.service_process import ServiceProcess, running_service, wait_for

FINISHED = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("flow")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def subscribe(service: ServiceProcess, query: str = "") -> ClientConnection:
    address = service.url.replace("http://", "ws://")
    return connect(f"{address}/v1/events?{query}", subprotocols=["safelight.v1"], compression=None)  # type: ignore[list-item]


def messages(socket: ClientConnection) -> Iterator[Any]:
    """Every message as it comes: objects of text frames, bytes of binary ones."""
    while True:
        frame = socket.recv(timeout=60)
        if isinstance(frame, bytes):
            yield frame
            continue
        decoded = msgspec.json.decode(frame)
        yield from decoded if isinstance(decoded, list) else [decoded]


def finished(client: httpx.Client, service: ServiceProcess, job: str, within_s: float = 60) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        return found if found["status"] in FINISHED else None

    return wait_for(ended, within_s, f"job {job} to end", service.log)


def test_a_prompt_becomes_the_picture_it_asks_for_while_it_is_watched(
    client: httpx.Client, service: ServiceProcess
) -> None:
    from PIL import Image

    with subscribe(service, "previews=1") as socket:
        body = {"params": {"prompt": "a large red circle on a blue background", "seed": 7}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        types, previews, steps = [], 0, []
        for message in messages(socket):
            if isinstance(message, bytes):
                previews += 1
            elif message.get("kind") == "progress":
                steps.append(message["data"]["step"])
            elif message["op"] == "event" and message["stream"] == f"job/{job}":
                types.append(message["type"])
                if message["type"] in ("job-completed", "job-failed"):
                    break
    assert types[:2] == ["job-submitted", "job-leased"]
    assert types[-1] == "job-completed"
    assert previews >= 1
    assert steps == sorted(steps)
    assert 1 <= len(steps) <= 22
    result = client.get(f"/v1/jobs/{job}/result")
    assert result.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(result.content)).convert("RGB")
    assert picture.size == (512, 512)
    middle, corner = picture.getpixel((256, 256)), picture.getpixel((8, 8))
    assert middle[0] > 150 > max(middle[1:])
    assert corner[2] > 120 > corner[0]


def test_the_result_can_be_cached_for_ever_and_read_in_ranges(
    client: httpx.Client, service: ServiceProcess
) -> None:
    body = {"params": {"prompt": "a small green star on a white background", "seed": 1, "steps": 4}}
    job = finished(client, service, client.post("/v1/jobs", json=body).json()["id"])
    artifact = job["artifacts"][0]
    whole = client.get(artifact["url"])
    assert len(whole.content) == artifact["bytes"]
    assert "immutable" in whole.headers["cache-control"]
    assert "sandbox" in whole.headers["content-security-policy"]
    assert client.get(artifact["url"], headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    part = client.get(artifact["url"], headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")
    many = ",".join(f"{n}-{n}" for n in range(4000))
    assert client.get(artifact["url"], headers={"Range": f"bytes={many}"}).status_code in (200, 206, 400, 416)
    assert client.get("/v1/artifacts/" + "0" * 64).status_code == 404


def test_the_same_request_gives_the_same_picture(client: httpx.Client, service: ServiceProcess) -> None:
    body = {"params": {"prompt": "a medium yellow heart on a black background", "seed": 5, "steps": 6}}
    digests = {
        finished(client, service, client.post("/v1/jobs", json=body).json()["id"])["artifacts"][0]["digest"]
        for _ in range(2)
    }
    first, *others = digests
    pixels = [client.get(f"/v1/artifacts/{digest}").content for digest in digests]
    from PIL import Image, ImageChops

    opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in pixels]
    assert all(ImageChops.difference(opened[0], other).getbbox() is None for other in opened[1:]), (first, others)


def test_a_running_job_is_cancelled_within_a_step_and_the_next_one_runs(
    client: httpx.Client, service: ServiceProcess
) -> None:
    long = {"task": "pretend", "params": {"steps": 100, "step_s": 0.2}}
    job = client.post("/v1/jobs", json=long).json()["id"]
    following = client.post("/v1/jobs", json={"task": "pretend", "params": {}}).json()["id"]
    wait_for(lambda: (client.get(f"/v1/jobs/{job}").json()["progress"] or {}).get("step"), 30, "a first step")
    answer = client.post(f"/v1/jobs/{job}/cancel")
    assert answer.status_code == 202
    assert answer.json()["cancel_requested"]
    ended = finished(client, service, job)
    assert ended["status"] == "cancelled"
    events = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert [e["type"] for e in events][-2:] == ["job-cancel-requested", "job-cancelled"]
    assert events[-1]["data"]["step"] < 10
    assert finished(client, service, following)["status"] == "completed"


def test_a_job_that_fails_says_why(client: httpx.Client, service: ServiceProcess) -> None:
    job = client.post("/v1/jobs", json={"task": "pretend", "params": {"outcome": "failed"}}).json()["id"]
    ended = finished(client, service, job)
    assert ended["status"] == "failed"
    assert ended["error"]["kind"] == "internal"
    assert ended["error"]["message"]
    assert "/work" not in ended["error"]["message"]


def test_a_paused_queue_finishes_what_runs_and_starts_nothing(
    client: httpx.Client, service: ServiceProcess
) -> None:
    running = client.post("/v1/jobs", json={"task": "pretend", "params": {"steps": 5, "step_s": 0.1}}).json()["id"]
    wait_for(lambda: client.get(f"/v1/jobs/{running}").json()["status"] == "running", 30, "the job to run")
    client.post("/v1/queues/default/pause")
    waiting = client.post("/v1/jobs", json={"task": "pretend", "params": {}}).json()["id"]
    assert finished(client, service, running)["status"] == "completed"
    assert client.get(f"/v1/jobs/{waiting}").json()["status"] == "queued"
    client.post("/v1/queues/default/resume")
    assert finished(client, service, waiting)["status"] == "completed"


def test_priority_decides_who_is_next(client: httpx.Client, service: ServiceProcess) -> None:
    client.post("/v1/queues/default/pause")
    jobs = {
        priority: client.post("/v1/jobs", json={"task": "pretend", "params": {}, "priority": priority}).json()["id"]
        for priority in (10, 90, 50)
    }
    client.post("/v1/queues/default/resume")
    ended = {p: finished(client, service, job)["finished_at"] for p, job in jobs.items()}
    assert ended[90] < ended[50] < ended[10]
