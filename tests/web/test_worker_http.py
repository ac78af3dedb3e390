"""The workers' HTTP protocol over the wire: a job from claim to picture, what is refused, what subscribers see."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from websockets.sync.client import connect

from tests.http_worker import HttpWorker, answer_of, artifact, png
from tests.service_process import ServiceProcess, running_service, wait_for

PRETEND = {"task": "pretend", "params": {"steps": 3}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("http"), "--no-worker", "--lease", "20") as service:
        yield service


@pytest.fixture
def worker(service: ServiceProcess) -> Iterator[HttpWorker]:
    worker = HttpWorker(service)
    worker.hello()
    yield worker
    worker.drain()
    worker.client.close()


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def submit(client: httpx.Client, **fields: Any) -> str:
    answer = client.post("/v1/jobs", json={**PRETEND, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def job_of(client: httpx.Client, job: str) -> dict[str, Any]:
    return client.get(f"/v1/jobs/{job}").json()  # type: ignore[no-any-return]


def test_a_job_goes_from_claim_to_picture(client: httpx.Client, worker: HttpWorker) -> None:
    job = submit(client)
    attempt, lease = worker.claim()
    assert (lease["job"], lease["task"], lease["model"], lease["lease_s"]) == (job, "pretend", "pretend", 20)
    assert lease["params"] == {"steps": 3, "step_s": 0.0, "outcome": "completed"}
    nothing = {"cancel": [], "stale": [], "previews": False}
    assert worker.say("phase", attempt, phase="denoising").json() == nothing
    assert worker.say("progress", attempt, step=2, steps=3, phase="denoising").json() == nothing
    assert job_of(client, job)["progress"]["step"] == 2
    picture = png(1)
    assert worker.upload(attempt, picture).status_code == 201
    done = worker.say("complete", attempt, artifacts=[artifact(picture)], facts={"timings": {"denoising": 0.1}})
    assert done.json() == nothing
    assert job_of(client, job)["status"] == "completed"
    assert client.get(f"/v1/jobs/{job}/result").content == picture


def test_private_params_reach_the_worker(client: httpx.Client, service: ServiceProcess) -> None:
    artist = HttpWorker(service, "artist")
    artist.who["models"] = {"text-to-image": ["demo"]}
    artist.hello()
    submit(client, task="text-to-image", params={"prompt": "a secret"})
    attempt, lease = artist.claim()
    assert lease["params"]["prompt"] == "a secret"
    assert artist.say("fail", attempt, kind="invalid-input", message="no secrets").status_code == 200
    artist.drain()


def test_a_completion_waits_for_its_files(client: httpx.Client, worker: HttpWorker) -> None:
    job, picture = submit(client), png(2)
    attempt, _ = worker.claim()
    early = worker.say("complete", attempt, artifacts=[artifact(picture)])
    assert early.status_code == 422
    assert early.json()["field"] == "artifacts[0].digest"
    assert job_of(client, job)["status"] == "running", "the attempt goes on"
    worker.upload(attempt, picture)
    other = worker.say("complete", attempt, artifacts=[{**artifact(picture), "bytes": 7}])
    assert (other.status_code, other.json()["field"]) == (422, "artifacts[0].bytes")
    assert worker.say("complete", attempt, artifacts=[artifact(picture)]).status_code == 200


def test_a_completion_said_again_is_answered_alike_and_has_one_effect(
    client: httpx.Client, worker: HttpWorker
) -> None:
    job = submit(client)
    attempt, _ = worker.claim()
    assert [worker.say("complete", attempt, artifacts=[]).status_code for _ in range(3)] == [200] * 3
    types = [event["type"] for event in client.get(f"/v1/jobs/{job}/events").json()["events"]]
    assert types == ["job-submitted", "job-leased", "job-completed"]


def test_a_failure_ends_its_job_or_has_it_tried_again(client: httpx.Client, worker: HttpWorker) -> None:
    job = submit(client)
    attempt, _ = worker.claim()
    worker.say("fail", attempt, kind="internal", message="a cable came loose")
    assert job_of(client, job)["status"] in ("scheduled", "queued")
    attempt, _ = worker.claim()
    assert (attempt["job"], attempt["attempt"]) == (job, 2)
    worker.say("fail", attempt, kind="invalid-input", message="that is not to be drawn")
    assert job_of(client, job)["error"]["message"] == "that is not to be drawn"


def test_a_cancel_is_in_the_next_answer(client: httpx.Client, worker: HttpWorker) -> None:
    job = submit(client)
    attempt, _ = worker.claim()
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 202
    orders = worker.say("progress", attempt, step=1, steps=3).json()
    assert orders["cancel"] == [{"job": job, "attempt": 1}]
    assert worker.say("stopped", attempt, step=1).json()["cancel"] == []
    assert job_of(client, job)["status"] == "cancelled"
    late = worker.say("heartbeat", running=[attempt]).json()
    assert late["stale"] == [{"job": job, "attempt": 1}]


def test_a_stale_report_is_refused_in_words(client: httpx.Client, worker: HttpWorker) -> None:
    submit(client)
    attempt, _ = worker.claim()
    worker.say("stopped", attempt)
    for word, fields in (
        ("complete", {"artifacts": []}),
        ("fail", {"kind": "internal", "message": "x"}),
        ("phase", {"phase": "p"}),
        ("progress", {"step": 1, "steps": 2}),
        ("stopped", {}),
    ):
        answer = worker.say(word, attempt, **fields)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/stale-attempt"), word
        assert "drop it" in answer.json()["detail"]
    assert worker.upload(attempt, png(3)).status_code == 409
    attempt, _ = worker.claim()
    worker.say("complete", attempt, artifacts=[])


def test_an_unknown_session_is_told_to_say_hello(service: ServiceProcess) -> None:
    nobody = HttpWorker(service)
    nobody.session = "gone"
    for answer in (nobody.say("claim", claim="c"), nobody.say("heartbeat", running=[]), nobody.drain()):
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-session")
        assert "say hello again" in answer.json()["detail"]


def test_a_newer_process_of_the_name_fences_the_older_one(service: ServiceProcess, worker: HttpWorker) -> None:
    newer = HttpWorker(service, boot="b2")
    newer.hello()
    answer = worker.say("claim", claim="c")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/fenced-boot")
    newer.drain()


@pytest.mark.parametrize(
    ("word", "body", "field"),
    [
        ("", {"worker": "no/slash"}, "worker"),
        ("", {"worker": ""}, "worker"),
        ("", {"boot": ""}, "boot"),
        ("", {"models": {}}, "models"),
        ("", {"models": {"no-such-task": ["demo"]}}, "task"),
        ("", {"device": {"kind": "abacus", "name": "x"}}, "device.kind"),
        ("", {"slots": 0}, "slots"),
        ("", {"running": [{"job": "j", "attempt": 0, "token": 1}]}, "running[0].attempt"),
        ("", {"wait_s": 1}, "wait_s"),
        ("/claim", {"claim": "", "wait_s": 1}, "claim"),
        ("/claim", {"claim": "c", "wait_s": -1}, "wait_s"),
        ("/claim", {"claim": "c", "wait_s": 1e9}, "wait_s"),
        ("/heartbeat", {}, "running"),
        ("/progress", {"job": "j", "attempt": 1, "token": 1, "step": 1}, "steps"),
        ("/progress", {"job": "j", "attempt": 1, "token": "1", "step": 1, "steps": 1}, "token"),
        ("/progress", {"job": "j", "attempt": 1, "token": 1, "step": 1, "steps": 1, "preview": {
            "media_type": "image/png", "width": 1, "height": 1, "data": "no base64!"}}, "preview.data"),
        ("/progress", {"job": "j", "attempt": 1, "token": 1, "step": 1, "steps": 1, "preview": {
            "media_type": "image/png", "width": 1, "height": 1,
            "data": base64.b64encode(bytes(70_000)).decode()}}, "preview.data"),
        ("/phase", {"job": "j", "attempt": 1, "token": 1, "phase": "p" * 65}, "phase"),
        ("/complete", {"job": "j", "attempt": 1, "token": 1}, "artifacts"),
        ("/complete", {"job": "j", "attempt": 1, "token": 1, "artifacts": [
            {"digest": "../../etc", "media_type": "image/png", "bytes": 1}]}, "artifacts[0].digest"),
        ("/fail", {"job": "j", "attempt": 1, "token": 1, "kind": "lost", "message": "x"}, "kind"),
        ("/fail", {"job": "j", "attempt": 1, "token": 1, "kind": "internal", "message": ""}, "message"),
        ("/stopped", {"job": "j", "attempt": 1, "token": 1, "step": -1}, "step"),
    ],
)  # fmt: skip
def test_a_field_out_of_place_is_named_and_changes_nothing(
    client: httpx.Client, worker: HttpWorker, word: str, body: dict[str, Any], field: str
) -> None:
    head = client.get("/v1/health").json()["log"]["head"]
    whole = {**worker.who, **body} if word == "" else body
    path = "/v1/worker/sessions" + (f"/{worker.session}" if word else "")
    answer = worker.client.post(path + word, json=whole)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert client.get("/v1/health").json()["log"]["head"] == head


def test_what_is_no_json_is_refused(worker: HttpWorker) -> None:
    path = f"/v1/worker/sessions/{worker.session}/heartbeat"
    assert worker.client.post(path, content=b"running=1").status_code == 415
    typed = {"Content-Type": "application/json"}
    assert worker.client.post(path, content=b"{", headers=typed).status_code == 400
    assert worker.client.post(path, content=b" " * (1 << 21), headers=typed).status_code == 413
    assert worker.client.get(path).status_code == 405


def test_another_scope_does_not_open_the_protocol(client: httpx.Client, worker: HttpWorker) -> None:
    key = client.post("/v1/keys", json={"name": "s", "scopes": ["submitter", "operator"]}).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    assert client.post("/v1/worker/sessions", json=worker.who, headers=headers).status_code == 403
    assert client.get("/v1/jobs", headers=worker.client.headers).status_code == 403


def test_progress_and_previews_reach_a_subscriber(
    client: httpx.Client, worker: HttpWorker, service: ServiceProcess
) -> None:
    address = service.url.replace("http://", "ws://")
    with connect(f"{address}/v1/events?previews=1", subprotocols=["safelight.v1"], compression=None) as subscriber:  # type: ignore[list-item]
        job = submit(client)
        attempt, _ = worker.claim()
        wait_for(lambda: worker.say("heartbeat", running=[attempt]).json()["previews"], 10, "previews to be wanted")
        picture = {"media_type": "image/png", "width": 1, "height": 1, "data": base64.b64encode(png(9)).decode()}
        worker.say("progress", attempt, step=2, steps=3, phase="denoising", message="halfway", preview=picture)
        steps, previews = [], []
        while not (steps and previews):
            frame = subscriber.recv(timeout=20)
            if isinstance(frame, bytes):
                previews.append(frame)
                continue
            decoded = msgspec.json.decode(frame)
            for message in decoded if isinstance(decoded, list) else [decoded]:
                if message.get("kind") == "progress" and message["job"] == job:
                    steps += [message["data"]["step"]]
        worker.say("complete", attempt, artifacts=[])
    assert steps == [2]
    assert previews[0].endswith(png(9))


def test_a_waiting_claim_is_answered_within_milliseconds_of_a_submission(
    client: httpx.Client, worker: HttpWorker
) -> None:
    taken_s = []
    for _ in range(9):
        with worker.waiting_claim() as connection:
            began_at = time.monotonic()
            submit(client)
            _, lease = answer_of(connection)
            taken_s.append(time.monotonic() - began_at)
        worker.say("complete", {name: lease[name] for name in ("job", "attempt", "token")}, artifacts=[])
    assert sorted(taken_s)[4] < 0.25, f"{taken_s}: a poll that asks every second would take longer"


def test_claims_that_wait_cost_nothing(service: ServiceProcess) -> None:
    process = psutil.Process(service.process.pid)
    with ExitStack() as stack:
        for number in range(30):
            idle = HttpWorker(service, f"idle-{number}")
            idle.hello()
            stack.callback(idle.drain)
            stack.enter_context(idle.waiting_claim())
        before = process.cpu_times()
        time.sleep(2)  # what is measured
        after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.3, "seconds of a processor in two seconds"


def test_nothing_is_leased_to_a_client_that_hung_up(client: httpx.Client, worker: HttpWorker) -> None:
    with worker.waiting_claim():
        pass
    for _ in range(2):  # the service has heard of the end of the connection before this
        worker.say("heartbeat", running=[])
    job = submit(client)
    assert job_of(client, job)["status"] == "queued"
    attempt, _ = worker.claim()
    assert attempt["job"] == job
    worker.say("complete", attempt, artifacts=[])


def test_a_service_that_ends_answers_the_claims_that_wait(tmp_path: Path) -> None:
    with running_service(tmp_path, "--no-worker") as service:
        worker = HttpWorker(service)
        worker.hello()
        with worker.waiting_claim() as connection:
            began_at = time.monotonic()
            assert service.stop() == 0
            assert answer_of(connection) == (204, None)
        assert time.monotonic() - began_at < 8, "the claim would have waited for 15 s"
