"""Queues, workers, models, keys, events, health and the OpenAPI document, against a real service."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service
from web.openapi import OPERATIONS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("api"), "--no-worker") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def test_pause_and_resume_show_in_the_queue_and_its_counts(client: httpx.Client) -> None:
    client.post("/v1/jobs", json={"task": "pretend", "params": {}})
    assert client.post("/v1/queues/default/pause").json()["is_paused"]
    queue = client.get("/v1/queues/default").json()
    assert queue["is_paused"]
    assert queue["counts"]["queued"] >= 1
    assert client.get("/v1/queues").json()["queues"] == [queue]
    assert not client.post("/v1/queues/default/resume").json()["is_paused"]
    assert client.post("/v1/queues/nowhere/pause").status_code == 404


def test_models_without_a_worker_are_listed_and_not_available(client: httpx.Client) -> None:
    models = {m["id"]: m["is_available"] for m in client.get("/v1/models").json()["models"]}
    assert models == {"demo": False, "pretend": False}
    assert client.get("/v1/workers").json() == {"workers": []}


def test_a_tasks_schema_says_bounds_and_requires_only_what_no_default_fills(client: httpx.Client) -> None:
    tasks = {t["name"]: t["schema"] for t in client.get("/v1/tasks").json()["tasks"]}
    assert tasks["text-to-image"]["required"] == ["prompt"]
    assert tasks["text-to-image"]["properties"]["steps"]["maximum"] == 150
    assert tasks["text-to-image"]["properties"]["width"]["description"] == "px"


def test_a_key_is_shown_once_and_works_until_it_is_revoked(client: httpx.Client, service: ServiceProcess) -> None:
    made = client.post("/v1/keys", json={"name": "ops", "scopes": ["viewer"]})
    assert made.status_code == 201
    key = made.json()
    listed = client.get("/v1/keys").json()["keys"]
    (shown,) = (one for one in listed if one["id"] == key["id"])
    assert (shown["name"], shown["scopes"]) == ("ops", ["viewer"])
    assert "key" not in shown
    assert key["key"] not in str(listed)
    bearer = {"Authorization": f"Bearer {key['key']}"}
    assert client.get("/v1/jobs", headers=bearer).status_code == 200
    assert client.post("/v1/jobs", json={"params": {"prompt": "x"}}, headers=bearer).status_code == 403
    assert client.post("/v1/session", json={"key": key["key"]}).status_code == 204
    client.cookies.clear()
    assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
    assert client.get("/v1/jobs", headers=bearer).status_code == 401
    assert client.post("/v1/session", json={"key": key["key"]}).status_code == 401
    assert client.delete(f"/v1/keys/{key['id']}").status_code == 404
    assert key["key"].rpartition("_")[2] not in service.log()


def test_the_worker_key_is_a_file_only_the_owner_reads(service: ServiceProcess) -> None:
    path = service.data / "keys" / "worker.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("safelight_")


def test_the_log_is_read_in_pages(client: httpx.Client) -> None:
    page = client.get("/v1/events?after=0&limit=2").json()
    assert [e["position"] for e in page["events"]] == [1, 2]
    assert page["head"] >= 2
    assert client.get("/v1/events?after=-1").status_code == 422


def test_health_says_how_each_part_is(client: httpx.Client) -> None:
    assert client.get("/v1/health/live").status_code == 200
    assert client.post("/v1/jobs", json={"task": "pretend", "params": {}}).status_code == 201
    client.get("/v1/jobs")  # whoever reads has the views brought up
    health = client.get("/v1/health").json()
    assert health["status"] == "ready"
    assert health["log"]["head"] == health["views"]["position"]
    text = client.get("/metrics").text
    assert 'safelight_jobs{queue="default",status="queued"}' in text


def test_every_route_is_in_the_openapi_document_and_every_one_of_them_answers(client: httpx.Client) -> None:
    document = client.get("/v1/openapi.json").json()
    described = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert described == set(OPERATIONS)
    for method, path in described:
        answer = client.request(method, path.replace("{", "").replace("}", ""))
        assert answer.status_code < 500, (method, path)
        assert answer.status_code != 405, (method, path)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
def test_an_undocumented_method_or_path_is_a_problem_document(client: httpx.Client, method: str) -> None:
    assert client.request(method, "/v1/health").status_code == 405
    answer = client.request(method, "/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/not-found"


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/%00",
     "/v1/artifacts/..%2f..%2fkeys%2fworker.key", "/v1/artifacts/%2e%2e", "/static/....//app.py",
     "/static/..\\app.py"],
)  # fmt: skip
def test_no_path_leads_out_of_its_folder(service: ServiceProcess, path: str) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:  # as written: no client tidies it up
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split()[1] in (b"404", b"400")
    assert b"safelight_" not in answer
    assert b"import" not in answer


def test_a_host_beyond_this_machine_is_refused_without_a_key(tmp_path) -> None:  # type: ignore[no-untyped-def]
    done = subprocess.run(
        [sys.executable, "-m", "web.cli", "serve", "--data", str(tmp_path / "d"), "--host", "0.0.0.0"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "safelight keys create" in done.stderr


def test_a_second_service_on_the_same_data_is_told_who_has_it(service: ServiceProcess) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "web.cli", "serve", "--data", str(service.data), "--port", "0", "--no-worker"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"process {service.process.pid}" in done.stderr
