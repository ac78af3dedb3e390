"""What can happen to a job. Stream: `job/<id>`.

The private part of a job (prompts) is never in these structs: it stands in the record's side row.
An attempt's fencing token is the position of the JobLeased that granted it: it only grows.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from events.event import Event

RequeueReason = Literal["lease-expired", "worker-restarted", "crash", "timeout", "internal", "released"]
"""Why a running job went back to waiting. `released` is nobody's fault; a vanished worker is counted apart."""

ErrorKind = Literal["invalid-input", "model-missing", "out-of-memory", "crash", "timeout", "lost", "internal"]
"""What class of failure ended an attempt: what happens next depends on it (service/decisions/attempts.py)."""

Deadline = Literal["start", "finish"]


class ArtifactRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored file: `digest` is the hex SHA-256 of its bytes and its name in the store."""

    digest: str
    media_type: str
    bytes: int
    width: int | None = None  # px
    height: int | None = None  # px
    frames: int | None = None  # of a video
    fps: float | None = None  # frames a second
    seconds: float | None = None  # of a sound
    sample_rate_hz: int | None = None


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed, in words a user can act on; `detail` is a bounded traceback for operators."""

    kind: ErrorKind
    message: str
    detail: str | None = None


class JobSubmitted(Event, frozen=True, kw_only=True):
    """A client asked for a job; it waits from now on: held, or until its time has come, or in line. Since 0.1.

    `params` are complete (defaults filled in, seed drawn) but for the private ones.
    `request_digest` is the hex SHA-256 of the request, kept with an idempotency key to recognise a repeat.
    Instants are UTC microseconds. A background job runs only when no other waits that its worker can run.
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
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    batch: str | None = None
    parent: str | None = None  # id of the job that this one was made from
    is_background: bool = False
    is_held: bool = False
    not_before_us: int | None = None
    start_deadline_us: int | None = None
    finish_deadline_us: int | None = None
    has_callback: bool = False  # a `callback-asked` record of the job or its batch says where


class JobBecameDue(Event, frozen=True, kw_only=True):
    """The time that a scheduled job had to wait for has come: it stands in line. Since 0.1."""


class JobHeld(Event, frozen=True, kw_only=True):
    """A person took a waiting job out of line; it waits until it is released. Since 0.1."""


class JobReleased(Event, frozen=True, kw_only=True):
    """A person put a held job back at its place. Since 0.1."""


class JobMoved(Event, frozen=True, kw_only=True):
    """A person moved a waiting job within its queue. Since 0.1.

    Among jobs of one tier and priority the smaller `rank` comes first (projections/rank.py).
    """

    priority: int
    is_background: bool
    rank: str


class JobEdited(Event, frozen=True, kw_only=True):
    """A person changed a job that was not running: all of what can be changed, as it is now. Since 0.1.

    The private params stand in the side row of this record, all of them.
    """

    queue: str
    model: str
    params: dict[str, Any]
    priority: int
    tags: tuple[str, ...]
    metadata: dict[str, str]
    is_background: bool
    start_deadline_us: int | None = None
    finish_deadline_us: int | None = None
    left: str | None = None  # the queue that it was in, when that is another one


class JobLeased(Event, frozen=True, kw_only=True):
    """A worker took the job; attempt `attempt` (from 1) runs under a lease of `lease_s`. Since 0.1.

    With `adopted` the same attempt goes on: its lease had lapsed, nobody else had the job, the worker returned.
    `predicted_s` are the GPU seconds it was thought to take, which its submitter is charged with; `passed` is the
    job that stood first and was passed over, because this one's model was loaded. `eta_s` is the first estimate
    of the seconds from submission to completion that was shown.
    """

    attempt: int
    worker: str
    boot: str
    lease_s: float
    adopted: bool = False
    predicted_s: float | None = None
    passed: str | None = None
    eta_s: float | None = None


class JobPhaseEntered(Event, frozen=True, kw_only=True):
    """The running attempt entered a phase (loading_model, preparing, denoising, decoding, …). Since 0.1."""

    attempt: int
    phase: str


class JobRequeued(Event, frozen=True, kw_only=True):
    """The attempt ended without a result and the job waits again, at its old place, from `not_before_us` on.
    Since 0.1."""

    attempt: int
    reason: RequeueReason
    detail: str | None = None
    not_before_us: int | None = None


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


class JobExpired(Event, frozen=True, kw_only=True):
    """The job had not started, or not finished, by its deadline, and is not wanted any more. Since 0.1.

    `attempt` is the one that ran; its worker is told to drop it.
    """

    deadline: Deadline
    attempt: int | None = None


class JobRetried(Event, frozen=True, kw_only=True):
    """A person sent a failed, cancelled or expired job back to its queue; it keeps id and history. Since 0.1.

    Repeats what live state had forgotten of the finished job, so that a fold needs no other record:
    `submitted` is the position of its JobSubmitted, `attempt` the last one it had. Its deadlines are over.
    """

    queue: str
    task: str
    model: str
    priority: int
    submitter: str
    submitted: int
    attempt: int
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    rank: str = ""
    batch: str | None = None
    is_background: bool = False
    described: int | None = None  # position of the JobEdited that says its params, if there is one


JobEvent = (
    JobSubmitted
    | JobBecameDue
    | JobHeld
    | JobReleased
    | JobMoved
    | JobEdited
    | JobLeased
    | JobPhaseEntered
    | JobRequeued
    | JobCompleted
    | JobFailed
    | JobCancelRequested
    | JobCancelled
    | JobExpired
    | JobRetried
)
