"""Health and metrics: is the process up, can it take work, how much has it done."""

from __future__ import annotations

import math
from contextlib import suppress
from importlib.metadata import version

import apsw
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from projections.job_queries import job_counts
from service.handle import Handler, ViewsBehind
from web.errors import Problem
from web.requests import handler_of, json_response


async def live(request: Request) -> Response:
    """200 while the process answers at all."""
    return json_response({"status": "live"})


async def ready(request: Request) -> Response:
    """200 when views show what the log holds, so that commands can be answered; 503 otherwise."""
    handler = handler_of(request)
    if not handler.is_ready:
        raise Problem(503, "not-ready", "the views cannot be written; the service's log says why")
    return json_response({"status": "ready", "position": handler.state.position})


async def health(request: Request) -> Response:
    """Every part of the service in one document."""
    handler, dispatcher = handler_of(request), request.app.state.dispatcher
    return json_response(
        {
            "status": "ready" if handler.is_ready else "degraded",
            "version": version("safelight"),
            "log": {
                "id": handler.log.log_id,
                "head": handler.log.head(),
                "sqlite": apsw.sqlite_lib_version(),
            },
            "views": {"position": handler.views.position},
            "estimates": {"share_within_20_percent": handler.state.accuracy.share_within()},
            "workers": {"connected": len(dispatcher.connected)},
            "push": {"subscribers": request.app.state.hub.subscribers},
        }
    )


async def metrics(request: Request) -> Response:
    """The Prometheus text format; values are read when asked, nothing is counted twice."""
    handler, dispatcher, hub = handler_of(request), request.app.state.dispatcher, request.app.state.hub
    with suppress(ViewsBehind):  # then the counts are as old as the position below says
        await handler.shown()
    registry = CollectorRegistry()
    jobs = Gauge("safelight_jobs", "Jobs by queue and status", ["queue", "status"], registry=registry)
    for queue, counts in job_counts(handler.views.reader()).items():
        for status, count in counts.items():
            jobs.labels(queue, status).set(count)
    for name, text, value in (
        ("safelight_log_position", "Newest position of the log", handler.log.head()),
        ("safelight_views_position", "Position the views have reached", handler.views.position),
        ("safelight_eta_share_within_20_percent", "Estimates that were right", _share(handler)),
        ("safelight_workers_connected", "Workers with a session", len(dispatcher.connected)),
        ("safelight_push_subscribers", "Open push sockets", hub.subscribers),
    ):
        Gauge(name, text, registry=registry).set(value)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _share(handler: Handler) -> float:
    """Of the last 200 jobs with a first estimate; NaN while there are none."""
    share = handler.state.accuracy.share_within()
    return math.nan if share is None else share


ROUTES = [
    Route("/v1/health/live", live, methods=["GET"]),
    Route("/v1/health/ready", ready, methods=["GET"]),
    Route("/v1/health", health, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]
