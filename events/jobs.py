"""What can happen to a job. Stream: `job/<id>`.

The private part of a job (prompts) is never in these structs: it stands in the record's side row.
An attempt's fencing token is the position of the JobLeased that granted it: it only grows.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from events.event import Event

RequeueReason = Literal["lease-expired", "worker-restarted", "crash", "released"]
"""Why a running job went back to waiting. Only `crash` counts against the job's attempts."""

ErrorKind = Literal["invalid-input", "model-missing", "out-of-memory", "crash", "lost", "internal"]
"""What class of failure ended a job: what the client may do next depends on it."""


class ArtifactRef(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file: `digest` is the hex SHA-256 of its bytes and its name in the store."""

    digest: str
    media_type: str
    bytes: int
    width: int | None = None  # px
    height: int | None = None  # px


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed, in words a user can act on; `detail` is a bounded traceback for operators."""

    kind: ErrorKind
    message: str
    detail: str | None = None


class JobSubmitted(Event, frozen=True, kw_only=True):
    """A client asked for a job; it waits in its queue from now on. Since 0.1.

    `params` are complete (defaults filled in, seed drawn) but for the private ones.
    `request_digest` is the hex SHA-256 of the request, kept with an idempotency key to recognise a repeat.
    """

    queue: str
    task: str
    model: str
    params: dict[str, Any]
    priority: int  # 0..100, higher first
    submitter: str
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None
    request_digest: str | None = None


class JobLeased(Event, frozen=True, kw_only=True):
    """A worker took the job; attempt `attempt` (from 1) runs under a lease of `lease_s`. Since 0.1.

    With `adopted` the same attempt goes on: its lease had lapsed, nobody else had the job, the worker returned.
    """

    attempt: int
    worker: str
    boot: str
    lease_s: float
    adopted: bool = False


class JobPhaseEntered(Event, frozen=True, kw_only=True):
    """The running attempt entered a phase (loading_model, preparing, denoising, decoding, …). Since 0.1."""

    attempt: int
    phase: str


class JobRequeued(Event, frozen=True, kw_only=True):
    """The attempt ended without a result and the job waits again, at its old place. Since 0.1."""

    attempt: int
    reason: RequeueReason
    detail: str | None = None


class JobCompleted(Event, frozen=True, kw_only=True):
    """The attempt delivered: every artifact was stored and fsynced before this event. Since 0.1.

    `facts` is what a re-run needs (scheduler, dtype, device, library versions) and the seconds of each phase.
    """

    attempt: int
    artifacts: tuple[ArtifactRef, ...]
    facts: dict[str, Any]


class JobFailed(Event, frozen=True, kw_only=True):
    """The job ended without a result and will not run again by itself. Since 0.1."""

    attempt: int
    error: JobError


class JobCancelRequested(Event, frozen=True, kw_only=True):
    """Somebody cancelled a running job; its worker is told and answers within a step. Since 0.1."""

    attempt: int


class JobCancelled(Event, frozen=True, kw_only=True):
    """The job ended by cancel: at once when it waited (no attempt), else when its worker stopped. Since 0.1."""

    attempt: int | None = None
    step: int | None = None  # how far denoising had come


class JobRetried(Event, frozen=True, kw_only=True):
    """A person sent a failed or cancelled job back to its queue; it keeps its id and its history. Since 0.1.

    Repeats what live state had forgotten of the finished job, so that a fold needs no other record:
    `submitted` is the position of its JobSubmitted, `attempt` the last one it had.
    """

    queue: str
    task: str
    model: str
    priority: int
    submitter: str
    submitted: int
    attempt: int


JobEvent = (
    JobSubmitted
    | JobLeased
    | JobPhaseEntered
    | JobRequeued
    | JobCompleted
    | JobFailed
    | JobCancelRequested
    | JobCancelled
    | JobRetried
)
