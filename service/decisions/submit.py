"""Whether jobs may be submitted, and as what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from events.batches import BatchSubmitted
from events.envelope import Draft
from events.jobs import JobSubmitted
from events.webhooks import CallbackAsked, WebhookSecrets
from projections.live import LiveQueue, LiveState, repeat_key
from service.commands import SubmitBatch, SubmitJob
from service.decisions.inputs import check_inputs, sized
from service.decisions.queues import known_queue
from service.pictures import Picture
from service.refusals import (
    IdempotencyConflict,
    InvalidField,
    LimitReached,
    QueueFull,
    UnknownModel,
    UnknownTask,
)
from service.tasks.catalog import DEFAULT_TASK, Catalog, InvalidParams, Model, complete
from service.tasks.registry import TASKS
from service.tasks.task import Params, split_private

MAX_TAGS = 32
MAX_TAG_LENGTH = 64
MAX_METADATA = 32
MAX_METADATA_LENGTH = 512
MAX_BATCH = 1_000
MAX_AHEAD_US = 366 * 24 * 3600 * 1_000_000
WAIT_S = 30
"""What a caller is told to wait when nothing is known about when a place becomes free."""


def submit(state: LiveState, command: SubmitJob, at_us: int, catalog: Catalog) -> list[Draft]:
    """The submission, with complete params; nothing when the same request was submitted before.

    Refuses an unknown queue, task or model, fields and params out of bounds, an idempotency key reused for another
    request, a queue that takes no more, and more than the caller's key may have.
    """
    if earlier_job(state, command) is not None:
        return []
    check_room(state, command.queue, command.submitter, 1)
    has_callback = command.callback is not None
    submission = _submission(command, None, at_us, catalog, has_callback)
    return [submission, *_callback(command.job, command.callback)]


def submit_batch(state: LiveState, command: SubmitBatch, at_us: int, catalog: Catalog) -> list[Draft]:
    """Every submission of the batch, or the refusal of the first that cannot be; see `submit`."""
    first = command.jobs[0]
    if earlier_job(state, first) is not None:
        return []
    check_room(state, first.queue, first.submitter, len(command.jobs))
    batch = BatchSubmitted(
        batch=command.batch,
        jobs=tuple(job.job for job in command.jobs),
        queue=first.queue,
        submitter=first.submitter,
    )
    drafts = [Draft(stream=f"batch/{command.batch}", event=batch, begins=True)]
    has_callback = command.callback is not None
    drafts += [_submission(job, command.batch, at_us, catalog, has_callback) for job in command.jobs]
    return drafts + _callback(command.batch, command.callback)


def _callback(subject: str, url: str | None) -> list[Draft]:
    if url is None:
        return []
    parts = urlsplit(url)
    private = msgspec.json.encode(WebhookSecrets(url=url))
    event = CallbackAsked(origin=f"{parts.scheme}://{parts.netloc}")
    return [Draft(stream=f"callback/{subject}", event=event, private=private, begins=True)]


def check_room(state: LiveState, queue: str, submitter: str, jobs: int) -> None:
    """Refuse `jobs` more in the queue when it, or the submitter's key, has no room for them."""
    known = known_queue(state, queue)
    if known.is_drained:
        raise QueueFull(queue, "it is being drained; an operator can resume it", WAIT_S)
    capacity = known.rules.capacity
    if capacity is not None and known.waiting + jobs > capacity:
        raise QueueFull(queue, f"{known.waiting} of {capacity} places are taken", _next_place_s(state, known))
    most = state.limits_of(submitter).max_waiting
    if most is not None and (waiting := state.waiting_of(submitter)) + jobs > most:
        raise LimitReached("waiting jobs", waiting, most, _next_place_s(state, known))


def _next_place_s(state: LiveState, queue: LiveQueue) -> int:
    """Whole seconds until a job of the queue is likely to be leased: the mean of what runs, over how many run."""
    running = [state.jobs[job].predicted_s for job in state.running if state.jobs[job].queue == queue.name]
    known = [seconds for seconds in running if seconds > 0]
    return max(1, math.ceil(sum(known) / len(known) ** 2)) if known else WAIT_S


