"""Queues over HTTP: how they stand, pause and resume."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from projections.job_queries import job_counts
from projections.queues import all_queues
from projections.store import ViewStore
from service import commands as ask
from service.refusals import UnknownQueue
from web.requests import caller_of, cause_of, handler_of, json_response, views_of
from web.resources import QueueList, QueueResource, queue_resource


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


ROUTES = [
    Route("/v1/queues", index, methods=["GET"]),
    Route("/v1/queues/{queue}", show, methods=["GET"]),
    Route("/v1/queues/{queue}/pause", pause, methods=["POST"]),
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
