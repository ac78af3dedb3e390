"""Webhooks over HTTP and on the command line, against a real service and a real receiver."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from tests.receiver import Receiver, receiving
from tests.service_process import ServiceProcess, running_service, wait_for
from tests.web.test_cli import facts, run


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("hooks")
    with running_service(folder, "--no-worker", "--webhook-allow", "127.0.0.1") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def made(client: httpx.Client, url: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def cancelled_job(client: httpx.Client) -> str:
    job = client.post("/v1/jobs", json={"params": {"prompt": "a private fox"}}).json()["id"]
    client.post(f"/v1/jobs/{job}/cancel")
    return str(job)


def delivery_of(client: httpx.Client, webhook: str, status: str = "delivered") -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        listed = client.get(f"/v1/webhooks/{webhook}/deliveries").json()["deliveries"]
        return next((d for d in listed if d["status"] == status and d["attempts"]), None)

    return wait_for(found, 10, f"a delivery that is {status}")  # type: ignore[no-any-return]


def test_a_webhook_is_told_of_a_job_and_everything_is_shown(
    client: httpx.Client, receiver: Receiver, service: ServiceProcess
) -> None:
    webhook = made(client, f"{receiver.url}/told", events=["job-submitted", "job-cancelled"], queues=["default"])
    job = cancelled_job(client)
    wait_for(lambda: len(receiver.to("/told")) == 2, 10, "two messages", service.log)
    payloads = [message.verified(webhook["secret"]) for message in receiver.to("/told")]
    assert [p["type"] for p in payloads] == ["job.submitted", "job.cancelled"]
    assert all(p["data"]["id"] == job for p in payloads)
    assert b"fox" not in b"".join(m.body for m in receiver.to("/told"))
    newest = delivery_of(client, webhook["id"])
    assert (newest["job"], newest["event"], newest["round"]) == (job, "job-cancelled", 1)
    assert [a["status"] for a in newest["attempts"]] == [204]
    assert client.get(f"/v1/webhooks/{webhook['id']}/deliveries/{newest['id']}").json() == newest
    page = client.get(f"/v1/webhooks/{webhook['id']}/deliveries?limit=1").json()
    assert (page["deliveries"], page["previous_cursor"]) == ([newest], None)
    older = client.get(f"/v1/webhooks/{webhook['id']}/deliveries?limit=1&cursor={page['next_cursor']}").json()
    assert [d["event"] for d in older["deliveries"]] == ["job-submitted"]
    assert older["next_cursor"] is None
    back = client.get(f"/v1/webhooks/{webhook['id']}/deliveries?limit=1&cursor={older['previous_cursor']}").json()
    assert back["deliveries"] == [newest]
    events = client.get("/v1/events?after=0&limit=1000").json()["events"]
    assert "webhook-delivered" in [e["type"] for e in events]


def test_the_secret_is_shown_once_and_neither_it_nor_the_address_is_in_the_events(
    client: httpx.Client, receiver: Receiver, service: ServiceProcess
) -> None:
    webhook = made(client, f"{receiver.url}/private?token=t0ken")
    rotated = client.post(f"/v1/webhooks/{webhook['id']}/rotate").json()
    assert webhook["secret"].startswith("whsec_")
    assert webhook["secret"] != rotated["secret"]
    for secret in (webhook["secret"], rotated["secret"]):
        for path in ("/v1/webhooks", f"/v1/webhooks/{webhook['id']}", "/v1/events?after=0&limit=1000"):
            assert secret not in client.get(path).text
        assert secret not in service.log()
    cancelled_job(client)
    delivery_of(client, webhook["id"])
    assert "t0ken" not in client.get("/v1/events?after=0&limit=1000").text
    assert "t0ken" not in service.log()
    assert "t0ken" in client.get(f"/v1/webhooks/{webhook['id']}").text


def test_a_ping_says_how_it_went(client: httpx.Client, receiver: Receiver) -> None:
    webhook = made(client, f"{receiver.url}/ping")
    answer = client.post(f"/v1/webhooks/{webhook['id']}/ping")
    assert answer.status_code == 202
    sent = delivery_of(client, webhook["id"])
    assert (sent["id"], sent["event"], sent["job"]) == (answer.json()["id"], "webhook-pinged", None)
    assert receiver.to("/ping")[0].verified(webhook["secret"])["data"] == {"webhook": webhook["id"]}


def test_a_refused_delivery_is_sent_again_by_hand_under_the_same_id(
    client: httpx.Client, receiver: Receiver
) -> None:
    receiver.answers["/again"].append(Response("not now", 500))
    webhook = made(client, f"{receiver.url}/again")
    cancelled_job(client)
    pending = delivery_of(client, webhook["id"], "pending")
    assert (pending["attempts"][0]["status"], pending["attempts"][0]["error"]) == (500, "not now")
    assert pending["next_attempt_at"] is not None
    answer = client.post(f"/v1/webhooks/{webhook['id']}/deliveries/{pending['id']}/redeliver")
    assert (answer.status_code, answer.json()["round"]) == (202, 2)
    assert delivery_of(client, webhook["id"])["id"] == pending["id"]
    assert len({m.id for m in receiver.to("/again")}) == 1


def test_a_webhook_is_changed_switched_and_removed(client: httpx.Client, receiver: Receiver) -> None:
    webhook = made(client, f"{receiver.url}/old")["id"]
    changed = client.patch(f"/v1/webhooks/{webhook}", json={"url": f"{receiver.url}/new", "is_enabled": False})
    assert (changed.json()["url"], changed.json()["disabled"]) == (f"{receiver.url}/new", "asked")
    cancelled_job(client)
    client.patch(f"/v1/webhooks/{webhook}", json={"is_enabled": True})
    cancelled_job(client)
    delivery_of(client, webhook)
    assert len(client.get(f"/v1/webhooks/{webhook}/deliveries").json()["deliveries"]) == 1
    assert client.delete(f"/v1/webhooks/{webhook}").status_code == 204
    for path in (f"/v1/webhooks/{webhook}", f"/v1/webhooks/{webhook}/deliveries"):
        assert client.get(path).status_code == 404
    assert receiver.to("/old") == []


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({"url": "http://10.0.0.1/"}, "url", "--webhook-allow 10.0.0.1"),
        ({"url": "https://169.254.169.254/latest"}, "url", "not public"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url", "not public"),
        ({"url": "http://example.org/"}, "url", "use https"),
        ({"url": "gopher://example.org/"}, "url", "'gopher'"),
        ({"url": "https://example.org/", "events": ["nothing"]}, "events[0]", "'nothing'"),
        ({"url": "https://example.org/", "queues": ["nowhere"]}, "queues[0]", "use default"),
        ({"url": 5}, "url", "5"),
        ({}, "url", "required"),
        ({"url": "https://example.org/", "secret": "mine"}, "secret", "no such field"),
    ],
)
def test_what_cannot_be_used_is_refused_by_field(
    client: httpx.Client, body: dict[str, Any], field: str, says: str
) -> None:
    answer = client.post("/v1/webhooks", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert says in answer.json()["detail"]


def test_what_is_not_there_or_not_for_that_is_refused(client: httpx.Client, receiver: Receiver) -> None:
    webhook = made(client, f"{receiver.url}/x")["id"]
    answer = client.post(f"/v1/webhooks/{webhook}/deliveries/msg_0/redeliver")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-delivery")
    answer = client.post("/v1/webhooks/callback/ping")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/built-in-webhook")
    assert client.get("/v1/webhooks/callback").json()["url"] is None
    assert client.get(f"/v1/webhooks/{webhook}/deliveries?cursor=x").status_code == 422


def test_only_an_admin_sees_webhooks(client: httpx.Client) -> None:
    key = client.post("/v1/keys", json={"name": "op", "scopes": ["operator"]}).json()["key"]
    for method, path in (
        ("GET", "/v1/webhooks"),
        ("POST", "/v1/webhooks"),
        ("GET", "/v1/webhooks/callback/deliveries"),
    ):
        answer = client.request(method, path, headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


def test_the_command_line_makes_pings_shows_and_removes(service: ServiceProcess, receiver: Receiver) -> None:
    webhook = facts("webhooks", "create", f"{receiver.url}/cli", "--event", "job-failed", url=service.url)
    name = webhook["id"]
    assert webhook["events"] == ["job-failed"]
    ping = run("webhooks", "ping", name, url=service.url)
    assert (ping.returncode, ping.stdout[:15]) == (0, "delivered: 204 ")
    receiver.answers["/cli"].append(Response("no [bold]room[/bold]", 500))
    failed = run("webhooks", "ping", name, url=service.url)
    assert (failed.returncode, "gave-up: 500 no [bold]room" in failed.stdout) == (1, True)
    listed = run("webhooks", "deliveries", name, url=service.url).stdout
    assert "gave-up" in listed
    (newest, _) = facts("webhooks", "deliveries", name, url=service.url)["deliveries"]
    assert facts("webhooks", "redeliver", name, newest["id"], url=service.url)["round"] == 2
    assert facts("webhooks", "change", name, "--disable", url=service.url)["is_enabled"] is False
    assert "disabled (asked)" in run("webhooks", "show", name, url=service.url).stdout
    assert facts("webhooks", "rotate", name, url=service.url)["secret"] != webhook["secret"]
    assert name in run("webhooks", "list", url=service.url).stdout
    assert run("webhooks", "delete", name, url=service.url).returncode == 0
    assert "is not known" in run("webhooks", "show", name, url=service.url).stderr


def test_an_exception_that_is_none_ends_serve_with_code_2(service: ServiceProcess) -> None:
    done: subprocess.CompletedProcess[str] = run("serve", "--webhook-allow", "10.0.0.0/99")
    assert done.returncode == 2
    assert "'10.0.0.0/99' is no host name, address or network" in done.stderr


def test_the_push_tells_of_a_webhook_without_its_secrets(service: ServiceProcess, receiver: Receiver) -> None:
    done = run("replay", "--data", str(service.data), "--export", "-")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    about = [line for line in lines if line["stream"].startswith("webhook/")]
    assert about
    assert all(line["private"] is None for line in about)


def test_a_job_and_a_batch_have_callbacks_of_their_own(
    client: httpx.Client, receiver: Receiver, service: ServiceProcess
) -> None:
    secret = client.post("/v1/webhooks/callback/rotate").json()["secret"]
    body = {"params": {"prompt": "a fox"}, "metadata": {"order": "17"}}
    job = client.post("/v1/jobs", json={**body, "callback": f"{receiver.url}/one?token=t0ken2"}).json()["id"]
    batch = client.post("/v1/jobs", json={**body, "count": 2, "callback": f"{receiver.url}/many"}).json()["id"]
    client.post(f"/v1/jobs/{job}/cancel")
    client.post(f"/v1/batches/{batch}/cancel")
    wait_for(
        lambda: receiver.to("/one") and len(receiver.to("/many")) == 2,
        10,
        "three callbacks",
        service.log,
    )
    (told,) = [message.verified(secret)["data"] for message in receiver.to("/one")]
    assert (told["id"], told["status"], told["metadata"]) == (job, "cancelled", {"order": "17"})
    assert {m.verified(secret)["data"]["batch"] for m in receiver.to("/many")} == {batch}
    assert "t0ken2" not in client.get("/v1/events?after=0&limit=1000").text
    refused = client.post("/v1/jobs", json={**body, "callback": "http://10.0.0.1/hook"})
    assert (refused.status_code, refused.json()["field"]) == (422, "callback")
