"""What a client may say when it submits, and the commands that it becomes: one job, or a batch of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import product
from typing import Annotated, Any

import msgspec

from service import commands as ask
from service.decisions.submit import MAX_BATCH
from service.pictures import Picture
from service.refusals import InvalidField
from service.tasks.task import MAX_SEED

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""RFC 3339 with an offset."""


class Submission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/jobs; only `params` is needed.

    With `count`, `seeds` or `prompts` it is a batch: a job for each prompt and each seed. `count` draws so many
    seeds, or counts on from `params.seed` when that is given.
    """

    params: dict[str, Any]
    task: str | None = None
    model: str | None = None
    queue: str = "default"
    priority: int = 50
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    parent: str | None = None
    background: bool = False
    hold: bool = False
    not_before: Instant | None = None
    start_deadline: Instant | None = None
    finish_deadline: Instant | None = None
    count: int | None = None
    seeds: tuple[int, ...] | None = None
    prompts: tuple[str, ...] | None = None
    callback: str | None = None

    @property
    def is_batch(self) -> bool:
        """Whether it asks for several jobs."""
        return not (self.count is None and self.seeds is None and self.prompts is None)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who submits, and what the request itself says."""

    submitter: str
    idempotency_key: str | None
    body: bytes


def command_of(
    submission: Submission,
    caller: Caller,
    pictures: Mapping[str, Picture],
    *,
    new_id: Callable[[], str],
    new_seed: Callable[[], int],
) -> ask.SubmitJob | ask.SubmitBatch:
    """The command. `pictures` are the stored ones that the params name, by digest.

    Refuses a batch of too many, or of none, or with its seeds said twice.
    """
    if not submission.is_batch:
        return _job(submission, caller, pictures, submission.params, new_id(), new_seed(), submission.callback)
    jobs = [_job(submission, caller, pictures, params, new_id(), new_seed()) for params in _each(submission)]
    first, *others = jobs
    rest = [msgspec.structs.replace(job, idempotency_key=None, request_digest=None) for job in others]
    return ask.SubmitBatch(batch=new_id(), jobs=(first, *rest), callback=submission.callback)


def _each(submission: Submission) -> Iterator[dict[str, Any]]:
    """The params of every job of a batch, in the order in which they will stand."""
    if submission.seeds is not None and submission.count is not None:
        raise InvalidField("count", "count and seeds both say how many; use one of them")
    if submission.seeds is not None and "seed" in submission.params:
        raise InvalidField("seeds", "params.seed says a seed as well; use one of them")
    prompts: tuple[str | None, ...] = (None,) if submission.prompts is None else submission.prompts
    seeds = 1 if submission.seeds is None else len(submission.seeds)
    many = len(prompts) * (seeds if submission.count is None else submission.count)
    field = next(name for name in ("count", "seeds", "prompts") if getattr(submission, name) is not None)
    if not 1 <= many <= MAX_BATCH:
        raise InvalidField(field, f"a batch of {many} jobs is not accepted: use 1 to {MAX_BATCH}")
    for prompt, seed in product(prompts, _seeds(submission)):
        said = {} if prompt is None else {"prompt": prompt}
        yield {**submission.params, **said, **({} if seed is None else {"seed": seed})}


def _seeds(submission: Submission) -> list[int | None]:
    """A seed for each job of one prompt; None to have it drawn."""
    if submission.seeds is not None:
        return list(submission.seeds)
    count, first = submission.count or 1, submission.params.get("seed")
    if count == 1 or not isinstance(first, int):
        return [None] * count
    return [(first + number) % (MAX_SEED + 1) for number in range(count)]


def _job(
    submission: Submission,
    caller: Caller,
    pictures: Mapping[str, Picture],
    params: dict[str, Any],
    job: str,
    seed: int,
    callback: str | None = None,
) -> ask.SubmitJob:
    return ask.SubmitJob(
        job=job,
        submitter=caller.submitter,
        seed=seed,
        params=params,
        pictures=pictures,
        queue=submission.queue,
        task=submission.task,
        model=submission.model,
        priority=submission.priority,
        tags=submission.tags,
        idempotency_key=caller.idempotency_key,
        request_digest=None if caller.idempotency_key is None else hashlib.sha256(caller.body).hexdigest(),
        metadata=submission.metadata,
        parent=submission.parent,
        is_background=submission.background,
        is_held=submission.hold,
        not_before_us=_us(submission.not_before),
        start_deadline_us=_us(submission.start_deadline),
        finish_deadline_us=_us(submission.finish_deadline),
        callback=callback,
    )


def _us(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1e6)
