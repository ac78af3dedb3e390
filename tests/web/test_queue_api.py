"""The queue over HTTP: options, batches, control, bulk, rules, limits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.service_process import ServiceProcess, running_service, wait_for

PRETEND = {"task": "pretend", "params": {}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("queue"), "--no-worker") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


@pytest.fixture
def queue(client: httpx.Client, request: pytest.FixtureRequest) -> str:
    """A queue of this test alone."""
    name = f"q-{abs(hash(request.node.name)) % 10**8}"
    assert client.put(f"/v1/queues/{name}", json={}).status_code == 200
    return name


def submit(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={**PRETEND, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def job_of(client: httpx.Client, job: str) -> dict[str, Any]:
    return client.get(f"/v1/jobs/{job}").json()  # type: ignore[no-any-return]


def ahead(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_options_of_a_submission_are_kept_and_shown(client: httpx.Client) -> None:
    said = {
        "metadata": {"order": "17"},
        "background": True,
        "hold": True,
        "not_before": ahead(3600),
        "start_deadline": ahead(7200),
        "finish_deadline": ahead(9000),
    }
    job = submit(client, **said)
    assert (job["status"], job["background"], job["metadata"]) == ("held", True, {"order": "17"})
    for field in ("not_before", "start_deadline", "finish_deadline"):
        shown = datetime.fromisoformat(job[field])
        assert abs(shown - datetime.fromisoformat(str(said[field]))) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"not_before": "2026-11-25T10:00:00"}, "not_before"),  # without an offset
        ({"not_before": "tomorrow"}, "not_before"),
        ({"start_deadline": "2020-01-01T00:00:00Z"}, "start_deadline"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"count": 0}, "count"),
        ({"count": 1001}, "count"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1], "count": 2}, "count"),
        ({"params": {"seed": 1}, "seeds": [2]}, "seeds"),
        ({"prompts": []}, "prompts"),
        ({"background": "yes"}, "background"),
        ({"callback": "ftp://example.org"}, "callback"),
    ],
)
def test_options_out_of_place_are_refused_by_name(client: httpx.Client, fields: dict[str, Any], field: str) -> None:
    before = client.get("/v1/events?after=0&limit=1").json()["head"]
    answer = client.post("/v1/jobs", json={**PRETEND, **fields})
    assert (answer.status_code, answer.json()["field"].split(".")[0].split("[")[0]) == (422, field), answer.text
    assert client.get("/v1/events?after=0&limit=1").json()["head"] == before


def test_a_batch_is_a_job_for_each_prompt_and_seed(client: httpx.Client) -> None:
    body = {"params": {"steps": 5}, "prompts": ["a fox", "a hare"], "seeds": [3, 4, 5], "tags": ["b"]}
    answer = client.post("/v1/jobs", json=body)
    batch = answer.json()
    assert (answer.status_code, batch["jobs"], batch["counts"]) == (201, 6, {"queued": 6})
    assert answer.headers["Location"] == f"/v1/batches/{batch['id']}"
    listed = client.get("/v1/jobs", params={"batch": batch["id"], "order": "oldest"}).json()["jobs"]
    assert [(job["params"]["prompt"], job["params"]["seed"]) for job in listed] == [
        (prompt, seed) for prompt in ("a fox", "a hare") for seed in (3, 4, 5)
    ]
    cancelled = client.post(f"/v1/batches/{batch['id']}/cancel").json()
    assert cancelled["counts"] == {"cancelled": 6}
    assert client.get("/v1/batches/nobody").status_code == 404


def test_a_count_draws_different_seeds_or_counts_on_from_the_one_given(client: httpx.Client) -> None:
    def seeds(**params: Any) -> list[int]:
        body = {"params": {"prompt": "a fox", **params}, "count": 4}
        batch = client.post("/v1/jobs", json=body).json()["id"]
        listed = client.get("/v1/jobs", params={"batch": batch, "order": "oldest"}).json()["jobs"]
        return [job["params"]["seed"] for job in listed]

    assert len(set(seeds())) == 4
    assert seeds(seed=7) == [7, 8, 9, 10]


def test_a_repeated_batch_is_the_same_batch(client: httpx.Client) -> None:
    body, headers = {**PRETEND, "count": 3}, {"Idempotency-Key": "batch-1"}
    first = client.post("/v1/jobs", json=body, headers=headers)
    again = client.post("/v1/jobs", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert client.post("/v1/jobs", json={**PRETEND, "count": 4}, headers=headers).status_code == 409


def test_a_job_is_held_released_moved_and_edited(client: httpx.Client, queue: str) -> None:
    jobs = [submit(client, queue=queue)["id"] for _ in range(3)]
    assert client.post(f"/v1/jobs/{jobs[0]}/hold").json()["status"] == "held"
    assert client.post(f"/v1/jobs/{jobs[0]}/release").json()["status"] == "queued"
    assert client.post(f"/v1/jobs/{jobs[2]}/move", json={"where": "before", "other": jobs[1]}).status_code == 200
    assert client.post(f"/v1/jobs/{jobs[2]}/move", json={"where": "sideways"}).json()["field"] == "where"
    edited = client.patch(
        f"/v1/jobs/{jobs[0]}", json={"priority": 70, "params": {"steps": 9}, "tags": ["x"]}
    ).json()
    assert (edited["priority"], edited["params"]["steps"], edited["tags"]) == (70, 9, ["x"])
    client.post(f"/v1/jobs/{jobs[1]}/cancel")
    back = client.patch(f"/v1/jobs/{jobs[1]}", json={"params": {"steps": 2}}).json()
    assert (back["status"], back["params"]["steps"]) == ("queued", 2)
    types = [e["type"] for e in client.get(f"/v1/jobs/{jobs[1]}/events").json()["events"]]
    assert types == ["job-submitted", "job-cancelled", "job-edited", "job-retried"]


def test_a_job_names_the_one_it_was_made_from(client: httpx.Client) -> None:
    first = submit(client)["id"]
    assert submit(client, parent=first)["parent"] == first
    assert client.post("/v1/jobs", json={**PRETEND, "parent": "nobody"}).status_code == 404


def test_a_scheduled_job_becomes_due_and_one_past_its_deadline_expires(client: httpx.Client) -> None:
    soon, late = submit(client, not_before=ahead(0.3)), submit(client, hold=True, start_deadline=ahead(0.3))
    assert soon["status"] == "scheduled"
    wait_for(lambda: job_of(client, soon["id"])["status"] == "queued", 10, "the job to become due")
    wait_for(lambda: job_of(client, late["id"])["status"] == "expired", 10, "the job to expire")
    assert job_of(client, late["id"])["expired"] == "start"
    assert client.get("/v1/jobs/latest?status=expired").json()["id"] == late["id"]


def test_a_bulk_action_counts_first_and_acts_on_exactly_what_was_counted(client: httpx.Client, queue: str) -> None:
    for number in range(20):
        submit(client, queue=queue, tags=["odd" if number % 2 else "even"])
    which = {"queue": queue, "tag": "odd"}
    counted = client.post("/v1/jobs/bulk", json={"action": "cancel", "which": which}).json()
    assert (counted["matched"], counted["done"]) == (10, None)
    changed = client.post("/v1/jobs/bulk", json={"action": "cancel", "which": which, "expected": 9})
    assert (changed.status_code, changed.json()["count"]) == (409, 10)
    done = client.post("/v1/jobs/bulk", json={"action": "cancel", "which": which, "expected": 10}).json()
    assert (done["matched"], done["done"], done["refused"]) == (10, 10, {})
    counts = next(q for q in client.get("/v1/queues").json()["queues"] if q["name"] == queue)["counts"]
    assert counts == {"queued": 10, "cancelled": 10}
    since = {"queue": queue, "since": ahead(-600)}
    retried = client.post("/v1/jobs/bulk", json={"action": "retry", "which": since, "expected": 10}).json()
    assert retried["done"] == 10
    assert client.post("/v1/jobs/bulk", json={"action": "burn", "which": {}}).status_code == 422


def test_capacity_is_exact_under_64_submitters(client: httpx.Client, service: ServiceProcess, queue: str) -> None:
    client.put(f"/v1/queues/{queue}", json={"capacity": 100})
    statuses: list[int] = []
    waits: list[int] = []

    def flood() -> None:
        with httpx.Client(base_url=service.url) as mine:
            for _ in range(5):
                answer = mine.post("/v1/jobs", json={**PRETEND, "queue": queue})
                statuses.append(answer.status_code)
                if answer.status_code == 429:
                    waits.append(int(answer.headers["Retry-After"]))

    threads = [threading.Thread(target=flood) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(statuses)) == [201, 429]
    assert statuses.count(201) == 100
    assert len(waits) == 220
    assert min(waits) >= 1
    shown = client.get(f"/v1/queues/{queue}").json()
    assert shown["counts"] == {"queued": 100}
    assert shown["rules"]["capacity"] == 100


def test_a_queue_is_drained_resumed_cleared_and_pruned(client: httpx.Client, queue: str) -> None:
    job = submit(client, queue=queue)["id"]
    submit(client, queue=queue, hold=True)
    cleared = client.post(f"/v1/queues/{queue}/clear").json()
    assert (cleared["matched"], cleared["done"]) == (2, 2)
    client.post(f"/v1/jobs/{job}/retry")
    assert client.post("/v1/queues/nowhere/clear").status_code == 404
    assert client.post(f"/v1/queues/{queue}/drain").json()["is_drained"]
    assert client.post("/v1/jobs", json={**PRETEND, "queue": queue}).json()["type"] == "/problems/queue-full"
    assert not client.post(f"/v1/queues/{queue}/resume").json()["is_drained"]
    client.post(f"/v1/jobs/{job}/cancel")
    assert client.post(f"/v1/queues/{queue}/prune").json()["counts"] == {}
    assert client.get(f"/v1/jobs/{job}").status_code == 404
    assert client.get(f"/v1/jobs/{job}/events").json()["events"], "the log keeps it"
    for name, body, status in (
        ("a/b", {}, 404),
        ("a b", {}, 422),
        (queue, {"policy": "random"}, 422),
        (queue, {"capacity": 0}, 422),
        (queue, {"capasity": 1}, 422),
    ):
        assert client.put(f"/v1/queues/{name}", json=body).status_code == status, (name, body)


def test_what_has_ended_is_sent_back_as_far_as_there_is_room(client: httpx.Client, queue: str) -> None:
    jobs = [submit(client, queue=queue)["id"] for _ in range(5)]
    client.post(f"/v1/queues/{queue}/clear")
    client.put(f"/v1/queues/{queue}", json={"capacity": 2})
    bulk = {"action": "retry", "which": {"queue": queue}, "expected": 5}
    done = client.post("/v1/jobs/bulk", json=bulk).json()
    assert (done["matched"], done["done"], done["refused"]) == (5, 2, {"queue-full": 3})
    assert client.get(f"/v1/queues/{queue}").json()["counts"] == {"queued": 2, "cancelled": 3}
    left = next(job for job in jobs if job_of(client, job)["status"] == "cancelled")
    answer = client.post(f"/v1/jobs/{left}/retry")
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/queue-full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert job_of(client, left)["status"] == "cancelled"
    operation = client.get("/v1/openapi.json").json()["paths"]["/v1/jobs/{job}/retry"]["post"]
    assert "429" in operation["responses"]


def test_a_key_is_limited_in_what_waits_and_in_how_fast_it_asks(client: httpx.Client, queue: str) -> None:
    key = client.post("/v1/keys", json={"name": "shop", "scopes": ["submitter"]}).json()
    mine = {"Authorization": f"Bearer {key['key']}"}
    limits = f"/v1/keys/{key['id']}/limits"
    assert client.put(limits, json={"max_waiting": 2}).json()["limits"]["max_waiting"] == 2
    body = {**PRETEND, "queue": queue}
    answers = [client.post("/v1/jobs", json=body, headers=mine) for _ in range(3)]
    assert [a.status_code for a in answers] == [201, 201, 429]
    assert answers[2].json()["limit"] == "waiting jobs"
    assert int(answers[2].headers["Retry-After"]) >= 1
    client.put(limits, json={"jobs_per_minute": 3})
    answers = [client.post("/v1/jobs", json={**body, "count": 2}, headers=mine) for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 429]
    assert answers[1].json()["limit"] == "submissions a minute"
    assert 1 <= int(answers[1].headers["Retry-After"]) <= 60
    assert client.post("/v1/jobs", json=body, headers=mine).status_code == 201, "the refused two were not counted"
    assert client.put("/v1/queues/mine", json={}, headers=mine).status_code == 403
    assert client.post("/v1/jobs/bulk", json={"action": "cancel", "which": {}}, headers=mine).status_code == 403


def test_the_service_starts_paused_after_a_crash_if_it_is_told_to(tmp_path: Any) -> None:
    with running_service(tmp_path, "--no-worker", "--pause-after-crash") as service:

        def is_paused() -> tuple[bool, str | None]:
            shown = httpx.get(f"{service.url}/v1/queues/default").json()
            return shown["is_paused"], shown["pause_reason"]

        assert is_paused() == (False, None)
        assert service.stop() == 0
        service.restart()
        assert is_paused() == (False, None), "it came to a good end"
        service.kill()
        service.restart()
        assert is_paused() == (True, "crash")
        httpx.post(f"{service.url}/v1/queues/default/resume")
        service.stop()
        service.restart()
        assert is_paused() == (False, None)
