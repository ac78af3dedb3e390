"""What the API says: the JSON shapes of jobs, queues, workers, models and events, made from the views.

The OpenAPI document is generated from these structs (web/openapi.py). Instants are RFC 3339 in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from events.envelope import Record
from events.jobs import ArtifactRef, Deadline, JobError
from events.queues import PauseReason, Rules
from events.workers import Device
from projections.jobs import AttemptView, JobView
from projections.live import LiveState
from projections.live_job import LiveJob, Status
from projections.queues import QueueView
from projections.rank import WIDTH
from projections.workers import WorkerView
from service.protocol import Progress
from service.scheduling.eta import Blocked, Eta
from service.scheduling.ranks import Ranks
from service.tasks.catalog import Model


class ProgressResource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running attempt stands; never kept, so it may be absent right after a restart."""

    phase: str
    step: int
    steps: int
    percent: float
    message: str = ""


class EtaResource(msgspec.Struct, frozen=True, kw_only=True):
    """When a job is thought to start and to be done; nine in ten are done by `done_p90_at`.

    The instants are null when `blocked` says why there are none: paused, no-worker, or withheld (a cap). The others
    say what they rest on: jobs that start before it, seconds of loading, whether the model's cost is still a guess.
    """

    start_at: str | None
    done_at: str | None
    done_p90_at: str | None
    jobs_ahead: int
    cold_load_s: float
    is_learning: bool
    blocked: Blocked | None


