"""Jobs over HTTP against a real service without a worker: what is answered, refused and found again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service_process import ServiceProcess, running_service

PRETEND = {"task": "pretend", "params": {}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("api"), "--no-worker") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def test_a_submission_is_answered_with_the_job_and_where_it_is(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json={"params": {"prompt": "a fox"}, "priority": 60, "tags": ["t"]})
    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["Safelight-Position"]) == job["position"]
    assert (job["status"], job["task"], job["model"], job["queue"]) == (
        "queued",
        "text-to-image",
        "demo",
        "default",
    )
    assert job["params"]["prompt"] == "a fox"
    assert job["params"]["steps"] == 20
    assert job["rank"] is None, "it is no place in line that nobody can serve"
    assert "no worker is connected" in job["blocked"]
    assert client.get(answer.headers["Location"]).json() == job


def test_a_drawn_seed_is_recorded_and_safe_for_javascript(client: httpx.Client) -> None:
    seeds = {client.post("/v1/jobs", json={"params": {"prompt": "x"}}).json()["params"]["seed"] for _ in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_the_same_idempotency_key_gives_the_first_job_and_another_body_a_409(client: httpx.Client) -> None:
    header = {"Idempotency-Key": "k-1"}
    first = client.post("/v1/jobs", json=PRETEND, headers=header)
    again = client.post("/v1/jobs", json=PRETEND, headers=header)
    other = client.post("/v1/jobs", json={**PRETEND, "priority": 1}, headers=header)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json()["id"] == first.json()["id"]
    assert other.json()["type"] == "/problems/idempotency-conflict"


@pytest.mark.parametrize(
    ("body", "status", "kind", "field"),
    [
        ({"params": {}}, 422, "invalid-field", "params.prompt"),
        ({"params": {"prompt": "x", "stpes": 3}}, 422, "invalid-field", "params.stpes"),
        ({}, 422, "invalid-field", "params"),
        ([], 422, "invalid-field", ""),
        ({"params": {"prompt": ""}}, 422, "invalid-field", "params.prompt"),
        ({"params": {"prompt": "x", "steps": 1000}}, 422, "invalid-field", "params.steps"),
        ({"params": {"prompt": "x" * 4001}}, 422, "invalid-field", "params.prompt"),
        ({"params": {"prompt": "x\0"}}, 422, "invalid-field", "params.prompt"),
        ({"params": {"prompt": "x", "width": 1000}}, 422, "invalid-field", "params.width"),
        ({"params": []}, 422, "invalid-field", "params"),
        ({"params": {"prompt": "x"}, "priority": "high"}, 422, "invalid-field", "priority"),
        ({"params": {"prompt": "x"}, "priority": 101}, 422, "invalid-field", "priority"),
        ({"params": {"prompt": "x"}, "colour": 1}, 422, "invalid-field", "colour"),
        ({"params": {"prompt": "x"}, "task": "nothing"}, 422, "unknown-task", "task"),
        ({"params": {"prompt": "x"}, "model": "../../etc/passwd"}, 422, "unknown-model", "model"),
        ({"params": {"prompt": "x"}, "queue": "nowhere"}, 404, "unknown-queue", "queue"),
    ],
)
def test_a_bad_field_is_named(
    client: httpx.Client, body: object, status: int, kind: str, field: str | None
) -> None:
    answer = client.post("/v1/jobs", json=body)
    problem = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"/problems/{kind}"
    assert problem["status"] == status
    if field is not None:
        assert problem["field"] == field


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"\xff\xfe", b"nul", b"[1,2", b'{"params": NaN}', b'{"params": {"prompt": "\\ud800"}}',
        b"[]", b"3",
        b"[" * 100_000, b'{"params":' * 100_000, "\ufeff{}".encode(), '{"params": {}}'.encode("utf-16"),
        b'{"params": {"prompt": "x", "guidance": 1e400}}',
        b'{"params": {"prompt": "x", "steps": ' + b"9" * 5000 + b"}}",
    ],
    ids=range(15),
)  # fmt: skip
def test_broken_json_is_the_clients_fault(client: httpx.Client, raw: bytes) -> None:
    answer = client.post("/v1/jobs", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-pickle", "application/xml", "multipart/mixed"])
def test_only_json_is_read(client: httpx.Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert client.post("/v1/jobs", content=b"{}", headers=headers).status_code == 415


def test_a_body_over_a_megabyte_is_refused_unread(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", content=b" " * (1 << 21), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_a_twenty_megabyte_prompt_is_refused_however_it_is_sent(client: httpx.Client) -> None:
    head = client.get("/v1/health").json()["log"]["head"]
    body = json.dumps({"params": {"prompt": "x" * 20_000_000}}).encode()
    parts = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    for content in (body, parts):  # with a length, then in chunks
        answer = client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["type"] == "/problems/too-large"
        assert "1048576" in answer.json()["detail"]
    assert client.get("/v1/health").json()["log"]["head"] == head


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(
    st.sampled_from(["params", "task", "model", "queue", "priority", "tags", "prompt"]), JSON, max_size=5
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON | FIELDS)
def test_no_json_at_all_makes_it_stumble(client: httpx.Client, body: object) -> None:
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    answer = client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (201, 400, 404, 422)


def test_an_unknown_job_is_a_404_wherever_it_is_named(client: httpx.Client) -> None:
    for answer in (
        client.get("/v1/jobs/nobody"),
        client.post("/v1/jobs/nobody/cancel"),
        client.post("/v1/jobs/nobody/retry"),
        client.get("/v1/jobs/nobody/events"),
        client.get("/v1/jobs/nobody/result"),
    ):
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/unknown-job"


def test_a_waiting_job_is_cancelled_retried_and_its_history_tells_so(client: httpx.Client) -> None:
    job = client.post("/v1/jobs", json=PRETEND).json()["id"]
    assert client.post(f"/v1/jobs/{job}/retry").status_code == 409
    assert client.post(f"/v1/jobs/{job}/cancel").json()["status"] == "cancelled"
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    assert client.post(f"/v1/jobs/{job}/retry").json()["status"] == "queued"
    events = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert [e["type"] for e in events] == ["job-submitted", "job-cancelled", "job-retried"]
    assert [e["version"] for e in events] == [0, 1, 2]
    assert all(e["actor"] == "local" and e["cause"] for e in events)


def test_an_unfinished_job_has_no_result(client: httpx.Client) -> None:
    job = client.post("/v1/jobs", json=PRETEND).json()["id"]
    answer = client.get(f"/v1/jobs/{job}/result")
    assert (answer.status_code, answer.json()["job_status"]) == (409, "queued")


def test_pages_lead_through_all_jobs_and_back(client: httpx.Client) -> None:
    for _ in range(5):
        client.post("/v1/jobs", json=PRETEND)
    everything = [job["id"] for job in client.get("/v1/jobs?limit=1000&task=pretend").json()["jobs"]]
    first = client.get("/v1/jobs?limit=2&task=pretend").json()
    second = client.get(f"/v1/jobs?limit=2&task=pretend&cursor={first['next_cursor']}").json()
    back = client.get(f"/v1/jobs?limit=2&task=pretend&cursor={second['previous_cursor']}").json()
    assert [j["id"] for j in first["jobs"] + second["jobs"]] == everything[:4]
    assert back["jobs"] == first["jobs"]
    assert first["previous_cursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "limit=1e3",
        "cursor=5",
        "cursor=after:x",
        "order=up",
        "status=done",
    ],
)
def test_a_bad_query_is_named(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["field"] == query.partition("=")[0]


def test_the_newest_job_of_a_status(client: httpx.Client) -> None:
    job = client.post("/v1/jobs", json=PRETEND).json()["id"]
    assert client.get("/v1/jobs/latest").json()["id"] == job
    client.post(f"/v1/jobs/{job}/cancel")
    assert client.get("/v1/jobs/latest?status=cancelled").json()["id"] == job
    assert client.get("/v1/jobs/latest?status=completed").status_code == 404


def test_an_answer_shows_what_was_asked_just_before(client: httpx.Client) -> None:
    for _ in range(30):
        job = client.post("/v1/jobs", json=PRETEND).json()
        assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"
        assert client.get("/v1/jobs/latest").json()["id"] == job["id"]
        assert client.get("/v1/events", params={"after": job["position"] - 1}).json()["events"][0]["data"]["type"]
