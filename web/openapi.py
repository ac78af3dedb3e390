"""The OpenAPI 3.1 document, generated from the routes, their docstrings and the msgspec structs.

Each operation is declared once here; a route without a declaration is an error (checked).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from events.keys import Limits
from events.queues import Rules
from service.artifacts import INPUT_TYPES, MEDIA_TYPES
from service.polled_sessions import Lease, Orders
from web.forms import PICTURES
from web.job_control_api import Bulk, Edit, Move
from web.jobs_api import MAX_PAGE, STATUSES
from web.keys_api import KeyList, KeyResource, Login, NewKey
from web.requests import json_response
from web.resources import (
    ArtifactResource,
    BatchResource,
    BulkResource,
    EventList,
    JobList,
    JobResource,
    ModelList,
    QueueList,
    QueueResource,
    WorkerList,
    WorkerResource,
)
from web.submissions import Submission
from web.webhooks_api import (
    DeliveryList,
    DeliveryResource,
    NewWebhook,
    WebhookChange,
    WebhookList,
    WebhookResource,
)
from web.worker_http import (
    Claim,
    Complete,
    Fail,
    Heartbeat,
    Hello,
    SaidPhase,
    SaidProgress,
    SessionResource,
    Stopped,
)


class Problem(msgspec.Struct, kw_only=True):
    """RFC 9457 problem document; further fields name what was wrong (`field`, `job`, …)."""

    type: str
    title: str
    status: int
    detail: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What one method of one path takes and gives."""

    answer: type | None = None  # None: not JSON of a declared shape
    status: int = 200
    body: type | None = None
    files: tuple[str, ...] = ()  # media types of a body that is a file
    pictures: tuple[str, ...] = ()  # parts of a form that may stand beside the body, in its part `job`
    query: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()
    media_types: tuple[str, ...] = ("application/json",)


QUERY: dict[str, dict[str, Any]] = {
    "status": {"schema": {"type": "array", "items": {"enum": list(STATUSES)}}, "description": "only these"},
    "queue": {"schema": {"type": "string"}, "description": "only this queue"},
    "task": {"schema": {"type": "string"}, "description": "only this task"},
    "model": {"schema": {"type": "string"}, "description": "only this model"},
    "submitter": {"schema": {"type": "string"}, "description": "only of this submitter"},
    "batch": {"schema": {"type": "string"}, "description": "only of this batch"},
    "tag": {"schema": {"type": "string"}, "description": "only with this tag"},
    "error": {"schema": {"type": "string"}, "description": "only failed with this kind of error"},
    "order": {"schema": {"enum": ["newest", "oldest"], "default": "newest"}, "description": "by submission"},
    "limit": {
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
        "description": "at most so many",
    },
    "cursor": {"schema": {"type": "string"}, "description": "next_cursor or previous_cursor of a page"},
    "after": {"schema": {"type": "integer", "minimum": 0}, "description": "only positions above this one"},
    "job": {"schema": {"type": "string"}, "description": "job id", "required": True},
    "attempt": {"schema": {"type": "integer", "minimum": 1}, "description": "attempt", "required": True},
    "token": {"schema": {"type": "integer", "minimum": 1}, "description": "fencing token", "required": True},
}

