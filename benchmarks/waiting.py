"""What 10,000 waiting jobs cost: handing one out, submitting one more, cancelling a thousand, a forecast."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import msgspec

from benchmarks import load
from benchmarks.measure import Bar, Row, against, figure, in_turn
from benchmarks.processes import service
from benchmarks.submit import ASKED
from events.envelope import Draft, Record
from events.jobs import JobSubmitted
from events.queues import QueueConfigured, QueueCreated, Rules
from events.workers import Device, WorkerRegistered
from projections.live import LiveState, LiveWorker
from service.scheduling.eta import Running, Worker, forward
from service.scheduling.line import PickLine
from service.scheduling.pick import pick
from service.tasks.catalog import EMBEDDED

JOBS = 10_000
TAGS = 10
BATCH = 1_000
MODELS = ("demo", "other", "third")
CROWDS = {"one submitter": 1, "1,000 submitters": 1_000}


def rows(quick: bool) -> list[Row]:
    """Milliseconds of the pure scheduler, and of requests."""
    return [*_scheduler(quick), *_requests(quick)]


def _scheduler(quick: bool) -> list[Row]:
    found = []
    rounds = 20 if quick else 200
    for policy in ("fifo", "fair"):
        for crowd, submitters in CROWDS.items():
            state = waiting(JOBS, submitters, policy)
            handing = partial(pick, state, state.workers["w0"], 1, (), EMBEDDED)
            taken = [_ms(handing) for _ in range(rounds)]
            name = f"handing out one of {JOBS:,} waiting jobs, {policy}, {crowd}"
            found.append(Row(name=name, unit="ms", ours=figure(taken), bar=Bar(1.0)))
    state = waiting(100, 20, "fair")
    taken = [_ms(lambda: _forecast(state)) for _ in range(rounds)]
    name = "forecast over 100 waiting jobs, 4 workers, the real scheduler"
    found.append(Row(name=name, unit="ms", ours=figure(taken), bar=Bar(5.0)))
    return found


def _requests(quick: bool) -> list[Row]:
    rounds = 3 if quick else 9
    with service("--no-worker") as full, service("--no-worker") as empty:
        for tag in range(TAGS):
            _ask(full.port, "/v1/jobs", {**_body(), "count": BATCH, "tags": [f"t{tag}"]})
        for server in (full, empty):
            load.run(server.port, ASKED, clients=16, answers=300)  # warm
        answers = 60 if quick else 250

        def p50_ms(port: int) -> float:
            return load.run(port, ASKED, clients=1, answers=answers).p50_s * 1e3

        mine, beside = in_turn(rounds, [lambda: p50_ms(full.port), lambda: p50_ms(empty.port)])
        cancels = [_cancel_ms(full.port, f"t{number % TAGS}") for number in range(rounds)]
    return [
        against(
            f"durable submit, 1 client, p50, {JOBS:,} waiting",
            "ms",
            mine,
            beside,
            "the same, few waiting",
            bar=Bar(1.2, is_of_ratio=True),
        ),
        Row(
            name=f"cancelling {BATCH:,} of {JOBS:,} waiting jobs by filter",
            unit="ms",
            ours=figure(cancels),
            bar=Bar(100.0),
        ),
    ]


def waiting(jobs: int, submitters: int, policy: str) -> LiveState:
    """Live state with so many jobs in line, of three models, and four idle workers that can run two of them."""
    state = LiveState()
    position = 0

    def take(stream: str, event: object) -> None:
        nonlocal position
        position += 1
        draft = Draft(stream=stream, event=event)  # type: ignore[arg-type]
        state.apply(
            Record(
                position=position, stream=draft.stream, version=0, event_id=str(position), at_us=position * 1000,
                actor="bench", cause="bench", event=draft.event, private=None,
            )
        )  # fmt: skip

    take("queue/default", QueueCreated(name="default"))
    take("queue/default", QueueConfigured(name="default", rules=Rules(policy=policy)))  # type: ignore[arg-type]
    device = Device(kind="cuda", name="bench")
    for number in range(4):
        able = {"text-to-image": MODELS[:2]}
        take(
            f"worker/w{number}",
            WorkerRegistered(worker=f"w{number}", boot="b", models=able, device=device, slots=1, versions={}),
        )
    for number in range(jobs):
        take(
            f"job/{number}",
            JobSubmitted(
                queue="default",
                task="text-to-image",
                model=MODELS[2 - number % 3],  # the first in line is of the model that nobody has
                params={"steps": 20, "width": 512, "height": 512},
                priority=50,
                submitter=f"s{number % submitters}",
            ),
        )
    return state


def _forecast(state: LiveState) -> None:
    workers = [_worker(worker) for worker in state.workers.values()]
    forward(workers, PickLine(state, EMBEDDED), state.costs, state.accuracy, 0)


def _worker(worker: LiveWorker) -> Worker:
    running: tuple[Running, ...] = ()
    return Worker(worker.name, worker.device, worker.models, worker.slots, running)


def _ms(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3


def _body() -> dict[str, object]:
    return {"task": "pretend", "params": {}}


def _cancel_ms(port: int, tag: str) -> float:
    """A round: the thousand of one tag cancelled, which is measured, and sent back again."""
    taken = 0.0
    for action in ("cancel", "retry"):
        body = {"action": action, "which": {"tag": tag}, "expected": BATCH}
        began = time.perf_counter()
        _ask(port, "/v1/jobs/bulk", body)
        taken = taken or (time.perf_counter() - began) * 1e3
    return taken


def _ask(port: int, path: str, body: dict[str, object]) -> None:
    client = load.Client(port)
    client.ask(load.request("POST", path, msgspec.json.encode(body)))
    client.close()
