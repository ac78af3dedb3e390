"""The push socket, /v1/events with subprotocol `safelight.v1`: hello, a snapshot or a resume, then the hub.

The protocol is written down in docs/push.md.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from projections.job_queries import JobFilter, list_jobs
from projections.jobs import JobView
from projections.live_job import FINISHED, WAITING, Status
from projections.store import ViewStore
from service.dispatch import Dispatcher
from service.handle import Handler, ViewsBehind
from service.planner import Planner
from service.scheduling.ranks import Ranks
from web.errors import Problem
from web.hub import Filter, Hub, Subscriber
from web.queues_api import queues
from web.resources import job_resource
from web.transport import sink_of
from web.workers_api import workers

SUBPROTOCOL = "safelight.v1"
MAX_SUBSCRIBERS = 5_000  # 24 KB each
SNAPSHOT_PAGE = 500
SNAPSHOT_FINISHED = 200
UNFINISHED: tuple[Status, ...] = (*sorted(WAITING), "running")

BAD_MESSAGE, BAD_SUBPROTOCOL, TOO_MANY, RESTART = 4400, 4406, 4429, 1012

_COUNT = re.compile(r"[0-9]{1,16}")


class Wish(msgspec.Struct, frozen=True, kw_only=True, tag="previews", tag_field="op", forbid_unknown_fields=True):
    """The one message a client sends: whether it wants previews."""

    wanted: bool


_wish = msgspec.json.Decoder(Wish)


async def events_socket(websocket: WebSocket) -> None:
    """Serve one subscriber until it leaves or the service ends."""
    if SUBPROTOCOL not in websocket.scope["subprotocols"]:
        await websocket.accept()  # a refused handshake could not say why
        await websocket.close(BAD_SUBPROTOCOL, f"speak {SUBPROTOCOL}")
        return
    await websocket.accept(subprotocol=SUBPROTOCOL)
    hub: Hub = websocket.app.state.hub
    if hub.subscribers >= MAX_SUBSCRIBERS:
        await websocket.close(TOO_MANY, f"{MAX_SUBSCRIBERS} subscribers are the limit; try again later")
        return
    try:
        wanted, after, most, previews = _asked(websocket)
    except Problem as problem:
        await websocket.close(BAD_MESSAGE, problem.detail[:120])
        return
    try:
        start = await _greet(websocket, wanted, after, most)
        subscriber = hub.subscribe(sink_of(websocket), wanted, start, wants_previews=previews)
    except WebSocketDisconnect:
        return
    except ViewsBehind as behind:
        await websocket.close(RESTART, f"{behind}; come back later"[:120])
        return
    try:
        await _until_it_ends(websocket, hub, subscriber)
    finally:
        hub.unsubscribe(subscriber)


async def _greet(websocket: WebSocket, wanted: Filter, after: int | None, most: int | None) -> int:
    """Say hello, send the snapshot if one is due; gives the position from which events follow.

    One is due without `after`, for another log, and when more than `most` events lie behind `after`.
    """
    handler: Handler = websocket.app.state.handler
    log = handler.log
    is_same = websocket.query_params.get("epoch") in (None, log.log_id)
    await _send(
        websocket,
        {
            "op": "hello",
            "epoch": log.log_id,
            "head": log.head(),
            "oldest": 1,
            "session": secrets.token_hex(8),
            "server": f"safelight/{version('safelight')}",
        },
    )
    behind = -1 if after is None else log.head() - after
    if after is not None and is_same and behind >= 0 and (most is None or behind <= most):
        return after
    await handler.shown()
    as_of, views = await asyncio.to_thread(_snapshot, handler.views, wanted)
    dispatcher: Dispatcher = websocket.app.state.dispatcher
    planner: Planner = websocket.app.state.planner
    rest = {"queues": queues(handler.views), "workers": workers(handler, dispatcher)}
    pages = [views[start : start + SNAPSHOT_PAGE] for start in range(0, len(views), SNAPSHOT_PAGE)] or [[]]
    for number, page in enumerate(pages):
        ranks = Ranks(handler.state, handler.catalog)
        jobs = [job_resource(view, handler.state, ranks, dispatcher.progress, planner.eta) for view in page]
        head = {"op": "snapshot", "as_of": as_of, "jobs": jobs, "last": number == len(pages) - 1}
        await _send(websocket, {**head, **(rest if number == 0 else {"queues": [], "workers": []})})
        await asyncio.sleep(0)  # 10,000 waiting jobs take 0.2 s: others have their turn between two pages
    return as_of


def _snapshot(views: ViewStore, wanted: Filter) -> tuple[int, list[JobView]]:
    """Every unfinished job and the newest finished ones, newest first, all as of one position."""
    reader = views.reader()
    with reader:  # a read transaction: position and rows are of one moment
        as_of = views.position_in(reader)
        found = [
            job
            for statuses, limit in ((UNFINISHED, 1_000_000), (tuple(sorted(FINISHED)), SNAPSHOT_FINISHED))
            for job in list_jobs(
                reader, JobFilter(status=statuses, queue=wanted.queue), order="newest", limit=limit
            ).jobs
            if wanted.job in (None, job.id)
        ]
    return as_of, sorted(found, key=lambda job: -job.submitted_position)


async def _until_it_ends(websocket: WebSocket, hub: Hub, subscriber: Subscriber) -> None:
    reading = asyncio.create_task(_read(websocket, hub, subscriber))
    closing = asyncio.create_task(hub.until_closed())
    try:
        await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
        if closing.done():
            await websocket.close(RESTART, "the service ends; come back and resume")
    finally:
        reading.cancel()
        closing.cancel()
        await asyncio.gather(reading, closing, return_exceptions=True)


async def _read(websocket: WebSocket, hub: Hub, subscriber: Subscriber) -> None:
    """Take the client's wishes until it leaves; anything else ends the connection."""
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            hub.want_previews(subscriber, _wish.decode(message.get("text") or b"").wanted)
    except (msgspec.DecodeError, RecursionError) as error:
        await websocket.close(BAD_MESSAGE, f"not a message: {error}"[:120])


async def _send(websocket: WebSocket, message: dict[str, Any]) -> None:
    await websocket.send_text(msgspec.json.encode(message).decode())


def _asked(websocket: WebSocket) -> tuple[Filter, int | None, int | None, bool]:
    """From the query: the filter, the position to go on behind, the most events wanted, whether previews are."""
    query = websocket.query_params
    wanted = Filter(
        queue=query.get("queue"),
        job=query.get("job"),
        types=tuple(sorted(filter(None, query.get("types", "").split(",")))),
        progress=query.get("progress", "1") != "0",
    )
    return wanted, _count(websocket, "after"), _count(websocket, "most"), query.get("previews", "0") == "1"


def _count(websocket: WebSocket, name: str) -> int | None:
    text = websocket.query_params.get(name)
    if text is not None and not _COUNT.fullmatch(text):
        raise Problem(400, "bad-message", f"{name} {text[:40]!r} is no number; use 1 to 16 digits")
    return int(text) if text is not None else None