FILTERS = ("status", "queue", "task", "model", "submitter", "batch", "tag", "error")

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/jobs"): Operation(
        answer=JobResource,
        status=201,
        body=Submission,
        pictures=PICTURES,
        refusals=(400, 404, 409, 413, 415, 422, 429, 503, 507),
    ),
    ("GET", "/v1/jobs"): Operation(
        answer=JobList,
        query=(
            "status",
            "queue",
            "task",
            "model",
            "submitter",
            "batch",
            "tag",
            "error",
            "order",
            "limit",
            "cursor",
        ),
        refusals=(422, 503),
    ),
    ("GET", "/v1/jobs/latest"): Operation(answer=JobResource, query=("status",), refusals=(404, 422, 503)),
    ("GET", "/v1/jobs/{job}"): Operation(answer=JobResource, refusals=(404, 503)),
    ("POST", "/v1/jobs/bulk"): Operation(answer=BulkResource, body=Bulk, refusals=(400, 409, 415, 422, 503, 507)),
    ("PATCH", "/v1/jobs/{job}"): Operation(
        answer=JobResource, body=Edit, refusals=(400, 404, 409, 415, 422, 429, 503, 507)
    ),
    ("POST", "/v1/jobs/{job}/hold"): Operation(answer=JobResource, refusals=(404, 409, 503, 507)),
    ("POST", "/v1/jobs/{job}/release"): Operation(answer=JobResource, refusals=(404, 409, 503, 507)),
    ("POST", "/v1/jobs/{job}/move"): Operation(
        answer=JobResource, body=Move, refusals=(400, 404, 409, 415, 422, 503, 507)
    ),
    ("GET", "/v1/batches/{batch}"): Operation(answer=BatchResource, refusals=(404, 503)),
    ("POST", "/v1/batches/{batch}/cancel"): Operation(answer=BatchResource, refusals=(404, 503, 507)),
    ("POST", "/v1/jobs/{job}/cancel"): Operation(answer=JobResource, refusals=(404, 409, 503, 507)),
    ("POST", "/v1/jobs/{job}/retry"): Operation(answer=JobResource, refusals=(404, 409, 429, 503, 507)),
    ("GET", "/v1/jobs/{job}/events"): Operation(answer=EventList, refusals=(404,)),
    ("GET", "/v1/jobs/{job}/result"): Operation(media_types=tuple(MEDIA_TYPES), refusals=(404, 409, 503)),
    ("GET", "/v1/queues"): Operation(answer=QueueList, refusals=(503,)),
    ("GET", "/v1/queues/{queue}"): Operation(answer=QueueResource, refusals=(404, 503)),
    ("PUT", "/v1/queues/{queue}"): Operation(answer=QueueResource, body=Rules, refusals=(400, 415, 422, 503, 507)),
    ("POST", "/v1/queues/{queue}/drain"): Operation(answer=QueueResource, refusals=(404, 503, 507)),
    ("POST", "/v1/queues/{queue}/clear"): Operation(answer=BulkResource, refusals=(404, 503, 507)),
    ("POST", "/v1/queues/{queue}/prune"): Operation(answer=QueueResource, refusals=(404, 503, 507)),
    ("POST", "/v1/queues/{queue}/pause"): Operation(answer=QueueResource, refusals=(404, 503, 507)),
    ("POST", "/v1/queues/{queue}/resume"): Operation(answer=QueueResource, refusals=(404, 503, 507)),
    ("GET", "/v1/workers"): Operation(answer=WorkerList, refusals=(503,)),
    ("POST", "/v1/workers/{worker}/release"): Operation(answer=WorkerResource, refusals=(404, 503, 507)),
    ("GET", "/v1/models"): Operation(answer=ModelList),
    ("GET", "/v1/tasks"): Operation(),
    ("POST", "/v1/artifacts"): Operation(
        answer=ArtifactResource, status=201, files=INPUT_TYPES, refusals=(413, 415, 422, 507)
    ),
    ("GET", "/v1/artifacts/{digest}"): Operation(media_types=tuple(MEDIA_TYPES), refusals=(404, 503)),
    ("PUT", "/v1/worker/artifacts/{digest}"): Operation(
        status=201, query=("job", "attempt", "token"), refusals=(409, 413, 422, 503, 507)
    ),
    ("POST", "/v1/worker/sessions"): Operation(
        answer=SessionResource, status=201, body=Hello, refusals=(400, 409, 415, 422, 503, 507)
    ),
    ("DELETE", "/v1/worker/sessions/{session}"): Operation(status=204, refusals=(404, 409)),
    ("POST", "/v1/worker/sessions/{session}/claim"): Operation(
        answer=Lease, body=Claim, refusals=(400, 404, 409, 415, 422)
    ),
    ("POST", "/v1/worker/sessions/{session}/heartbeat"): Operation(
        answer=Orders, body=Heartbeat, refusals=(400, 404, 409, 415, 422)
    ),
    ("POST", "/v1/worker/sessions/{session}/progress"): Operation(
        answer=Orders, body=SaidProgress, refusals=(400, 404, 409, 415, 422)
    ),
    ("POST", "/v1/worker/sessions/{session}/phase"): Operation(
        answer=Orders, body=SaidPhase, refusals=(400, 404, 409, 415, 422, 503, 507)
    ),
    ("POST", "/v1/worker/sessions/{session}/complete"): Operation(
        answer=Orders, body=Complete, refusals=(400, 404, 409, 415, 422, 503, 507)
    ),
    ("POST", "/v1/worker/sessions/{session}/fail"): Operation(
        answer=Orders, body=Fail, refusals=(400, 404, 409, 415, 422, 503, 507)
    ),
    ("POST", "/v1/worker/sessions/{session}/stopped"): Operation(
        answer=Orders, body=Stopped, refusals=(400, 404, 409, 415, 422, 503, 507)
    ),
    ("GET", "/v1/worker/artifacts/{digest}"): Operation(
        media_types=tuple(MEDIA_TYPES), query=("job", "attempt", "token"), refusals=(404, 409, 422)
    ),
    ("GET", "/v1/events"): Operation(answer=EventList, query=("after", "limit"), refusals=(422,)),
    ("POST", "/v1/keys"): Operation(
        answer=KeyResource, status=201, body=NewKey, refusals=(400, 415, 422, 503, 507)
    ),
    ("GET", "/v1/keys"): Operation(answer=KeyList),
    ("PUT", "/v1/keys/{key}/limits"): Operation(
        answer=KeyResource, body=Limits, refusals=(400, 404, 415, 422, 503, 507)
    ),
    ("DELETE", "/v1/keys/{key}"): Operation(status=204, refusals=(404, 503, 507)),
    ("POST", "/v1/webhooks"): Operation(
        answer=WebhookResource, status=201, body=NewWebhook, refusals=(400, 409, 415, 422, 503, 507)
    ),
    ("GET", "/v1/webhooks"): Operation(answer=WebhookList),
    ("GET", "/v1/webhooks/{webhook}"): Operation(answer=WebhookResource, refusals=(404,)),
    ("PATCH", "/v1/webhooks/{webhook}"): Operation(
        answer=WebhookResource, body=WebhookChange, refusals=(400, 404, 409, 415, 422, 503, 507)
    ),
    ("DELETE", "/v1/webhooks/{webhook}"): Operation(status=204, refusals=(404, 409, 503, 507)),
    ("POST", "/v1/webhooks/{webhook}/rotate"): Operation(answer=WebhookResource, refusals=(404, 503, 507)),
    ("POST", "/v1/webhooks/{webhook}/ping"): Operation(
        answer=DeliveryResource, status=202, refusals=(404, 409, 503, 507)
    ),
    ("GET", "/v1/webhooks/{webhook}/deliveries"): Operation(
        answer=DeliveryList, query=("limit", "cursor"), refusals=(404, 422, 503)
    ),
    ("GET", "/v1/webhooks/{webhook}/deliveries/{delivery}"): Operation(
        answer=DeliveryResource, refusals=(404, 503)
    ),
    ("POST", "/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver"): Operation(
        answer=DeliveryResource, status=202, refusals=(404, 503, 507)
    ),
    ("POST", "/v1/session"): Operation(status=204, body=Login, refusals=(400, 401, 415, 422)),
    ("DELETE", "/v1/session"): Operation(status=204),
    ("GET", "/v1/health/live"): Operation(),
    ("GET", "/v1/health/ready"): Operation(refusals=(503,)),
    ("GET", "/v1/health"): Operation(),
    ("GET", "/metrics"): Operation(media_types=("text/plain",)),
    ("GET", "/v1/openapi.json"): Operation(),
}

