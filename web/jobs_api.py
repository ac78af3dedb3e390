"""Jobs over HTTP: submit, read, list, history and result."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.entropy import Entropy
from events.ids import RANDOM_BYTES, uuid7
from projections.job_queries import JobFilter, batch_counts, latest_job, list_jobs
from projections.jobs import fold_view
from projections.live_job import Status
from service import commands as ask
from service.decisions.submit import earlier_job
from service.refusals import UnknownJob
from service.tasks.task import MAX_SEED
from web.artifacts_api import file_response, stored_pictures
from web.errors import Problem
from web.forms import is_form, read_form
from web.requests import (
    body_as,
    caller_of,
    cause_of,
    check_url,
    choice,
    handler_of,
    headers_of,
    integer,
    json_response,
    rate_limits_of,
    shown,
    shown_job,
    shown_jobs,
    view_of,
    views_of,
)
from web.resources import BatchResource, EventList, JobList, event_resource
from web.submissions import Caller, Submission, command_of

STATUSES: tuple[str, ...] = get_args(Status)
MAX_PAGE = 1000
_entropy = Entropy()  # of the event loop: every handler here runs in it
_CURSOR = re.compile(r"(after|before):(\d{1,16})")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


async def submit(request: Request) -> Response:
    """Put a job or a batch in a queue: 201, or 200 when the Idempotency-Key repeats an earlier request."""
    submission, body = await _said(request)
    if submission.parent is not None:
        await view_of(request, submission.parent)
    if submission.callback is not None:
        check_url(request, "callback", submission.callback)
    caller = Caller(submitter=caller_of(request).actor, idempotency_key=_idempotency_key(request), body=body)
    pictures = await stored_pictures(request, submission.params)
    command = command_of(submission, caller, pictures, new_id=_new_id, new_seed=_new_seed)
    first, jobs = (command.jobs[0], len(command.jobs)) if isinstance(command, ask.SubmitBatch) else (command, 1)
    rate_limits_of(request).check(caller.submitter, handler_of(request).state.limits_of(caller.submitter), jobs)
    records = await handler_of(request).ask(command, actor=caller.submitter, cause=cause_of(request))
    if not records:
        job = earlier_job(handler_of(request).state, first) or first.job
        return await _earlier(request, job, is_batch=submission.is_batch)
    headers = {"Safelight-Position": str(records[-1].position)}
    if isinstance(command, ask.SubmitBatch):
        headers["Location"] = f"/v1/batches/{command.batch}"
        submitted = [fold_view(None, record) for record in records if record.category == "job"]
        counts: dict[str, int] = dict(Counter[str](view.status for view in submitted))
        return json_response(BatchResource(id=command.batch, jobs=jobs, counts=counts), 201, headers)
    headers["Location"] = f"/v1/jobs/{command.job}"
    view = fold_view(None, records[0])  # the job as submitted: its record says all that the views would
    return json_response(shown_job(request, view), 201, headers)


async def show(request: Request) -> Response:
    """One job."""
    return await shown(request, request.path_params["job"])


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
        batch=query.get("batch"),
        tag=query.get("tag"),
        error=query.get("error"),
    )
    order = choice(request, "order", "newest", ("newest", "oldest"))
    limit = integer(request, "limit", 50, 1, MAX_PAGE)
    cursor, views = _cursor(request), await views_of(request)
    page = await asyncio.to_thread(
        lambda: list_jobs(views.reader(), wanted, order=order, limit=limit, **cursor)  # type: ignore[arg-type]
    )
    return json_response(
        JobList(
            jobs=shown_jobs(request, page.jobs),
            next_cursor=None if page.next_cursor is None else f"after:{page.next_cursor}",
            previous_cursor=None if page.previous_cursor is None else f"before:{page.previous_cursor}",
        )
    )


async def history(request: Request) -> Response:
    """Every event of one job."""
    handler, job = handler_of(request), request.path_params["job"]
    records = await asyncio.to_thread(handler.log.read_stream, f"job/{job}")
    if not records:
        raise UnknownJob(job)
    return json_response(EventList(events=[event_resource(r) for r in records], head=handler.log.head()))


async def result(request: Request) -> Response:
    """The bytes of the job's first artifact."""
    view = await view_of(request, request.path_params["job"])
    if not view.artifacts:
        detail = f"job {view.id} is {view.status} and has no file; only a completed job has one"
        raise Problem(409, "not-finished", detail, job=view.id, job_status=view.status)
    return file_response(request, view.artifacts[0].digest, view.artifacts[0].media_type)


ROUTES = [
    Route("/v1/jobs", submit, methods=["POST"]),
    Route("/v1/jobs", index, methods=["GET"]),
    Route("/v1/jobs/latest", latest, methods=["GET"]),
    Route("/v1/jobs/{job}", show, methods=["GET"]),
    Route("/v1/jobs/{job}/events", history, methods=["GET"]),
    Route("/v1/jobs/{job}/result", result, methods=["GET"]),
]


async def _said(request: Request) -> tuple[Submission, bytes]:
    """What the client submits, and the bytes by which a repeat of it is known."""
    if is_form(headers_of(request)):
        return await read_form(request)
    return await body_as(request, Submission), await request.body()


async def _earlier(request: Request, job: str, *, is_batch: bool) -> Response:
    """What an earlier request with the same key and body made."""
    view = await view_of(request, job)
    if not is_batch or view.batch is None:
        return json_response(shown_job(request, view))
    counts = batch_counts((await views_of(request)).reader(), view.batch)
    return json_response(BatchResource(id=view.batch, jobs=sum(counts.values()), counts=counts))


def _new_id() -> str:
    return uuid7(time.time_ns() // 1000, _entropy.take(RANDOM_BYTES))


def _new_seed() -> int:
    return int.from_bytes(_entropy.take(7)) & MAX_SEED


def _idempotency_key(request: Request) -> str | None:
    key = headers_of(request).get("idempotency-key")
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
