"""The log over plain HTTP: pages of records. The same path as a WebSocket is web/browser_socket.py."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from web.browser_socket import events_socket
from web.requests import handler_of, integer, json_response
from web.resources import EventList, event_resource


async def index(request: Request) -> Response:
    """Up to `limit` records with a position above `after`, in log order."""
    after = integer(request, "after", 0, 0, 1 << 53)
    limit = integer(request, "limit", 100, 1, 1000)
    log = handler_of(request).log
    records = await asyncio.to_thread(log.read, after, limit)
    return json_response(EventList(events=[event_resource(r) for r in records], head=log.head()))


ROUTES = [
    Route("/v1/events", index, methods=["GET"]),
    WebSocketRoute("/v1/events", events_socket),
]
