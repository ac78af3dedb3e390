"""Pictures over HTTP, against a real service without a GPU: what is stored, refused, and handed to whom."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from service import protocol as say
from service.artifacts import MAX_PICTURE_BYTES
from tests.service_process import ServiceProcess, running_service

FOX: dict[str, Any] = {"prompt": "a fox", "seed": 1}
UNKNOWN = "0" * 64


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("api"), "--no-worker") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def picture(width: int = 64, height: int = 48, kind: str = "PNG", colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


def bomb() -> bytes:
    """The header of a picture of 100,000 x 100,000 px in a file of 69 bytes."""
    whole = bytearray(picture(1, 1))
    whole[16:24] = struct.pack(">II", 100_000, 100_000)
    return bytes(whole)


def upload(client: httpx.Client, data: bytes, media_type: str = "image/png") -> httpx.Response:
    return client.post("/v1/artifacts", content=data, headers={"Content-Type": media_type})


def stored(client: httpx.Client, data: bytes) -> str:
    answer = upload(client, data)
    assert answer.status_code in (200, 201), answer.text
    assert answer.json()["digest"] == hashlib.sha256(data).hexdigest()
    return str(answer.json()["digest"])


def head(client: httpx.Client) -> int:
    return int(client.get("/v1/events", params={"limit": 1}).json()["head"])


@pytest.mark.parametrize(
    ("data", "media_type", "status", "says"),
    [
        (b"I am a text", "image/png", 422, "no PNG, JPEG or WebP picture"),
        (b"", "image/png", 422, "no PNG, JPEG or WebP picture"),
        (picture()[:-1], "image/png", 422, "cut off"),
        (bomb(), "image/png", 422, "100000 x 100000 px are not opened"),
        (picture(kind="JPEG"), "image/png", 422, "the bytes are image/jpeg, not image/png"),
        (picture(kind="GIF"), "image/gif", 415, "image/png or image/jpeg or image/webp"),
        (b"<svg/>", "image/svg+xml", 415, "is not accepted"),
        (picture(), "", 415, "is not accepted"),
        (bytes(MAX_PICTURE_BYTES + 1), "image/png", 413, f"the limit is {MAX_PICTURE_BYTES} bytes"),
    ],
    ids=range(9),
)
def test_what_is_no_picture_is_refused_and_nothing_of_it_is_kept(
    client: httpx.Client, service: ServiceProcess, data: bytes, media_type: str, status: int, says: str
) -> None:
    before = head(client)
    answer = upload(client, data, media_type)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json()["detail"]
    assert head(client) == before
    files = [path.name for path in (service.data / "artifacts").rglob("*") if path.is_file()]
    assert hashlib.sha256(data).hexdigest() not in files
    assert not any((service.data / "artifacts" / "incoming").iterdir())


def test_a_body_that_grows_too_long_without_saying_so_is_cut_off(client: httpx.Client) -> None:
    chunk = bytes(1 << 20)
    parts = (chunk for _ in range((MAX_PICTURE_BYTES >> 20) + 2))
    answer = client.post("/v1/artifacts", content=parts, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


def test_a_compressed_body_is_not_accepted(client: httpx.Client) -> None:
    headers = {"Content-Type": "image/png", "Content-Encoding": "gzip"}
    assert client.post("/v1/artifacts", content=picture(), headers=headers).status_code == 415


@pytest.mark.parametrize(
    ("task", "changed", "field", "says"),
    [
        (
            "image-to-image",
            {"image": UNKNOWN},
            "params.image",
            "is stored; upload it first with POST /v1/artifacts",
        ),
        ("image-to-image", {}, "params.image", "required"),
        ("image-to-image", {"image": "../../log.db"}, "params.image", ""),
        ("image-to-image", {"image": ["x"]}, "params.image", ""),
        ("image-to-image", {"image": None}, "params.image", "required"),
        ("image-to-image", {"image": "RED", "strength": 0}, "params.strength", "0"),
        ("image-to-image", {"image": "RED", "width": 256}, "params.width", "256 x 512 px is no size of model demo"),
        ("text-to-image", {"image": "RED"}, "params.image", ""),
        ("inpaint", {"image": "RED"}, "params.mask", "required"),
        ("inpaint", {"image": "RED", "mask": UNKNOWN}, "params.mask", "is stored"),
        ("inpaint", {"image": "RED", "mask": "SMALL"}, "params.mask", "32 x 32 px and the image 64 x 48"),
    ],
    ids=range(11),
)
def test_a_job_that_cannot_start_from_its_pictures_is_refused(
    client: httpx.Client, task: str, changed: dict[str, Any], field: str, says: str
) -> None:
    known = {"RED": stored(client, picture()), "SMALL": stored(client, picture(32, 32))}
    before = head(client)
    params = {**FOX, **{name: known.get(str(value), value) for name, value in changed.items()}}
    answer = client.post("/v1/jobs", json={"task": task, "params": params})
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert says in answer.json()["detail"]
    assert head(client) == before


def test_a_mask_that_an_edit_brings_must_fit_too(client: httpx.Client) -> None:
    red, small = stored(client, picture()), stored(client, picture(32, 32))
    blue = stored(client, picture(colour="blue"))
    params = {**FOX, "image": red, "mask": red}
    job = client.post("/v1/jobs", json={"task": "inpaint", "params": params, "hold": True}).json()["id"]
    refused = client.patch(f"/v1/jobs/{job}", json={"params": {"mask": small}})
    assert (refused.status_code, refused.json()["field"]) == (422, "params.mask")
    edited = client.patch(f"/v1/jobs/{job}", json={"params": {"mask": blue}})
    assert edited.json()["params"]["mask"] == blue
    assert client.patch(f"/v1/jobs/{job}", json={"priority": 60}).status_code == 200


def test_every_job_of_a_batch_starts_from_the_picture(client: httpx.Client) -> None:
    params = {"prompt": "a fox", "image": stored(client, picture())}
    batch = client.post("/v1/jobs", json={"task": "image-to-image", "params": params, "count": 3}).json()
    jobs = client.get("/v1/jobs", params={"batch": batch["id"]}).json()["jobs"]
    assert [job["params"]["image"] for job in jobs] == [params["image"]] * 3


JOB = ("job", (None, json.dumps({"task": "image-to-image", "params": FOX}), "application/json"))
IMAGE = ("image", ("a.png", picture(), "image/png"))


def test_the_job_of_a_form_may_be_a_file(client: httpx.Client) -> None:
    as_file = ("job", ("job.json", JOB[1][1], "application/json"))
    answer = client.post("/v1/jobs", files=[IMAGE, as_file])
    assert answer.status_code == 201, answer.text
    assert answer.json()["params"]["image"] == hashlib.sha256(picture()).hexdigest()


def test_a_large_picture_of_a_form_arrives_whole(client: httpx.Client) -> None:
    file = io.BytesIO()
    Image.effect_noise((1600, 1600), 90).save(file, "PNG")
    data = file.getvalue()
    assert len(data) > 2 << 20, "more than is held in memory"
    answer = client.post("/v1/jobs", files=[JOB, ("image", ("a.png", data, "image/png"))])
    digest = answer.json()["params"]["image"]
    assert digest == hashlib.sha256(data).hexdigest()
    assert client.get(f"/v1/artifacts/{digest}").content == data


@pytest.mark.parametrize(
    ("parts", "status", "field", "says"),
    [
        ([IMAGE], 422, "job", "this part is missing"),
        ([JOB], 422, "params.image", "required"),
        ([JOB, ("image", ("a.png", b"text", "image/png"))], 422, "image", "no PNG, JPEG or WebP picture"),
        ([JOB, ("image", ("a.png", bomb(), "image/png"))], 422, "image", "are not opened"),
        ([JOB, ("image", ("a.gif", picture(kind="GIF"), "image/gif"))], 415, "image", "is not accepted"),
        ([JOB, ("photo", IMAGE[1])], 422, "photo", "send job and, as files, image or mask"),
        ([JOB, IMAGE, IMAGE], 422, "image", "more than once"),
        ([JOB, IMAGE, ("mask", IMAGE[1])], 422, "params.mask", ""),
        ([JOB, ("image", (None, "text", "text/plain"))], 400, None, "Too many fields"),
        ([("job", (None, "{", "application/json")), IMAGE], 400, None, "no JSON document"),
        ([("job", (None, "x" * (2 << 20), "application/json"))], 400, None, "maximum size"),
        ([JOB, *[(f"f{n}", IMAGE[1]) for n in range(9)]], 400, None, "Too many files"),
    ],
    ids=range(12),
)
def test_a_form_that_cannot_be_used_is_refused_and_appends_nothing(
    client: httpx.Client, parts: list[Any], status: int, field: str | None, says: str
) -> None:
    before = head(client)
    answer = client.post("/v1/jobs", files=parts)
    problem = answer.json()
    assert (answer.status_code, problem.get("field")) == (status, field), problem
    assert says in problem["detail"]
    assert head(client) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(st.binary(max_size=400), st.builds(lambda rest: b"--b\r\n" + rest, st.binary(max_size=400))),
    kind=st.sampled_from(
        ["", "; boundary=b", '; boundary="', "; boundary=" + "b" * 300, "; charset=x; boundary=b"]
    ),
)
def test_no_form_is_the_services_fault(client: httpx.Client, body: bytes, kind: str) -> None:
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": f"multipart/form-data{kind}"})
    assert answer.status_code in (400, 415, 422), answer.text


def test_a_picture_nobody_has_stored_is_not_found(client: httpx.Client) -> None:
    answer = client.get(f"/v1/artifacts/{UNKNOWN}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


def leased(socket: ClientConnection) -> say.Start:
    """Take the next job that is offered, as a worker."""
    device = say.DeviceInfo(kind="cpu", name="none")
    models = {"image-to-image": ("demo",)}
    hello = say.Hello(protocol=1, worker="w", boot="b", models=models, device=device, slots=1, versions={})
    socket.send(say.encode(hello))
    socket.send(say.encode(say.Ready(slots=1)))
    while True:
        match say.to_worker(socket.recv(timeout=30)):  # type: ignore[arg-type]
            case say.Offer(offer=offer):
                socket.send(say.encode(say.Accept(offer=offer)))
            case say.Start() as start:
                return start


def test_a_worker_is_given_what_its_job_starts_from_and_nothing_else(
    client: httpx.Client, service: ServiceProcess
) -> None:
    for job in client.get("/v1/jobs", params={"status": "queued"}).json()["jobs"]:
        client.post(f"/v1/jobs/{job['id']}/cancel")
    data = picture(colour="green")
    mine, other = stored(client, data), stored(client, picture())
    params = {**FOX, "image": mine}
    job = client.post("/v1/jobs", json={"task": "image-to-image", "params": params}).json()["id"]
    key = {"Authorization": f"Bearer {(service.data / 'keys' / 'worker.key').read_text().strip()}"}
    address = service.url.replace("http://", "ws://") + "/v1/worker"
    with connect(address, additional_headers=key, subprotocols=[say.SUBPROTOCOL]) as socket:  # type: ignore[list-item]
        start = leased(socket)
        assert start.job == job
        held = {"job": job, "attempt": start.attempt, "token": start.token}

        def asked(digest: str, headers: dict[str, str] = key, **changed: object) -> httpx.Response:
            return client.get(f"/v1/worker/artifacts/{digest}", params={**held, **changed}, headers=headers)

        given_ = asked(mine)
        assert (given_.status_code, given_.content, given_.headers["content-type"]) == (200, data, "image/png")
        assert asked(other).status_code == 404
        assert asked(UNKNOWN).status_code == 404
        assert asked(mine, token=start.token + 1).status_code == 409
        assert asked(mine, job="another").status_code == 409
        assert asked(mine, headers={}).status_code == 403
        assert client.get(f"/v1/artifacts/{mine}", headers=key).status_code == 403
        client.post(f"/v1/jobs/{job}/cancel")
        socket.send(say.encode(say.Stopped(number=1, step=0, **held)))  # type: ignore[arg-type]
        while not isinstance(say.to_worker(socket.recv(timeout=30)), say.Acknowledge):  # type: ignore[arg-type]
            pass
        assert asked(mine).status_code == 409, "the lease is over"
