"""One unfinished job as decisions see it, folded from its own stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from events.envelope import Record
from events.jobs import (
    JobBecameDue,
    JobCancelled,
    JobCancelRequested,
    JobCompleted,
    JobEdited,
    JobEvent,
    JobExpired,
    JobFailed,
    JobHeld,
    JobLeased,
    JobMoved,
    JobPhaseEntered,
    JobReleased,
    JobRequeued,
    JobRetried,
    JobSubmitted,
)
from projections.costs import Work, work_of
from projections.queue_order import Place
from projections.rank import first_rank

Status = Literal["scheduled", "held", "queued", "running", "completed", "failed", "cancelled", "expired"]
WAITING: frozenset[Status] = frozenset({"scheduled", "held", "queued"})
FINISHED: frozenset[Status] = frozenset({"completed", "failed", "cancelled", "expired"})

Fault = Literal["lost", "crash", "timeout", "internal"]
"""What sends a job back to its queue and is counted against it, each kind apart."""

FAULT_OF: Mapping[str, Fault] = {
    "lease-expired": "lost",
    "worker-restarted": "lost",
    "crash": "crash",
    "timeout": "timeout",
    "internal": "internal",
}


class LiveJob(msgspec.Struct):
    """A job. `token` is the fencing token of the newest lease, 0 before the first. Instants are UTC microseconds"""

    id: str
    queue: str
    task: str
    model: str
    params: dict[str, Any]  # the public ones
    priority: int
    submitted: int  # position of the submission: first come
    submitted_at_us: int
    described: int  # position of the record that says its params: the submission, or the newest edit
    submitter: str
    rank: str
    work: Work
    status: Status = "queued"
    is_background: bool = False
    batch: str | None = None
    not_before_us: int | None = None
    start_deadline_us: int | None = None
    finish_deadline_us: int | None = None
    attempt: int = 0  # of the newest lease; attempts are counted from 1
    token: int = 0
    worker: str = ""
    boot: str = ""
    leased_at_us: int = 0
    predicted_s: float = 0.0  # GPU seconds that the newest lease was charged with
    eta_s: float | None = None  # the first estimate, from submission to completion
    phase: str = ""
    phase_at_us: int = 0  # when it was entered
    cancel_requested: bool = False
    faults: dict[Fault, int] = {}  # since the last retry
    passed: int = 0  # times that a later job was taken first, for its loaded model
    ended: int = 0  # position of the end

    @property
    def place(self) -> Place:
        """Where the job stands in its queue's line."""
        return (self.is_background, -self.priority, self.rank, self.submitted, self.id)

    @property
    def tier(self) -> int:
        """The class of priority that predictions are kept by: 0 for background, then below, at and above 50."""
        return 0 if self.is_background else 1 + (self.priority >= 50) + (self.priority > 50)

    @property
    def timer_us(self) -> int | None:
        """When time alone does something to the job next: it becomes due, or its deadline passes."""
        ends = [self.finish_deadline_us]
        if self.status == "scheduled":
            ends.append(self.not_before_us)
        if self.status in WAITING and self.attempt == 0:
            ends.append(self.start_deadline_us)
        return min((end for end in ends if end is not None), default=None)


def fold_stream(records: Iterable[Record]) -> LiveJob | None:
    """The job that a whole stream of its records leaves behind; None for an empty stream."""
    job: LiveJob | None = None
    for record in records:
        job = fold_job(job, record)
    return job


def fold_job(job: LiveJob | None, record: Record) -> LiveJob | None:
    """The job after one more of its records. A finished job that is not at hand stays None."""
    event: JobEvent = record.event  # type: ignore[assignment]
    if isinstance(event, JobSubmitted):
        return _submitted(event, record)
    if isinstance(event, JobRetried):
        return _retried(event, record)
    if job is None:
        return None
    return msgspec.structs.replace(job, **_changes(job, event, record))


