"""Live state: what decisions and the scheduler need to know, in memory, folded from the log.

Finished jobs are not here: a decision about one folds that job's own stream (`fold_job`). The struct encodes
as msgpack, so a snapshot of it saves folding the whole log at start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from events.envelope import Record
from events.jobs import (
    JobCancelled,
    JobCancelRequested,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobLeased,
    JobPhaseEntered,
    JobRequeued,
    JobRetried,
    JobSubmitted,
)
from events.keys import KeyCreated, KeyRevoked, Scope
from events.queues import QueueCreated, QueuePaused, QueueResumed
from events.workers import WorkerLost, WorkerRegistered
from projections.queue_order import Place, QueueOrder
from projections.webhooks import LiveWebhook, fold_webhook

Status = Literal["queued", "running", "completed", "failed", "cancelled"]
FINISHED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})

IDEMPOTENCY_US = 24 * 3600 * 1_000_000
"""How long a client's Idempotency-Key is remembered."""


class LiveJob(msgspec.Struct):
    """A job as decisions see it. `token` is the fencing token of the newest lease, 0 before the first."""

    id: str
    queue: str
    task: str
    model: str
    priority: int
    submitted: int  # position of the submission: first come
    submitter: str
    status: Status = "queued"
    attempt: int = 0  # of the newest lease; attempts are counted from 1
    token: int = 0
    worker: str = ""
    boot: str = ""
    phase: str = ""
    cancel_requested: bool = False
    crashes: int = 0  # attempts that took their process down, since the last retry
    losses: int = 0  # attempts whose worker vanished, since the last retry

    @property
    def place(self) -> Place:
        """Where the job stands in its queue's line."""
        return (-self.priority, self.submitted, self.id)


class LiveQueue(msgspec.Struct):
    """A queue: its flag and its line."""

    name: str
    is_paused: bool = False
    order: QueueOrder = msgspec.field(default_factory=QueueOrder)


class LiveWorker(msgspec.Struct):
    """A worker process that said hello and was not lost since. `models` maps a task to model ids."""

    name: str
    boot: str
    models: dict[str, tuple[str, ...]]
    slots: int