_PARAMETER = re.compile(r"\{(\w+)\}")


async def document(request: Request) -> Response:
    """This service's OpenAPI document."""
    return json_response(openapi(request.app.routes))


ROUTES = [Route("/v1/openapi.json", document, methods=["GET"])]


def openapi(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The document for these routes. Raises KeyError for a route that is not declared in OPERATIONS."""
    shapes = {kind for o in OPERATIONS.values() for kind in (o.answer, o.body) if kind is not None} | {Problem}
    ordered = sorted(shapes, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    reference = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route, method in _documented(routes):
        operation = OPERATIONS[method, route.path]
        paths.setdefault(route.path, {})[method.lower()] = _described(route, method, operation, reference)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Safelight", "version": version("safelight")},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _documented(routes: Iterable[BaseRoute]) -> Iterable[tuple[Route, str]]:
    for route in routes:
        if isinstance(route, Route) and route.include_in_schema:
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield route, method


def _described(route: Route, method: str, operation: Operation, reference: dict[type, Any]) -> dict[str, Any]:
    summary = (route.endpoint.__doc__ or "").strip().partition("\n")[0]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [{"name": name, "in": "query", **QUERY[name]} for name in operation.query]
    if method == "POST" and route.path == "/v1/jobs":
        text = {"type": "string", "maxLength": 255}
        parameters.append({"name": "Idempotency-Key", "in": "header", "schema": text})
    described: dict[str, Any] = {
        "operationId": f"{method.lower()}_{route.path.strip('/').translate(str.maketrans('/.', '__', '{}'))}",
        "summary": summary,
        "parameters": parameters,
        "responses": _answers(operation, reference),
    }
    if content := _taken(operation, reference):
        described["requestBody"] = {"required": True, "content": content}
    return described


def _taken(operation: Operation, reference: dict[type, Any]) -> dict[str, Any]:
    """What the body may be, by media type."""
    content: dict[str, Any] = {media_type: {"schema": {}} for media_type in operation.files}
    if operation.body is not None:
        content["application/json"] = {"schema": reference[operation.body]}
    if operation.pictures:
        types = {"job": "application/json", **dict.fromkeys(operation.pictures, ", ".join(INPUT_TYPES))}
        parts = {"job": content["application/json"]["schema"], **{name: {} for name in operation.pictures}}
        content["multipart/form-data"] = {
            "schema": {"type": "object", "properties": parts, "required": ["job"]},
            "encoding": {name: {"contentType": of} for name, of in types.items()},
        }
    return content


def _answers(operation: Operation, reference: dict[type, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "as asked"}
    if operation.status != 204:
        schema = reference[operation.answer] if operation.answer is not None else {}
        good["content"] = {media_type: {"schema": schema} for media_type in operation.media_types}
    bad = {"content": {"application/problem+json": {"schema": reference[Problem]}}, "description": "refused"}
    return {str(operation.status): good, **{str(status): bad for status in operation.refusals}}