def _submitted(event: JobSubmitted, record: Record) -> LiveJob:
    return LiveJob(
        id=record.subject,
        queue=event.queue,
        task=event.task,
        model=event.model,
        params=event.params,
        priority=event.priority,
        submitted=record.position,
        submitted_at_us=record.at_us,
        described=record.position,
        submitter=event.submitter,
        rank=first_rank(record.position),
        work=work_of(event.params),
        status="held" if event.is_held else _in_time(event.not_before_us, record.at_us),
        is_background=event.is_background,
        batch=event.batch,
        not_before_us=event.not_before_us,
        start_deadline_us=event.start_deadline_us,
        finish_deadline_us=event.finish_deadline_us,
    )


def _retried(event: JobRetried, record: Record) -> LiveJob:
    return LiveJob(
        id=record.subject,
        queue=event.queue,
        task=event.task,
        model=event.model,
        params=event.params,
        priority=event.priority,
        submitted=event.submitted,
        submitted_at_us=record.at_us,
        described=event.described or event.submitted,
        submitter=event.submitter,
        rank=event.rank or first_rank(event.submitted),
        work=work_of(event.params),
        is_background=event.is_background,
        batch=event.batch,
        attempt=event.attempt,
    )


def _in_time(not_before_us: int | None, at_us: int) -> Status:
    """The status of a job that waits and is not held."""
    return "scheduled" if not_before_us is not None and not_before_us > at_us else "queued"


def _changes(job: LiveJob, event: JobEvent, record: Record) -> dict[str, object]:
    """The fields that an event after the submission changes."""
    match event:
        case JobBecameDue():
            return {"status": "queued", "not_before_us": None}
        case JobHeld():
            return {"status": "held"}
        case JobReleased():
            return {"status": _in_time(job.not_before_us, record.at_us)}
        case JobMoved():
            return {"priority": event.priority, "is_background": event.is_background, "rank": event.rank}
        case JobEdited():
            return {
                "described": record.position,
                "queue": event.queue,
                "model": event.model,
                "params": event.params,
                "work": work_of(event.params),
                "priority": event.priority,
                "is_background": event.is_background,
                "start_deadline_us": event.start_deadline_us,
                "finish_deadline_us": event.finish_deadline_us,
            }
        case JobLeased():
            return _leased(job, event, record)
        case JobPhaseEntered(phase=phase):
            return {"phase": phase, "phase_at_us": record.at_us}
        case JobRequeued(reason=reason, not_before_us=not_before_us):
            fault = FAULT_OF.get(reason)
            return {
                "status": _in_time(not_before_us, record.at_us),
                "not_before_us": not_before_us,
                "phase": "",
                "cancel_requested": False,
                "faults": job.faults if fault is None else {**job.faults, fault: job.faults.get(fault, 0) + 1},
            }
        case JobCancelRequested():
            return {"cancel_requested": True}
        case JobCompleted():
            return {"status": "completed", "phase": "", "ended": record.position}
        case JobFailed():
            return {"status": "failed", "phase": "", "ended": record.position}
        case JobCancelled():
            return {"status": "cancelled", "phase": "", "ended": record.position}
        case JobExpired():
            return {"status": "expired", "phase": "", "ended": record.position}
    raise AssertionError(f"no fold for {event.type}")


def _leased(job: LiveJob, event: JobLeased, record: Record) -> dict[str, object]:
    faults = job.faults
    if event.adopted:  # the worker had not vanished after all
        faults = {**faults, "lost": faults.get("lost", 1) - 1}
    return {
        "status": "running",
        "attempt": event.attempt,
        "token": record.position,
        "worker": event.worker,
        "boot": event.boot,
        "leased_at_us": record.at_us,
        "predicted_s": event.predicted_s or 0.0,
        "eta_s": job.eta_s if job.eta_s is not None else event.eta_s,
        "phase": job.phase if event.adopted else "",
        "cancel_requested": False,
        "not_before_us": None,
        "faults": faults,
    }