class LiveKey(msgspec.Struct):
    """An API key that opens something: `secret_digest` is the hex SHA-256 of its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    secret_digest: str


class Repeat(msgspec.Struct):
    """What an idempotency key was first used for."""

    job: str
    request_digest: str
    at_us: int


class LiveState(msgspec.Struct):
    """Everything a decision may look at, as of `position`."""

    position: int = 0
    jobs: dict[str, LiveJob] = {}  # unfinished ones
    running: dict[str, str] = {}  # job id -> name of the worker that has it
    queues: dict[str, LiveQueue] = {}
    workers: dict[str, LiveWorker] = {}
    keys: dict[str, LiveKey] = {}
    repeats: dict[str, Repeat] = {}  # "<submitter>\n<key>" -> first use, oldest first
    webhooks: dict[str, LiveWebhook] = {}

    def apply(self, record: Record) -> None:
        """Take in the record at `position` + 1."""
        assert record.position == self.position + 1, f"record {record.position} after {self.position}"
        self.position = record.position
        match record.category:
            case "job":
                self._apply_job(record)
            case "queue":
                self._apply_queue(record)
            case "worker":
                self._apply_worker(record)
            case "key":
                self._apply_key(record)
            case "webhook":
                fold_webhook(self.webhooks, record)

    def attempts_of(self, worker: str) -> list[LiveJob]:
        """The jobs that run on `worker`."""
        return [self.jobs[job] for job, holder in self.running.items() if holder == worker]

    def _apply_job(self, record: Record) -> None:
        before = self.jobs.get(record.subject)
        if before is not None and before.status == "queued":
            self.queues[before.queue].order.remove(before.place)
        job = fold_job(before, record)
        self.running.pop(record.subject, None)
        if job is None or job.status in FINISHED:
            self.jobs.pop(record.subject, None)
            return
        self.jobs[job.id] = job
        if job.status == "queued":
            self.queues[job.queue].order.add(job.place)
        else:
            self.running[job.id] = job.worker
        if isinstance(record.event, JobSubmitted):
            self._remember(record, record.event)

    def _remember(self, record: Record, event: JobSubmitted) -> None:
        while self.repeats:
            oldest = next(iter(self.repeats))
            if self.repeats[oldest].at_us > record.at_us - IDEMPOTENCY_US:
                break
            del self.repeats[oldest]
        if event.idempotency_key is not None:
            key = repeat_key(event.submitter, event.idempotency_key)
            self.repeats[key] = Repeat(record.subject, event.request_digest or "", record.at_us)

    def _apply_queue(self, record: Record) -> None:
        match record.event:
            case QueueCreated(name=name):
                self.queues[name] = LiveQueue(name)
            case QueuePaused(name=name):
                self.queues[name].is_paused = True
            case QueueResumed(name=name):
                self.queues[name].is_paused = False

    def _apply_worker(self, record: Record) -> None:
        match record.event:
            case WorkerRegistered() as said:
                self.workers[said.worker] = LiveWorker(said.worker, said.boot, said.models, said.slots)
            case WorkerLost(worker=name, boot=boot):
                if name in self.workers and self.workers[name].boot == boot:
                    del self.workers[name]

    def _apply_key(self, record: Record) -> None:
        match record.event:
            case KeyCreated() as made:
                self.keys[made.key] = LiveKey(made.key, made.name, made.scopes, made.secret_digest)
            case KeyRevoked(key=key):
                self.keys.pop(key, None)


def repeat_key(submitter: str, idempotency_key: str) -> str:
    """Under what name a repeat is remembered: a key belongs to its submitter."""
    return f"{submitter}\n{idempotency_key}"


def fold_stream(records: Iterable[Record]) -> LiveJob | None:
    """The job that a whole stream of its records leaves behind; None for an empty stream."""
    job: LiveJob | None = None
    for record in records:
        job = fold_job(job, record)
    return job


def fold_job(job: LiveJob | None, record: Record) -> LiveJob | None:
    """The job after one more of its records. A finished job that is not at hand stays None."""
    event: JobEvent = record.event  # type: ignore[assignment]
    if isinstance(event, JobSubmitted | JobRetried):
        return LiveJob(
            id=record.subject,
            queue=event.queue,
            task=event.task,
            model=event.model,
            priority=event.priority,
            submitter=event.submitter,
            submitted=event.submitted if isinstance(event, JobRetried) else record.position,
            attempt=event.attempt if isinstance(event, JobRetried) else 0,
        )
    if job is None:
        return None
    return msgspec.structs.replace(job, **_changes(job, event, record.position))


def _changes(job: LiveJob, event: JobEvent, position: int) -> dict[str, object]:
    """The fields that an event after the submission changes."""
    match event:
        case JobLeased():
            return {
                "status": "running",
                "attempt": event.attempt,
                "token": position,
                "worker": event.worker,
                "boot": event.boot,
                "phase": job.phase if event.adopted else "",
                "losses": job.losses - event.adopted,  # the worker had not vanished after all
                "cancel_requested": False,
            }
        case JobPhaseEntered(phase=phase):
            return {"phase": phase}
        case JobRequeued(reason=reason):
            return {
                "status": "queued",
                "phase": "",
                "cancel_requested": False,
                "crashes": job.crashes + (reason == "crash"),
                "losses": job.losses + (reason in ("lease-expired", "worker-restarted")),
            }
        case JobCancelRequested():
            return {"cancel_requested": True}
        case JobCompleted():
            return {"status": "completed", "phase": ""}
        case JobFailed():
            return {"status": "failed", "phase": ""}
        case JobCancelled():
            return {"status": "cancelled", "phase": ""}
    raise AssertionError(f"no fold for {event.type}")
