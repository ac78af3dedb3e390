"""Live state: what decisions and the scheduler need to know, in memory, folded from the log.

Finished jobs are not here: a decision about one folds that job's own stream (`fold_job`). The struct encodes
as msgpack, so a snapshot of it saves folding the whole log at start.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

import msgspec

from events.envelope import Record
from events.jobs import JobCompleted, JobEvent, JobFailed, JobLeased, JobRequeued, JobSubmitted
from events.keys import KeyCreated, KeyLimited, KeyRevoked, Limits, Scope
from events.queues import (
    PauseReason,
    QueueConfigured,
    QueueCreated,
    QueueDrained,
    QueuePaused,
    QueuePruned,
    QueueResumed,
    Rules,
)
from events.workers import WorkerLost, WorkerQuarantined, WorkerRegistered, WorkerReleased
from projections.accuracy import Accuracy
from projections.costs import Costs, others_s, spent_of
from projections.fair_clocks import FairClocks
from projections.live_job import FINISHED, WAITING, LiveJob, fold_job
from projections.queue_order import QueueOrder
from projections.webhooks import LiveWebhook, fold_webhook

NO_LIMITS = Limits()
TAKES_DOWN = frozenset({"crash", "out-of-memory", "bad-output", "disk-full"})
"""Kinds of failure that say something about the worker when different jobs meet them in a row."""

IDEMPOTENCY_US = 24 * 3600 * 1_000_000
"""How long a client's Idempotency-Key is remembered."""


class LiveQueue(msgspec.Struct):
    """A queue: its rules, its line, and who has how much in it."""

    name: str
    rules: Rules = Rules()
    is_paused: bool = False
    pause_reason: PauseReason | None = None
    is_drained: bool = False  # closed for new jobs
    order: QueueOrder = msgspec.field(default_factory=QueueOrder)
    waiting: int = 0  # jobs that are scheduled, held or queued
    waiting_of: dict[str, int] = {}  # the same by submitter
    running_of: dict[str, int] = {}
    clocks: FairClocks = msgspec.field(default_factory=FairClocks)
    pruned_through: int = 0

    def is_active(self, submitter: str) -> bool:
        """Whether the submitter has a job that is in line or runs."""
        return submitter in self.order.lanes or submitter in self.running_of

    def active(self) -> set[str]:
        """The submitters with a job that is in line or runs."""
        return self.order.lanes.keys() | self.running_of.keys()


class LiveWorker(msgspec.Struct):
    """A worker process that said hello and was not lost since. `models` maps a task to model ids."""

    name: str
    boot: str
    models: dict[str, tuple[str, ...]]
    slots: int
    device: str = ""  # as its driver names it: workers of one device take equally long
    memory_bytes: int = 0  # 0 where the driver does not tell
    warm: str = ""  # the model of its newest lease


