"""Reading a request safely: JSON bodies with a size and type, query parameters with bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from projections.job_queries import find_job
from projections.jobs import JobView
from projections.store import ViewStore
from service.auth import Caller
from service.dispatch import Dispatcher
from service.field_errors import explain
from service.handle import Handler
from service.planner import Planner
from service.refusals import InvalidField, UnknownJob
from service.scheduling.ranks import Ranks
from service.webhooks.address import BadUrl, check_target, parse_url
from web.errors import Problem
from web.rate_limits import RateLimits
from web.resources import JobResource, job_resource

MAX_JSON_BYTES = 1 << 20
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

T = TypeVar("T")


def handler_of(request: Request) -> Handler:
    """The open log and views of the service that answers."""
    return request.app.state.handler  # type: ignore[no-any-return]


async def views_of(request: Request) -> ViewStore:
    """The views of the service that answers, once they show all that was durable when this was asked."""
    handler = handler_of(request)
    await handler.shown()
    return handler.views


def rate_limits_of(request: Request) -> RateLimits:
    """How fast each key has been submitting."""
    return request.app.state.rate_limits  # type: ignore[no-any-return]


def caller_of(request: Request) -> Caller:
    """Who asks, as the gate found out."""
    return request.scope["safelight.caller"]  # type: ignore[no-any-return]


def headers_of(request: Request) -> Mapping[str, str]:
    """The request's headers by lower-case name, as the gate read them once."""
    return request.scope["safelight.headers"]  # type: ignore[no-any-return]


def cause_of(request: Request) -> str:
    """The id of this request, which its events name as their cause."""
    return request.scope["safelight.request"]  # type: ignore[no-any-return]


async def body_as(request: Request, kind: type[T]) -> T:
    """The JSON body as `kind`. Raises a Problem for another content type, bad JSON or a field out of place."""
    check_json_type(request)
    return read_json(await request.body(), kind)


def read_json(raw: bytes, kind: type[T]) -> T:
    """`raw` as `kind`. Raises a Problem for bad JSON or a field out of place."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        field, message = explain(error, _plain(raw), getattr(kind, "__struct_fields__", ()))
        raise Problem(422, "invalid-field", f"{field or 'the body'}: {message}", field=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = "it holds a lone surrogate" if _SURROGATE.search(raw) else str(error)
        raise Problem(400, "bad-json", f"the body is no JSON document ({why}); send one object") from None


def _plain(raw: bytes) -> Any:
    """The body as plain objects, to show a value from it; json also reads the numbers that msgspec refuses."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def check_json_type(request: Request) -> None:
    """Raise a Problem unless the body is declared to be plain JSON."""
    headers = headers_of(request)
    declared = media_type_of(headers)
    if declared != "application/json":
        detail = f"content type {declared[:80]!r} is not accepted; send application/json"
        raise Problem(415, "unsupported-media-type", detail)
    check_not_encoded(headers)


def media_type_of(headers: Mapping[str, str]) -> str:
    """The media type that a body or a part is declared to be, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_not_encoded(headers: Mapping[str, str]) -> None:
    """Raise a Problem for a compressed body: what it grows to would have no bound."""
    if "content-encoding" in headers:
        raise Problem(415, "unsupported-media-type", "an encoded body is not accepted; send it as it is")


def check_url(request: Request, field: str, url: str) -> None:
    """Refuse a URL that nothing could be delivered to: what its name resolves to is checked at each delivery."""
    try:
        check_target(parse_url(url), request.app.state.webhook_allowed)
    except BadUrl as error:
        raise InvalidField(field, str(error)) from None


def integer(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A query parameter as an integer from `low` to `high`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
        raise Problem(
            422, "invalid-field", f"{name} {text[:40]!r} is not accepted: use {low} to {high}", field=name
        )
    return int(text)


def choice(request: Request, name: str, default: str, allowed: Sequence[str]) -> str:
    """A query parameter that is one of a few words."""
    text = request.query_params.get(name, default)
    if text not in allowed:
        raise Problem(
            422,
            "invalid-field",
            f"{name} {text[:40]!r} is not accepted: use {', '.join(allowed)}",
            field=name,
        )
    return text


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`content` as JSON."""
    return Response(msgspec.json.encode(content), status, headers=headers, media_type="application/json")


async def view_of(request: Request, job: str) -> JobView:
    """The job as the views show it. Refuses one that is not known."""
    view = find_job((await views_of(request)).reader(), job)
    if view is None:
        raise UnknownJob(job)
    return view


async def shown(request: Request, job: str, status: int = 200) -> Response:
    """The job as it is now, as an answer."""
    return json_response(shown_job(request, await view_of(request, job)), status)


def shown_job(request: Request, view: JobView) -> JobResource:
    """The job as the API shows it now."""
    return shown_jobs(request, [view])[0]


def shown_jobs(request: Request, views: Sequence[JobView]) -> list[JobResource]:
    """Jobs as the API shows them now."""
    dispatcher: Dispatcher = request.app.state.dispatcher
    planner: Planner = request.app.state.planner
    state = handler_of(request).state
    ranks = Ranks(state, handler_of(request).catalog)
    return [job_resource(view, state, ranks, dispatcher.progress, planner.eta) for view in views]
