"""Errors on the wire: RFC 9457 problem documents, and which refusal has which HTTP status."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from events.log import LogError, LogFull
from service import refusals as no
from service.handle import ViewsBehind

STATUS: dict[type[no.Refusal], int] = {
    no.UnknownJob: 404,
    no.UnknownQueue: 404,
    no.UnknownTask: 422,
    no.UnknownModel: 422,
    no.InvalidField: 422,
    no.IllegalTransition: 409,
    no.StaleAttempt: 409,
    no.NotLeasable: 409,
    no.IdempotencyConflict: 409,
    no.FencedBoot: 409,
    no.UnknownSession: 404,
    no.UnknownKey: 404,
    no.UnknownWorker: 404,
    no.UnknownBatch: 404,
    no.QueueFull: 429,
    no.LimitReached: 429,
    no.CannotMove: 409,
    no.CountChanged: 409,
    no.UnknownWebhook: 404,
    no.UnknownDelivery: 404,
    no.TooManyWebhooks: 409,
    no.BuiltInWebhook: 409,
}
"""One status for each refusal; every refusal must be here (checked)."""

_HTTP_KINDS = {404: "not-found", 405: "method-not-allowed"}


class Problem(Exception):
    """An error answer that is no refusal of a decision: the wire itself was not used as it should be."""

    def __init__(self, status: int, kind: str, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.facts = facts


def problem_response(
    status: int, kind: str, detail: str, headers: dict[str, str] | None = None, **facts: Any
) -> Response:
    """A problem document. `type` is stable and relative to this service; `detail` is for people."""
    body = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        **facts,
    }
    return Response(msgspec.json.encode(body), status, headers=headers, media_type="application/problem+json")


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer a Problem."""
    assert isinstance(error, Problem)
    return problem_response(error.status, error.kind, error.detail, **error.facts)


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer a refusal with its status, kind and typed facts."""
    assert isinstance(error, no.Refusal)
    retry_after_s = error.facts().get("retry_after_s")
    headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return problem_response(STATUS[type(error)], error.kind, str(error), headers, **_extra(error))


async def on_log_error(request: Request, error: Exception) -> Response:
    """Answer a log that cannot append: nothing of the request was kept, asking again later is right."""
    assert isinstance(error, LogError)
    if isinstance(error, LogFull):
        detail = "the disk of the log is full; nothing was kept of this request, try again when there is room"
        return problem_response(507, "log-full", detail, {"Retry-After": "10"})
    detail = "the log takes nothing now; nothing was kept of this request, try again"
    return problem_response(503, "log-unavailable", detail, {"Retry-After": "5"})


async def on_views_behind(request: Request, error: Exception) -> Response:
    """Answer a read that could only show what is out of date. What a command asked for may have been kept."""
    assert isinstance(error, ViewsBehind)
    return problem_response(
        503, "not-ready", f"{error}; the service's log says why, ask again", {"Retry-After": "5"}
    )


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer starlette's own errors (unknown path, wrong method) in the same form."""
    assert isinstance(error, HTTPException)
    kind = _HTTP_KINDS.get(error.status_code, "http-error")
    detail = f"{request.method} {request.scope['path'][:200]} is not served; see /v1/openapi.json"
    return problem_response(error.status_code, kind, detail, dict(error.headers or {}))


async def on_crash(request: Request, error: Exception) -> Response:
    """Answer a fault of ours without telling its insides; the log line has them."""
    return problem_response(500, "internal", "the service failed to answer; its log says why")


def _extra(error: no.Refusal) -> dict[str, Any]:
    """The refusal's facts under names that RFC 9457 does not use itself."""
    return {("job_status" if name == "status" else name): value for name, value in error.facts().items()}


HANDLERS: dict[Any, Any] = {
    Problem: on_problem,
    no.Refusal: on_refusal,
    LogError: on_log_error,
    ViewsBehind: on_views_behind,
    HTTPException: on_http_exception,
    Exception: on_crash,
}
"""What starlette calls for which exception."""