class LiveKey(msgspec.Struct):
    """An API key that opens something: `secret_digest` is the hex SHA-256 of its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    secret_digest: str
    limits: Limits = Limits()


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
    timers: list[tuple[int, str]] = []  # (UTC microseconds, job id): what time alone does next, soonest first
    failing: dict[str, tuple[str, ...]] = {}  # worker -> the different jobs it has taken down in a row
    quarantined: dict[str, str] = {}  # worker -> why
    costs: Costs = msgspec.field(default_factory=Costs)
    accuracy: Accuracy = msgspec.field(default_factory=Accuracy)
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

    def limits_of(self, submitter: str) -> Limits:
        """What the submitter's key allows; no bounds for who needs none."""
        kind, _, key = submitter.partition("/")
        return self.keys[key].limits if kind == "key" and key in self.keys else NO_LIMITS

    def waiting_of(self, submitter: str) -> int:
        """How many jobs of the submitter wait, over all queues."""
        return sum(queue.waiting_of.get(submitter, 0) for queue in self.queues.values())

    def running_of(self, submitter: str) -> int:
        """How many jobs of the submitter run, over all queues."""
        return sum(queue.running_of.get(submitter, 0) for queue in self.queues.values())

    def predicted_s(self, job: LiveJob, worker: LiveWorker) -> float:
        """The GPU seconds that the job is thought to take on the worker, with loading if its model is not there."""
        told = self.costs.predict(job.model, worker.device, job.work)
        return told.run_s if worker.warm == job.model else told.run_s + told.load_s

    def due(self, at_us: int) -> Iterator[LiveJob]:
        """The jobs to which time has done something by `at_us`, in that order."""
        for timer_us, job in self.timers:
            if timer_us > at_us:
                return
            yield self.jobs[job]

    # jobs

    def _apply_job(self, record: Record) -> None:
        before = self.jobs.get(record.subject)
        if before is not None:
            self._leave(before)
        job = fold_job(before, record)
        if job is None or job.status in FINISHED:
            self.jobs.pop(record.subject, None)
        else:
            self.jobs[job.id] = job
            self._enter(job, before)
        if before is not None:
            self._account(before, record)
        if isinstance(record.event, JobSubmitted):
            self._remember(record, record.event)
            self._arrives(self.jobs[record.subject], record.at_us)

    def _leave(self, job: LiveJob) -> None:
        queue = self.queues[job.queue]
        if job.status in WAITING:
            queue.waiting -= 1
            _count(queue.waiting_of, job.submitter, -1)
        if job.status == "queued":
            queue.order.remove(job.place, job.submitter, job.model)
        elif job.status == "running":
            del self.running[job.id]
            _count(queue.running_of, job.submitter, -1)
        timer_us = job.timer_us
        if timer_us is not None:
            del self.timers[bisect_left(self.timers, (timer_us, job.id))]

    def _enter(self, job: LiveJob, before: LiveJob | None) -> None:
        queue = self.queues[job.queue]
        if job.status in WAITING:
            queue.waiting += 1
            _count(queue.waiting_of, job.submitter, 1)
        if job.status == "queued":
            if not _was_active(before, job.queue) and not queue.is_active(job.submitter):
                queue.clocks.join(job.submitter, queue.active())
            queue.order.add(job.place, job.submitter, job.model)
        elif job.status == "running":
            self.running[job.id] = job.worker
            _count(queue.running_of, job.submitter, 1)
        timer_us = job.timer_us
        if timer_us is not None:
            insort(self.timers, (timer_us, job.id))

    def _account(self, before: LiveJob, record: Record) -> None:
        """Charge GPU time, and note what the worker and the model are like."""
        event: JobEvent = record.event  # type: ignore[assignment]
        clocks, weight = self.queues[before.queue].clocks, self.limits_of(before.submitter).weight
        if before.status == "running" and record.subject not in self.running:
            taken_s = (record.at_us - before.leased_at_us) / 1e6
            if isinstance(event, JobCompleted):
                taken_s = max(0.0, taken_s - others_s(event.facts))
            clocks.charge(before.submitter, taken_s - before.predicted_s, weight)
        match event:
            case JobLeased():
                clocks.charge(before.submitter, event.predicted_s or 0.0, weight)
                if event.worker in self.workers:
                    self.workers[event.worker].warm = before.model
                if event.passed in self.jobs:
                    self.jobs[event.passed].passed += 1
            case JobCompleted():
                self.failing.pop(before.worker, None)
                self._learn(before, event, record.at_us)
            case JobRequeued(reason="crash"):
                self._fails(before)
            case JobFailed(error=error) if error.kind in TAKES_DOWN:
                self._fails(before)

    def _learn(self, job: LiveJob, event: JobCompleted, at_us: int) -> None:
        """What jobs like this take, and how good the first estimate was."""
        spent, worker = spent_of(event.facts), self.workers.get(job.worker)
        if spent is not None and worker is not None:
            self.costs.learn(job.model, worker.device, job.work, spent)
        if job.eta_s is not None and job.eta_s > 0:
            self.accuracy.learn(job.tier, job.eta_s, (at_us - job.submitted_at_us) / 1e6)

    def _arrives(self, job: LiveJob, at_us: int) -> None:
        worker = next((w for w in self.workers.values() if job.model in w.models.get(job.task, ())), None)
        if worker is not None:
            told = self.costs.predict(job.model, worker.device, job.work)
            self.accuracy.arrived(job.tier, told.run_s, at_us)

    def _fails(self, job: LiveJob) -> None:
        known = self.failing.get(job.worker, ())
        if job.id not in known:
            self.failing[job.worker] = (*known, job.id)

    def _remember(self, record: Record, event: JobSubmitted) -> None:
        while self.repeats:
            oldest = next(iter(self.repeats))
            if self.repeats[oldest].at_us > record.at_us - IDEMPOTENCY_US:
                break
            del self.repeats[oldest]
        if event.idempotency_key is not None:
            key = repeat_key(event.submitter, event.idempotency_key)
            self.repeats[key] = Repeat(record.subject, event.request_digest or "", record.at_us)

    # the rest

    def _apply_queue(self, record: Record) -> None:
        match record.event:
            case QueueCreated(name=name):
                self.queues[name] = LiveQueue(name)
            case QueueConfigured(name=name, rules=rules):
                self.queues[name].rules = rules
            case QueuePaused(name=name, reason=reason):
                self.queues[name].is_paused, self.queues[name].pause_reason = True, reason
            case QueueDrained(name=name):
                self.queues[name].is_drained = True
            case QueueResumed(name=name):
                queue = self.queues[name]
                queue.is_paused, queue.pause_reason, queue.is_drained = False, None, False
            case QueuePruned(name=name, through=through):
                self.queues[name].pruned_through = through

    def _apply_worker(self, record: Record) -> None:
        match record.event:
            case WorkerRegistered() as said:
                self.workers[said.worker] = LiveWorker(
                    said.worker,
                    said.boot,
                    said.models,
                    said.slots,
                    device=f"{said.device.kind} {said.device.name}",
                    memory_bytes=said.device.memory_bytes,
                )
            case WorkerLost(worker=name, boot=boot):
                if name in self.workers and self.workers[name].boot == boot:
                    del self.workers[name]
            case WorkerQuarantined(worker=name, why=why):
                self.quarantined[name] = why
            case WorkerReleased(worker=name):
                self.quarantined.pop(name, None)
                self.failing.pop(name, None)

    def _apply_key(self, record: Record) -> None:
        match record.event:
            case KeyCreated() as made:
                self.keys[made.key] = LiveKey(made.key, made.name, made.scopes, made.secret_digest)
            case KeyLimited(key=key, limits=limits):
                if key in self.keys:
                    self.keys[key].limits = limits
            case KeyRevoked(key=key):
                self.keys.pop(key, None)


def repeat_key(submitter: str, idempotency_key: str) -> str:
    """Under what name a repeat is remembered: a key belongs to its submitter."""
    return f"{submitter}\n{idempotency_key}"


def _count(counts: dict[str, int], name: str, change: int) -> None:
    counts[name] = counts.get(name, 0) + change
    if counts[name] == 0:
        del counts[name]


def _was_active(job: LiveJob | None, queue: str) -> bool:
    return job is not None and job.queue == queue and job.status in ("queued", "running")
