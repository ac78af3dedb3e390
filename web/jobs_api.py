"""Jobs over HTTP: submit, read, list, cancel, retry, history and result."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from typing import Any, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.entropy import Entropy
from events.ids import RANDOM_BYTES, uuid7
from projections.job_queries import JobFilter, find_job, latest_job, list_jobs
from projections.jobs import JobView, fold_view
from projections.live import Status
from service import commands as ask
from service.decisions.submit import earlier_job
from service.refusals import UnknownJob
from service.tasks.task import MAX_SEED
from web.artifacts_api import file_response
from web.errors import Problem
from web.requests import (
    body_as,
    caller_of,
    cause_of,
    choice,
    handler_of,
    integer,
    json_response,
    shown_job,
    views_of,
)
from web.resources import EventList, JobList, event_resource

STATUSES: tuple[str, ...] = get_args(Status)
MAX_PAGE = 1000
_entropy = Entropy()  # of the event loop: every handler here runs in it
_CURSOR = re.compile(r"(after|before):(\d{1,16})")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Submission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/jobs; only `params` is needed."""

    params: dict[str, Any]
    task: str | None = None
    model: str | None = None
    queue: str = "default"
    priority: int = 50
    tags: tuple[str, ...] = ()


async def submit(request: Request) -> Response:
    """Put a job in a queue: 201, or 200 when the Idempotency-Key repeats an earlier request."""
    submission = await body_as(request, Submission)
    raw = await request.body()
    job = uuid7(time.time_ns() // 1000, _entropy.take(RANDOM_BYTES))
    command = ask.SubmitJob(
        job=job,
        submitter=caller_of(request).actor,
        seed=int.from_bytes(_entropy.take(7)) & MAX_SEED,
        params=submission.params,
        queue=submission.queue,
        task=submission.task,
        model=submission.model,
        priority=submission.priority,
        tags=submission.tags,
        idempotency_key=_idempotency_key(request),
        request_digest=hashlib.sha256(raw).hexdigest(),
    )
    records = await _ask(request, command)
    if not records:
        return await _shown(request, earlier_job(handler_of(request).state, command) or job)
    headers = {"Location": f"/v1/jobs/{job}", "Safelight-Position": str(records[-1].position)}
    submitted = fold_view(None, records[0])  # the job as submitted: its record says all that the views would
    return json_response(shown_job(request, submitted), 201, headers)


async def show(request: Request) -> Response:
    """One job."""
    return await _shown(request, request.path_params["job"])


async def latest(request: Request) -> Response:
    """The newest job, of one status if asked: by its end when that is a finished status."""
    status = request.query_params.get("status")
    if status is not None:
        choice(request, "status", "", STATUSES)
    view = latest_job((await views_of(request)).reader(), status)  # type: ignore[arg-type]
    if view is None:
        raise Problem(404, "not-found", f"no job is {status or 'known'} yet")
    return json_response(shown_job(request, view))


async def index(request: Request) -> Response:
    """A page of jobs by submission, filtered, in either direction."""
    query = request.query_params
    statuses = tuple(query.getlist("status"))
    if unknown := [status for status in statuses if status not in STATUSES]:
        detail = f"status {unknown[0][:40]!r} is not accepted: use {', '.join(STATUSES)}"
        raise Problem(422, "invalid-field", detail, field="status")
    wanted = JobFilter(
        status=statuses,  # type: ignore[arg-type]
        queue=query.get("queue"),
        task=query.get("task"),
        model=query.get("model"),
        submitter=query.get("submitter"),
    )
    order = choice(request, "order", "newest", ("newest", "oldest"))
    limit = integer(request, "limit", 50, 1, MAX_PAGE)
    cursor, views = _cursor(request), await views_of(request)
    page = await asyncio.to_thread(
        lambda: list_jobs(views.reader(), wanted, order=order, limit=limit, **cursor)  # type: ignore[arg-type]
    )
    return json_response(
        JobList(
            jobs=[shown_job(request, view) for view in page.jobs],
            next_cursor=None if page.next_cursor is None else f"after:{page.next_cursor}",
            previous_cursor=None if page.previous_cursor is None else f"before:{page.previous_cursor}",
        )
    )


async def cancel(request: Request) -> Response:
    """End a waiting job (200), or tell the worker of a running one to stop (202 until it has)."""
    job = request.path_params["job"]
    await _ask(request, ask.CancelJob(job=job))
    view = await _view(request, job)
    return json_response(shown_job(request, view), 202 if view.status == "running" else 200)


async def retry(request: Request) -> Response:
    """Send a failed or cancelled job back to its queue."""
    job = request.path_params["job"]
    await _ask(request, ask.RetryJob(job=job))
    return await _shown(request, job)


async def history(request: Request) -> Response:
    """Every event of one job."""
    handler, job = handler_of(request), request.path_params["job"]
    records = await asyncio.to_thread(handler.log.read_stream, f"job/{job}")
    if not records:
        raise UnknownJob(job)
    return json_response(EventList(events=[event_resource(r) for r in records], head=handler.log.head()))


async def result(request: Request) -> Response:
    """The bytes of the job's first artifact."""
    view = await _view(request, request.path_params["job"])
    if not view.artifacts:
        detail = f"job {view.id} is {view.status} and has no file; only a completed job has one"
        raise Problem(409, "not-finished", detail, job=view.id, job_status=view.status)
    return file_response(request, view.artifacts[0].digest, view.artifacts[0].media_type)


ROUTES = [
    Route("/v1/jobs", submit, methods=["POST"]),
    Route("/v1/jobs", index, methods=["GET"]),
    Route("/v1/jobs/latest", latest, methods=["GET"]),
    Route("/v1/jobs/{job}", show, methods=["GET"]),
    Route("/v1/jobs/{job}/cancel", cancel, methods=["POST"]),
    Route("/v1/jobs/{job}/retry", retry, methods=["POST"]),
    Route("/v1/jobs/{job}/events", history, methods=["GET"]),
    Route("/v1/jobs/{job}/result", result, methods=["GET"]),
]


async def _ask(request: Request, command: ask.Command) -> list[Any]:
    return await handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))


async def _view(request: Request, job: str) -> JobView:
    view = find_job((await views_of(request)).reader(), job)
    if view is None:
        raise UnknownJob(job)
    return view


async def _shown(request: Request, job: str) -> Response:
    return json_response(shown_job(request, await _view(request, job)))


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        detail = "Idempotency-Key is not accepted: use 1 to 255 printable ASCII characters without spaces"
        raise Problem(422, "invalid-field", detail, field="Idempotency-Key")
    return key


def _cursor(request: Request) -> dict[str, int]:
    text = request.query_params.get("cursor")
    if text is None:
        return {}
    match = _CURSOR.fullmatch(text)
    if match is None:
        detail = f"cursor {text[:40]!r} is not accepted: hand back next_cursor or previous_cursor of a page"
        raise Problem(422, "invalid-field", detail, field="cursor")
    return {match[1]: int(match[2])}
