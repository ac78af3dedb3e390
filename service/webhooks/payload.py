"""The body of a delivery, made from the log alone, so that every attempt sends the same bytes.

Of a job it says what a page of jobs says, never its parameters: prompts are private.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from events.envelope import Record
from events.webhooks import WebhookPinged
from projections.jobs import JobView, fold_view

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ErrorData(msgspec.Struct, frozen=True):
    """Why a job failed, without the traceback that is for operators."""

    kind: str
    message: str


class ArtifactData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored file; `url` is a path of the service. What a picture does not have is left out."""

    digest: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    frames: int | None = None
    fps: float | None = None
    seconds: float | None = None
    sample_rate_hz: int | None = None
    url: str


class JobData(msgspec.Struct, frozen=True, kw_only=True):
    """A job as of the event: `position`, its place in the log, only grows, whichever delivery arrives first."""

    id: str
    status: str
    queue: str
    task: str
    model: str
    priority: int
    tags: tuple[str, ...]
    metadata: dict[str, str]
    batch: str | None
    submitter: str
    attempts: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: ErrorData | None
    artifacts: list[ArtifactData]
    position: int


class Payload(msgspec.Struct, frozen=True):
    """The body, in the form that Standard Webhooks recommends; `timestamp` is when it happened."""

    type: str
    timestamp: str
    data: JobData | dict[str, Any]


def job_at(records: Sequence[Record]) -> JobView:
    """The job as its first records leave it."""
    view: JobView | None = None
    for record in records:
        view = fold_view(view, record)
    assert view is not None, "a job has at least the record of its submission"
    return view


def body_of(records: Sequence[Record]) -> bytes:
    """The body that tells of the last of `records`, which are its stream from the first."""
    record = records[-1]
    if isinstance(record.event, WebhookPinged):
        data: JobData | dict[str, Any] = {"webhook": record.subject}
    else:
        data = _job_data(job_at(records))
    return msgspec.json.encode(Payload(dotted(record.event.type), _instant(record.at_us), data))


def dotted(event_type: str) -> str:
    """The name of an event type as the specification has them: `job.completed`, `job.cancel_requested`."""
    return event_type.replace("-", ".", 1).replace("-", "_")


def _job_data(view: JobView) -> JobData:
    return JobData(
        id=view.id,
        status=view.status,
        queue=view.queue,
        task=view.task,
        model=view.model,
        priority=view.priority,
        tags=view.tags,
        metadata=view.metadata,
        batch=view.batch,
        submitter=view.submitter,
        attempts=len(view.attempts),
        created_at=_instant(view.created_at_us),
        started_at=_maybe(view.started_at_us),
        finished_at=_maybe(view.finished_at_us),
        error=ErrorData(view.error.kind, view.error.message) if view.error else None,
        artifacts=[
            ArtifactData(url=f"/v1/artifacts/{a.digest}", **msgspec.structs.asdict(a)) for a in view.artifacts
        ],
        position=view.position,
    )  # fmt: skip


def _instant(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _maybe(at_us: int | None) -> str | None:
    return None if at_us is None else _instant(at_us)
