"""No-op jobs through everything: HTTP, log, dispatcher, worker agent, its child process, and back.

The task `pretend` with one step of no length: what is left is what Safelight itself costs. The real service with
its real local worker; nothing is measured inside of them but the instants that the log records.
"""

from __future__ import annotations

import statistics
import time
from datetime import datetime

import msgspec

from benchmarks import load
from benchmarks.measure import Bar, Row, against, fdatasync_s, figure, in_turn
from benchmarks.processes import Server, bare, get, has_worker, service, until

BODY = msgspec.json.encode({"task": "pretend", "params": {"steps": 1, "step_s": 0}})
ASKED = load.request("POST", "/v1/jobs", BODY)
CLIENTS = 16
FINISH_S = 120.0


def rows(quick: bool) -> list[Row]:
    """Jobs a second in turn with a bare route, and how soon one job starts when nothing else goes on."""
    jobs = 200 if quick else 1500
    with service("--worker-model", "pretend") as ours, bare() as beside:
        until(lambda: has_worker(ours.port), 60, "the worker to connect")
        _throughput(ours, 100)  # warm
        mine, others = in_turn(
            2 if quick else 5,
            [
                lambda: _throughput(ours, jobs),
                lambda: load.run(beside.port, ASKED, clients=CLIENTS, answers=2000).per_s,
            ],
        )
        throughput = against(
            "no-op jobs through HTTP, worker and back",
            "/s",
            mine,
            others,
            "bare Starlette route",
            bar=Bar(300, is_floor=True),
            note=f"{jobs} jobs by {CLIENTS} clients, until the last is seen completed",
        )
        return [throughput, *_latencies(ours, beside, 2 if quick else 5, 10 if quick else 40)]


def _throughput(ours: Server, jobs: int) -> float:
    """Jobs a second, from the first request until GET /v1/queues counts the last one as completed."""
    before = _completed(ours.port)
    began_at = time.perf_counter()
    load.run(ours.port, ASKED, clients=CLIENTS, answers=jobs)
    until(lambda: _completed(ours.port) >= before + jobs, FINISH_S, f"{jobs} jobs to complete")
    return jobs / (time.perf_counter() - began_at)


def _completed(port: int) -> int:
    queues = get(port, "/v1/queues")["queues"]
    return sum(queue["counts"].get("completed", 0) for queue in queues)  # type: ignore[attr-defined]


def _latencies(ours: Server, beside: Server, rounds: int, jobs: int) -> list[Row]:
    began: list[float] = []
    leased: list[float] = []
    ended: list[float] = []
    floors: list[float] = []
    for _ in range(rounds):
        instants = [_one(ours.port) for _ in range(jobs)]
        for kept, moments in zip((leased, began, ended), zip(*instants, strict=True), strict=True):
            kept.append(statistics.median(moments) * 1e3)
        floors.append((load.run(beside.port, ASKED, clients=1, answers=200).p50_s + fdatasync_s(ours.folder)) * 1e3)
    beside_is = "bare route + one fdatasync"
    return [
        against(
            "idle service: submit sent to computing begun, p50", "ms", began, floors, beside_is, bar=Bar(8.0),
            note="the child's first phase as the log records it, two commits after the submission",
        ),
        Row(name="idle service: submit sent to lease recorded, p50", unit="ms", ours=figure(leased)),
        Row(name="idle service: submit sent to completion recorded, p50", unit="ms", ours=figure(ended)),
    ]  # fmt: skip


def _one(port: int) -> tuple[float, float, float]:
    """Seconds from sending one submission to its lease, its first phase and its end, as the log records them."""
    client = load.Client(port)
    time.sleep(0.03)  # idle: whatever the last job left to do is done
    sent_at = time.time()
    job = msgspec.json.decode(client.ask(ASKED))["id"]
    time.sleep(0.03)  # not polled while it runs
    until(lambda: get(port, f"/v1/jobs/{job}")["status"] == "completed", FINISH_S, f"job {job} to complete")
    client.close()
    events = get(port, f"/v1/jobs/{job}/events")["events"]
    at = {event["type"]: _seconds(event["at"]) - sent_at for event in events}  # type: ignore[attr-defined]
    return at["job-leased"], at["job-phase-entered"], at["job-completed"]


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
