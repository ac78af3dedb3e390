"""Queues over HTTP: how they stand and by which rules, pause, drain, resume, prune."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.queues import Rules
from projections.job_queries import job_counts
from projections.queues import all_queues
from projections.store import ViewStore
from service import commands as ask
from service.refusals import UnknownQueue
from web.errors import Problem
from web.requests import body_as, caller_of, cause_of, handler_of, json_response, views_of
from web.resources import QueueList, QueueResource, queue_resource

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def queues(views: ViewStore) -> list[QueueResource]:
    """Every queue with its counts."""
    reader = views.reader()
    counts = job_counts(reader)
    return [queue_resource(view, counts.get(view.name, {})) for view in all_queues(reader)]


async def index(request: Request) -> Response:
    """Every queue."""
    return json_response(QueueList(queues=queues(await views_of(request))))


async def show(request: Request) -> Response:
    """One queue."""
    return await _shown(request)


async def pause(request: Request) -> Response:
    """Lease nothing more from the queue; what runs goes on."""
    return await _control(request, ask.PauseQueue(queue=request.path_params["queue"]))


async def resume(request: Request) -> Response:
    """Lease from the queue again."""
    return await _control(request, ask.ResumeQueue(queue=request.path_params["queue"]))


async def drain(request: Request) -> Response:
    """Take no new jobs; those that wait are still run."""
    return await _control(request, ask.DrainQueue(queue=request.path_params["queue"]))


async def configure(request: Request) -> Response:
    """Run the queue by these rules; it is made if there is none of that name."""
    name = request.path_params["queue"]
    if not _NAME.fullmatch(name):
        detail = f"queue {name[:64]!r} is not accepted: use 1 to 64 letters, digits, dots, dashes and underscores"
        raise Problem(422, "invalid-field", detail, field="queue")
    return await _control(request, ask.ConfigureQueue(queue=name, rules=await body_as(request, Rules)))


async def prune(request: Request) -> Response:
    """Let every job that has ended leave the views; the log keeps them."""
    position = handler_of(request).state.position
    return await _control(request, ask.PruneQueue(queue=request.path_params["queue"], through=position))


ROUTES = [
    Route("/v1/queues", index, methods=["GET"]),
    Route("/v1/queues/{queue}", show, methods=["GET"]),
    Route("/v1/queues/{queue}", configure, methods=["PUT"]),
    Route("/v1/queues/{queue}/pause", pause, methods=["POST"]),
    Route("/v1/queues/{queue}/drain", drain, methods=["POST"]),
    Route("/v1/queues/{queue}/prune", prune, methods=["POST"]),
    Route("/v1/queues/{queue}/resume", resume, methods=["POST"]),
]


async def _control(request: Request, command: ask.Command) -> Response:
    await handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))
    return await _shown(request)


async def _shown(request: Request) -> Response:
    name = request.path_params["queue"]
    found = [queue for queue in queues(await views_of(request)) if queue.name == name]
    if not found:
        raise UnknownQueue(name, sorted(handler_of(request).state.queues))
    return json_response(found[0])
