"""What a change of a job becomes: the job as it is from now on, and back in line if it had ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from events.envelope import Draft, Record
from events.jobs import JobEdited, JobSubmitted
from projections.live import LiveState
from projections.live_job import Status, fold_stream
from service.commands import EditJob
from service.decisions.control import is_pruned, retried
from service.decisions.submit import check_description, check_room, chosen, completed
from service.refusals import IllegalTransition, UnknownJob
from service.tasks.catalog import Catalog
from service.tasks.task import split_private

EDITABLE: tuple[Status, ...] = ("scheduled", "held", "queued", "failed", "cancelled", "expired")


def edit(state: LiveState, records: Sequence[Record], command: EditJob, catalog: Catalog) -> list[Draft]:
    """The changed job; nothing when that changes nothing about a job that waits. `records` are the job's own.

    Refuses a job that runs or has completed, and values that a submission would be refused for.
    """
    job = fold_stream(records)
    if job is None or is_pruned(state, job):
        raise UnknownJob(command.job)
    if job.status not in EDITABLE:
        raise IllegalTransition(job.id, job.status, "edited", EDITABLE)
    described = [r for r in records if isinstance(r.event, JobSubmitted | JobEdited)][-1]
    was = described.event
    assert isinstance(was, JobSubmitted | JobEdited)
    task, model = chosen(catalog, job.task, command.model or job.model)
    has_ended = job.ended > 0
    queue = command.queue or job.queue
    if has_ended or queue != job.queue:
        check_room(state, queue, job.submitter, 1)
    private = msgspec.json.decode(described.private) if described.private else {}
    said = {**was.params, **private, **(command.params or {})}
    params = completed(task, model, said, command.pictures, command.seed)
    public, private = split_private(params)
    event = JobEdited(
        queue=queue,
        model=model.id,
        params=public,
        priority=_given(command.priority, job.priority),
        tags=_given(command.tags, was.tags),
        metadata=_given(command.metadata, was.metadata),
        is_background=_given(command.is_background, job.is_background),
        start_deadline_us=None if has_ended else job.start_deadline_us,
        finish_deadline_us=None if has_ended else job.finish_deadline_us,
        left=job.queue if queue != job.queue else None,
    )
    check_description(event.priority, event.tags, event.metadata)
    body = msgspec.json.encode(private) if private else None
    stream = f"job/{job.id}"
    edited = Draft(stream=stream, event=event, private=body)
    if not has_ended:
        return [edited]
    position = state.position + 1  # where the edit will stand: this decision runs alone at the head
    changed = msgspec.structs.replace(
        job,
        queue=event.queue,
        model=event.model,
        params=event.params,
        priority=event.priority,
        is_background=event.is_background,
        described=position,
    )
    return [edited, Draft(stream=stream, event=retried(changed))]


def _given(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