class ArtifactResource(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file; `digest` is the hex SHA-256 of its bytes."""

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


class PhaseResource(msgspec.Struct, frozen=True, kw_only=True):
    """A phase an attempt entered."""

    phase: str
    at: str


class AttemptResource(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a job. `outcome` is completed, failed, cancelled, or why the job was requeued."""

    attempt: int
    worker: str
    started_at: str
    ended_at: str | None
    outcome: str | None
    detail: str | None
    phases: list[PhaseResource]


class JobResource(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `position` is its newest place in the log.

    `rank` is 1 for the next one out of its line, among the jobs that can run; null unless it is one of them.
    `order` sorts as text the jobs of one queue that are alike in `background` and `priority`; null once it has
    ended. `blocked` says why no worker can run it now.
    """

    id: str
    task: str
    model: str
    queue: str
    status: Status
    phase: str | None
    progress: ProgressResource | None
    rank: int | None
    order: str | None
    eta: EtaResource | None
    blocked: str | None
    priority: int
    background: bool
    submitter: str
    tags: tuple[str, ...]
    metadata: dict[str, str]
    batch: str | None
    parent: str | None
    params: dict[str, Any]
    not_before: str | None
    start_deadline: str | None
    finish_deadline: str | None
    attempts: list[AttemptResource]
    created_at: str
    started_at: str | None
    finished_at: str | None
    cancel_requested: bool
    expired: Deadline | None
    error: JobError | None
    artifacts: list[ArtifactResource]
    facts: dict[str, Any]
    position: int


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs; hand a cursor back as ?cursor= to go on in that direction."""

    jobs: list[JobResource]
    next_cursor: str | None
    previous_cursor: str | None


class BatchResource(msgspec.Struct, frozen=True, kw_only=True):
    """A batch: how many jobs it has, in all and in each status."""

    id: str
    jobs: int
    counts: dict[str, int]


class BulkResource(msgspec.Struct, frozen=True, kw_only=True):
    """What a bulk action met: how many jobs match, how many it was done to (null: it was only asked how many),
    and how many had moved on or found no room, by the kind of refusal."""

    action: str
    matched: int
    done: int | None = None
    refused: dict[str, int] = {}


class QueueResource(msgspec.Struct, frozen=True, kw_only=True):
    """A queue with how many jobs it has in each status. A drained one takes no new jobs."""

    name: str
    rules: Rules
    is_paused: bool
    pause_reason: PauseReason | None
    is_drained: bool
    counts: dict[str, int]
    created_at: str


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """Every queue."""

    queues: list[QueueResource]


class WorkerResource(msgspec.Struct, frozen=True, kw_only=True):
    """A worker. `running` are the ids of the jobs it has now; `lost` tells why it is gone,
    `quarantine` why it gets no jobs."""

    name: str
    boot: str
    models: dict[str, tuple[str, ...]]
    device: Device
    slots: int
    versions: dict[str, str]
    is_connected: bool
    running: list[str]
    quarantine: str | None
    registered_at: str
    lost: str | None
    lost_at: str | None


class WorkerList(msgspec.Struct, frozen=True, kw_only=True):
    """Every worker that ever registered."""

    workers: list[WorkerResource]


class ModelResource(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue; a job that names only the model gets the first of its `tasks`.

    `is_available` tells whether a connected worker can run it now for one of them. `memory_bytes` is what it needs
    of a device, 0 where that is not known.
    """

    id: str
    tasks: tuple[str, ...]
    title: str
    defaults: dict[str, Any]
    sizes: tuple[tuple[int, int], ...]
    memory_bytes: int
    licence: str
    is_available: bool


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The catalogue."""

    models: list[ModelResource]


class EventResource(msgspec.Struct, frozen=True, kw_only=True):
    """One record of the log. `private` is null when there was none, it was erased, or is a secret of a webhook."""

    position: int
    at: str
    stream: str
    version: int
    id: str
    type: str
    actor: str
    cause: str
    data: Any
    private: Any | None


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """Records in log order; `head` is the newest position of the whole log."""

    events: list[EventResource]
    head: int


def instant(at_us: int) -> str:
    """RFC 3339 with microseconds, UTC."""
    at_s, us = divmod(at_us, 1_000_000)
    return f"{_second(at_s)}.{us:06}Z"


@lru_cache(maxsize=256)  # the instants of an answer lie in few seconds; formatting each anew was 4 % of a submit
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def job_resource(
    view: JobView,
    state: LiveState,
    ranks: Ranks,
    progress: Mapping[str, Progress],
    eta_of: Callable[[LiveJob], tuple[Eta, int] | None],
) -> JobResource:
    """The job as the API shows it: its view, its rank in live state, its newest progress and estimate."""
    live = state.jobs.get(view.id)
    newest = progress.get(view.id) if view.status == "running" else None
    is_waiting = live is not None and live.status == view.status
    return JobResource(
        id=view.id,
        task=view.task,
        model=view.model,
        queue=view.queue,
        status=view.status,
        phase=view.phase or None,
        progress=progress_resource(newest) if newest else None,
        rank=ranks.rank(live) if live is not None and is_waiting else None,
        order=f"{live.rank}.{live.submitted:0{WIDTH}x}" if live is not None else None,
        eta=_estimate(eta_of(live)) if live is not None and is_waiting else None,
        blocked=ranks.why_nobody(live) if live is not None and is_waiting else None,
        priority=view.priority,
        background=view.is_background,
        submitter=view.submitter,
        tags=view.tags,
        metadata=view.metadata,
        batch=view.batch,
        parent=view.parent,
        params=view.params,
        not_before=_maybe(view.not_before_us),
        start_deadline=_maybe(view.start_deadline_us),
        finish_deadline=_maybe(view.finish_deadline_us),
        attempts=[_attempt(attempt) for attempt in view.attempts],
        created_at=instant(view.created_at_us),
        started_at=_maybe(view.started_at_us),
        finished_at=_maybe(view.finished_at_us),
        cancel_requested=view.cancel_requested,
        expired=view.expired,
        error=view.error,
        artifacts=[_artifact(artifact) for artifact in view.artifacts],
        facts=view.facts,
        position=view.position,
    )


def progress_resource(progress: Progress) -> ProgressResource:
    """The progress as the API and the push show it."""
    percent = 100 * progress.step / progress.steps if progress.steps else 0.0
    return ProgressResource(
        phase=progress.phase,
        step=progress.step,
        steps=progress.steps,
        percent=round(percent, 1),
        message=progress.message,
    )


def eta_resource(eta: Eta, at_us: int) -> EtaResource:
    """The estimate as the API and the push show it; its seconds count from `at_us`."""
    start_at, done_at, done_p90_at = (
        None if seconds is None else instant(at_us + round(seconds * 1e6))
        for seconds in (eta.start_s, eta.done_s, eta.done_p90_s)
    )
    return EtaResource(
        start_at=start_at,
        done_at=done_at,
        done_p90_at=done_p90_at,
        jobs_ahead=eta.why.jobs_ahead,
        cold_load_s=round(eta.why.cold_load_s, 3),
        is_learning=eta.why.is_learning,
        blocked=eta.why.blocked,
    )


def queue_resource(view: QueueView, counts: dict[str, int]) -> QueueResource:
    """The queue as the API shows it."""
    return QueueResource(
        name=view.name,
        rules=view.rules,
        is_paused=view.is_paused,
        pause_reason=view.pause_reason,
        is_drained=view.is_drained,
        counts=counts,
        created_at=instant(view.created_at_us),
    )


def worker_resource(view: WorkerView, state: LiveState, connected: Mapping[str, str]) -> WorkerResource:
    """The worker as the API shows it; `connected` maps worker names to the boot that has a session."""
    return WorkerResource(
        name=view.name,
        boot=view.boot,
        models=view.models,
        device=view.device,
        slots=view.slots,
        versions=view.versions,
        is_connected=connected.get(view.name) == view.boot,
        running=[job.id for job in state.attempts_of(view.name)],
        quarantine=view.quarantine,
        registered_at=instant(view.registered_at_us),
        lost=view.lost,
        lost_at=_maybe(view.lost_at_us),
    )


def model_resource(model: Model, *, is_available: bool) -> ModelResource:
    """The catalogue entry as the API shows it."""
    return ModelResource(
        id=model.id,
        tasks=model.tasks,
        title=model.title,
        defaults=model.defaults,
        sizes=model.sizes,
        memory_bytes=model.memory_bytes,
        licence=model.licence,
        is_available=is_available,
    )


def event_resource(record: Record) -> EventResource:
    """The record as the API and the push show it."""
    return EventResource(
        position=record.position,
        at=instant(record.at_us),
        stream=record.stream,
        version=record.version,
        id=record.event_id,
        type=record.event.type,
        actor=record.actor,
        cause=record.cause,
        data=record.event,
        private=msgspec.Raw(record.private) if record.private is not None and record.category == "job" else None,
    )


def _estimate(known: tuple[Eta, int] | None) -> EtaResource | None:
    return None if known is None else eta_resource(*known)


def _attempt(view: AttemptView) -> AttemptResource:
    return AttemptResource(
        attempt=view.attempt,
        worker=view.worker,
        started_at=instant(view.started_at_us),
        ended_at=_maybe(view.ended_at_us),
        outcome=view.outcome,
        detail=view.detail,
        phases=[PhaseResource(phase=phase.phase, at=instant(phase.at_us)) for phase in view.phases],
    )


def _artifact(artifact: ArtifactRef) -> ArtifactResource:
    return ArtifactResource(url=f"/v1/artifacts/{artifact.digest}", **msgspec.structs.asdict(artifact))


def _maybe(at_us: int | None) -> str | None:
    return None if at_us is None else instant(at_us)