def _submission(command: SubmitJob, batch: str | None, at_us: int, catalog: Catalog, has_callback: bool) -> Draft:
    check_description(command.priority, command.tags, command.metadata)
    _check_times(command, at_us)
    task, model = chosen(catalog, command.task, command.model)
    params = completed(task, model, command.params, command.pictures, command.seed)
    public, private = split_private(params)
    event = JobSubmitted(
        queue=command.queue,
        task=task,
        model=model.id,
        params=public,
        priority=command.priority,
        submitter=command.submitter,
        tags=command.tags,
        idempotency_key=command.idempotency_key,
        request_digest=command.request_digest,
        metadata=command.metadata,
        batch=batch,
        parent=command.parent,
        is_background=command.is_background,
        is_held=command.is_held,
        not_before_us=command.not_before_us,
        start_deadline_us=command.start_deadline_us,
        finish_deadline_us=command.finish_deadline_us,
        has_callback=has_callback,
    )
    body = msgspec.json.encode(private) if private else None
    return Draft(stream=f"job/{command.job}", event=event, private=body, begins=True)


def completed(
    task: str, model: Model, params: Mapping[str, object], pictures: Mapping[str, Picture], seed: int
) -> Params:
    """Complete params of `task` on `model`. Refuses what is out of bounds, and pictures that are not among the
    stored `pictures`, naming the field."""
    try:
        whole = complete(task, model, sized(TASKS[task], model, params, pictures), seed)
    except InvalidParams as error:
        raise InvalidField(f"params.{error.field}".rstrip("."), error.message) from None
    check_inputs(whole, pictures)
    return whole


def earlier_job(state: LiveState, command: SubmitJob) -> str | None:
    """The job that the same idempotency key and body made before; refuses the key with another body."""
    if command.idempotency_key is None:
        return None
    repeat = state.repeats.get(repeat_key(command.submitter, command.idempotency_key))
    if repeat is None:
        return None
    if repeat.request_digest != (command.request_digest or ""):
        raise IdempotencyConflict(command.idempotency_key, repeat.job)
    return repeat.job


def chosen(catalog: Catalog, task: str | None, name: str | None) -> tuple[str, Model]:
    """The task of a job and the model it runs on; the task follows from the model when only that is named."""
    named = catalog.get(name) if name is not None else None
    task = task or (named.tasks[0] if named else DEFAULT_TASK)
    if task not in TASKS:
        raise UnknownTask(task, list(TASKS))
    model = catalog.default(task) if name is None else named
    if model is None or task not in model.tasks:
        raise UnknownModel(name, task, [model.id for model in catalog.of_task(task)])
    return task, model


def check_description(priority: int, tags: tuple[str, ...], metadata: Mapping[str, str]) -> None:
    """Refuse a priority, tags or metadata out of bounds."""
    if not 0 <= priority <= 100:
        raise InvalidField("priority", f"{priority} is not accepted: use 0 to 100, higher runs first")
    if len(tags) > MAX_TAGS:
        raise InvalidField("tags", f"{len(tags)} tags are not accepted: use at most {MAX_TAGS}")
    for index, tag in enumerate(tags):
        _check_text(f"tags[{index}]", tag, MAX_TAG_LENGTH)
    if len(metadata) > MAX_METADATA:
        raise InvalidField("metadata", f"{len(metadata)} entries are not accepted: use at most {MAX_METADATA}")
    for name, value in metadata.items():
        _check_text("metadata", name, MAX_TAG_LENGTH)
        _check_text(f"metadata.{name}", value, MAX_METADATA_LENGTH)


def _check_text(field: str, text: str, most: int) -> None:
    if not 1 <= len(text) <= most or not text.isprintable():
        raise InvalidField(
            field, f"{text[:MAX_TAG_LENGTH]!r} is not accepted: use 1 to {most} printable characters"
        )


def _check_times(command: SubmitJob, at_us: int) -> None:
    starts_us = max(at_us, command.not_before_us or 0)
    if starts_us > at_us + MAX_AHEAD_US:
        raise InvalidField("not_before", "it lies more than a year ahead; submit the job later")
    for field, deadline_us in (
        ("start_deadline", command.start_deadline_us),
        ("finish_deadline", command.finish_deadline_us),
    ):
        if deadline_us is not None and deadline_us <= starts_us:
            when = "not_before" if starts_us > at_us else "now"
            raise InvalidField(field, f"it is not after {when}, so the job could never run; use a later instant")
