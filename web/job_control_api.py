"""Changing jobs over HTTP: cancel, retry, hold, release, move, edit; one, a batch, or all that match a filter."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.entropy import Entropy
from projections.job_queries import JobFilter, batch_counts, find_ids
from projections.live_job import Status
from service import commands as ask
from service.refusals import CountChanged, Refusal, UnknownBatch, UnknownQueue
from service.tasks.task import MAX_SEED
from web.artifacts_api import stored_pictures
from web.requests import body_as, caller_of, cause_of, handler_of, json_response, shown, view_of, views_of
from web.resources import BatchResource, BulkResource
from web.submissions import Instant

MAX_BULK = 100_000
_entropy = Entropy()  # of the event loop


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /v1/jobs/{job}: what is left out stays; a param of null goes back to its default."""

    queue: str | None = None
    model: str | None = None
    params: dict[str, Any] | None = None
    priority: int | None = None
    tags: tuple[str, ...] | None = None
    metadata: dict[str, str] | None = None
    background: bool | None = None


class Move(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/jobs/{job}/move; `other` is the job to stand before or after."""

    where: Literal["top", "bottom", "before", "after"]
    other: str | None = None


class Which(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs a bulk action is about: all of what is said must hold."""

    status: tuple[Status, ...] = ()
    queue: str | None = None
    task: str | None = None
    model: str | None = None
    submitter: str | None = None
    batch: str | None = None
    tag: str | None = None
    error: str | None = None  # kind
    since: Instant | None = None  # when it ended, or was submitted if it has not


class Bulk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/jobs/bulk. Without `expected` nothing is done, and the answer tells how many match."""

    action: Literal["cancel", "retry", "hold", "release"]
    which: Which
    expected: int | None = None


ACTIONS: dict[str, tuple[type[ask.Command], tuple[Status, ...]]] = {
    "cancel": (ask.CancelJob, ("scheduled", "held", "queued", "running")),
    "retry": (ask.RetryJob, ("failed", "cancelled", "expired")),
    "hold": (ask.HoldJob, ("scheduled", "queued")),
    "release": (ask.ReleaseJob, ("held",)),
}
"""What a bulk action asks of each job, and which it is meant for when the caller does not say."""


async def cancel(request: Request) -> Response:
    """End a waiting job (200), or tell the worker of a running one to stop (202 until it has)."""
    job = request.path_params["job"]
    await _ask(request, ask.CancelJob(job=job))
    view = await view_of(request, job)
    return await shown(request, job, 202 if view.status == "running" else 200)


async def retry(request: Request) -> Response:
    """Send a failed, cancelled or expired job back to its queue."""
    return await _one(request, ask.RetryJob(job=request.path_params["job"]))


async def hold(request: Request) -> Response:
    """Take a waiting job out of line until it is released."""
    return await _one(request, ask.HoldJob(job=request.path_params["job"]))


async def release(request: Request) -> Response:
    """Put a held job back at its place."""
    return await _one(request, ask.ReleaseJob(job=request.path_params["job"]))


async def move(request: Request) -> Response:
    """Move a job within its line."""
    said = await body_as(request, Move)
    return await _one(request, ask.MoveJob(job=request.path_params["job"], where=said.where, other=said.other))


async def edit(request: Request) -> Response:
    """Change a job that does not run; one that has ended goes back to its queue."""
    said = await body_as(request, Edit)
    view = await view_of(request, request.path_params["job"])
    command = ask.EditJob(
        job=view.id,
        pictures=await stored_pictures(request, {**view.params, **(said.params or {})}),
        seed=int.from_bytes(_entropy.take(7)) & MAX_SEED,
        queue=said.queue,
        model=said.model,
        params=said.params,
        priority=said.priority,
        tags=said.tags,
        metadata=said.metadata,
        is_background=said.background,
    )
    return await _one(request, command)


async def bulk(request: Request) -> Response:
    """Count what a bulk action would meet; or do it, when the count is what the caller expects."""
    said = await body_as(request, Bulk)
    command, meant = ACTIONS[said.action]
    ids = await _matching(request, said.which, meant)
    if said.expected is None:
        return json_response(BulkResource(action=said.action, matched=len(ids)))
    if said.expected != len(ids):
        raise CountChanged(said.expected, len(ids))
    return json_response(await _do_all(request, said.action, command, ids))


async def clear(request: Request) -> Response:
    """Cancel every job of a queue that waits; what runs goes on."""
    queue = request.path_params["queue"]
    if queue not in (known := handler_of(request).state.queues):
        raise UnknownQueue(queue, sorted(known))
    ids = await _matching(request, Which(queue=queue), ("scheduled", "held", "queued"))
    return json_response(await _do_all(request, "cancel", ask.CancelJob, ids))


async def batch(request: Request) -> Response:
    """How a batch stands."""
    return json_response(await _batch(request))


async def cancel_batch(request: Request) -> Response:
    """Cancel every job of a batch that has not ended."""
    found = await _batch(request)
    command, meant = ACTIONS["cancel"]
    ids = await _matching(request, Which(batch=found.id), meant)
    await _do_all(request, "cancel", command, ids)
    return json_response(await _batch(request))


ROUTES = [
    Route("/v1/jobs/bulk", bulk, methods=["POST"]),
    Route("/v1/jobs/{job}", edit, methods=["PATCH"]),
    Route("/v1/jobs/{job}/cancel", cancel, methods=["POST"]),
    Route("/v1/jobs/{job}/retry", retry, methods=["POST"]),
    Route("/v1/jobs/{job}/hold", hold, methods=["POST"]),
    Route("/v1/jobs/{job}/release", release, methods=["POST"]),
    Route("/v1/jobs/{job}/move", move, methods=["POST"]),
    Route("/v1/queues/{queue}/clear", clear, methods=["POST"]),
    Route("/v1/batches/{batch}", batch, methods=["GET"]),
    Route("/v1/batches/{batch}/cancel", cancel_batch, methods=["POST"]),
]


async def _ask(request: Request, command: ask.Command) -> None:
    await handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))


async def _one(request: Request, command: ask.Command) -> Response:
    await _ask(request, command)
    return await shown(request, command.job)  # type: ignore[attr-defined]


async def _matching(request: Request, which: Which, meant: tuple[Status, ...]) -> list[str]:
    wanted = JobFilter(
        status=which.status or meant,
        queue=which.queue,
        task=which.task,
        model=which.model,
        submitter=which.submitter,
        batch=which.batch,
        tag=which.tag,
        error=which.error,
        since_us=None if which.since is None else round(which.since.timestamp() * 1e6),
    )
    views = await views_of(request)
    return await asyncio.to_thread(lambda: find_ids(views.reader(), wanted, MAX_BULK))


async def _do_all(request: Request, action: str, command: type[ask.Command], ids: list[str]) -> BulkResource:
    """Ask the same of every job. They share commits; one that is refused is counted, not an error."""
    asked = [_ask_future(request, command(job=job)) for job in ids]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, Refusal):
            raise outcome  # the disk's: what was kept before it is kept
    refused = Counter(outcome.kind for outcome in outcomes if isinstance(outcome, Refusal))
    return BulkResource(
        action=action,
        matched=len(ids),
        done=len(ids) - refused.total(),
        refused=dict(refused),
    )


def _ask_future(request: Request, command: ask.Command) -> asyncio.Future[Any]:
    return handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))


async def _batch(request: Request) -> BatchResource:
    name = request.path_params["batch"]
    counts = batch_counts((await views_of(request)).reader(), name)
    if not counts:
        raise UnknownBatch(name)
    return BatchResource(id=name, counts=counts, jobs=sum(counts.values()))
