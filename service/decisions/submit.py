"""Whether a job may be submitted, and as what."""

from __future__ import annotations

import msgspec

from events.envelope import Draft
from events.jobs import JobSubmitted
from projections.live import LiveState, repeat_key
from service.commands import SubmitJob
from service.refusals import IdempotencyConflict, InvalidField, UnknownModel, UnknownQueue, UnknownTask
from service.tasks.catalog import DEFAULT_TASK, MODELS, TASKS, InvalidParams, Model, complete, default_model
from service.tasks.task import split_private

MAX_TAGS = 32
MAX_TAG_LENGTH = 64


def submit(state: LiveState, command: SubmitJob) -> list[Draft]:
    """The submission, with complete params; nothing when the same request was submitted before.

    Refuses an unknown queue, task or model, params out of bounds, and an idempotency key reused for another
    request.
    """
    if earlier_job(state, command) is not None:
        return []
    if command.queue not in state.queues:
        raise UnknownQueue(command.queue, sorted(state.queues))
    _check_fields(command)
    model = _model(command)
    try:
        params = complete(model, command.params, command.seed)
    except InvalidParams as error:
        raise InvalidField(f"params.{error.field}".rstrip("."), error.message) from None
    public, private = split_private(params)
    event = JobSubmitted(
        queue=command.queue,
        task=model.task,
        model=model.id,
        params=public,
        priority=command.priority,
        submitter=command.submitter,
        tags=command.tags,
        idempotency_key=command.idempotency_key,
        request_digest=command.request_digest,
    )
    body = msgspec.json.encode(private) if private else None
    return [Draft(stream=f"job/{command.job}", event=event, private=body)]


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


def _model(command: SubmitJob) -> Model:
    """The catalogue entry the job runs on; the task follows from the model when only that is named."""
    named = MODELS.get(command.model) if command.model is not None else None
    task = command.task or (named.task if named else DEFAULT_TASK)
    if task not in TASKS:
        raise UnknownTask(task, list(TASKS))
    if command.model is None:
        return default_model(task)
    if named is None or named.task != task:
        raise UnknownModel(command.model, task, [model.id for model in MODELS.values() if model.task == task])
    return named


def _check_fields(command: SubmitJob) -> None:
    if not 0 <= command.priority <= 100:
        raise InvalidField("priority", f"{command.priority} is not accepted: use 0 to 100, higher runs first")
    if len(command.tags) > MAX_TAGS:
        raise InvalidField("tags", f"{len(command.tags)} tags are not accepted: use at most {MAX_TAGS}")
    for index, tag in enumerate(command.tags):
        if not 1 <= len(tag) <= MAX_TAG_LENGTH or not tag.isprintable():
            raise InvalidField(
                f"tags[{index}]",
                f"{tag[:MAX_TAG_LENGTH]!r} is not accepted: use 1 to {MAX_TAG_LENGTH} printable characters",
            )
