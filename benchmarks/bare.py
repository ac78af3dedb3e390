"""The bare server that stands beside the service: Starlette routes under the same uvicorn settings that decode
and encode the same bodies, with nothing behind them. `python -m benchmarks.bare` serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import socket

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.queues import Rules
from web import serve
from web.resources import JobResource, QueueList, QueueResource, instant
from web.submissions import Submission

SUBMISSION = msgspec.json.encode(
    {
        "params": {"prompt": "a large red circle on a blue background", "seed": 7, "steps": 20},
        "task": "text-to-image",
        "model": "demo",
        "queue": "default",
        "priority": 50,
        "tags": ["station-1"],
    }
)
"""The body every submission of the harness has, but for the no-op jobs."""


def answer(submission: Submission) -> JobResource:
    """A job as the service would answer it, with nothing looked up."""
    now = instant(1_780_000_000_000_000)
    return JobResource(
        id="0199c0de-0000-7000-8000-000000000000",
        task=submission.task or "text-to-image",
        model=submission.model or "demo",
        queue=submission.queue,
        status="queued",
        phase=None,
        progress=None,
        rank=1,
        order="",
        eta=None,
        blocked=None,
        priority=submission.priority,
        background=submission.background,
        submitter="local",
        tags=submission.tags,
        metadata=submission.metadata,
        batch=None,
        parent=None,
        not_before=None,
        start_deadline=None,
        finish_deadline=None,
        params={**submission.params, "guidance": 4.0, "width": 512, "height": 512, "negative_prompt": ""},
        attempts=[],
        created_at=now,
        started_at=None,
        finished_at=None,
        cancel_requested=False,
        expired=None,
        error=None,
        artifacts=[],
        facts={},
        position=1,
    )


async def submit(request: Request) -> Response:
    """Decode, encode."""
    submission = msgspec.json.decode(await request.body(), type=Submission)
    headers = {"Location": "/v1/jobs/x", "Safelight-Position": "1"}
    return Response(msgspec.json.encode(answer(submission)), 201, headers, media_type="application/json")


async def latest(request: Request) -> Response:
    """Encode a job."""
    resource = answer(Submission(params={"prompt": "a red circle"}))
    return Response(msgspec.json.encode(resource), media_type="application/json")


async def queues(request: Request) -> Response:
    """Encode a queue."""
    queue = QueueResource(
        name="default",
        rules=Rules(),
        is_paused=False,
        pause_reason=None,
        is_drained=False,
        counts={"completed": 9},
        created_at=instant(0),
    )
    return Response(msgspec.json.encode(QueueList(queues=[queue])), media_type="application/json")


ROUTES = [
    Route("/v1/jobs", submit, methods=["POST"]),
    Route("/v1/jobs/latest", latest, methods=["GET"]),
    Route("/v1/queues", queues, methods=["GET"]),
]


async def _serve() -> None:
    # asyncio turns Nagle's algorithm off only for sockets that say TCP, and with it on every answer that uvicorn
    # writes in two parts waits 40 ms for the client's delayed ACK
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(f"bare serves http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    app = Starlette(routes=ROUTES)
    # the service's own settings, from its own function, so that the two cannot drift apart
    await uvicorn.Server(serve._server(app).config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(_serve())
