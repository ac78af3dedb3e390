"""Webhooks over HTTP: make, list, change, remove, ping; read what was delivered and send it again.

A signing secret is shown once, in the answer that made it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.webhooks import CALLBACK, ENDS, DisableReason
from projections.outbox import delivery_id
from projections.webhooks import LiveWebhook
from service import commands as ask
from service.refusals import UnknownDelivery, UnknownWebhook
from service.webhooks.office import WebhookOffice
from service.webhooks.outbox import DeliveryStatus, DeliveryView, find_delivery, list_deliveries
from service.webhooks.signing import SECRET_BYTES, make_secret
from web.errors import Problem
from web.requests import body_as, caller_of, cause_of, check_url, handler_of, integer, json_response
from web.resources import instant

MAX_PAGE = 1000
_CURSOR = re.compile(r"(after|before):(\d{1,16})")


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/webhooks; only `url` is needed. `queues` empty: of every queue."""

    url: str
    events: tuple[str, ...] = ENDS
    queues: tuple[str, ...] = ()


class WebhookChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /v1/webhooks/{webhook}; what is absent stays as it is."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None
    is_enabled: bool | None = None


class WebhookResource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A webhook. `url` is null for the built-in one that signs callbacks; `disabled` says why it is told nothing.

    `secret` is there only in the answer that made it.
    """

    id: str
    url: str | None
    events: tuple[str, ...]
    queues: tuple[str, ...]
    is_enabled: bool
    disabled: DisableReason | None
    created_at: str
    secret: str | None = None


class WebhookList(msgspec.Struct, frozen=True, kw_only=True):
    """Every webhook."""

    webhooks: list[WebhookResource]


class DeliveryAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request: the status it got, or what went wrong; of a refusal the beginning of the answer."""

    attempt: int
    at: str
    duration_ms: int
    status: int | None
    error: str | None


class DeliveryResource(msgspec.Struct, frozen=True, kw_only=True):
    """What one event owed a webhook; `id` is its `webhook-id` header. `url` is that of a job's own callback."""

    id: str
    event: str
    job: str | None
    position: int
    url: str | None
    created_at: str
    round: int
    status: DeliveryStatus
    next_attempt_at: str | None
    attempts: list[DeliveryAttempt]


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of deliveries, newest first; hand a cursor back as ?cursor= to go on in that direction."""

    deliveries: list[DeliveryResource]
    next_cursor: str | None
    previous_cursor: str | None


async def create(request: Request) -> Response:
    """Make a webhook. Its secret is shown once."""
    wanted = await body_as(request, NewWebhook)
    check_url(request, "url", wanted.url)
    webhook, secret = secrets.token_hex(6), _new_secret()
    command = ask.CreateWebhook(
        webhook=webhook, url=wanted.url, secret=secret, events=wanted.events, queues=wanted.queues
    )
    await _ask(request, command)
    return json_response(_resource(_known(request, webhook), secret), 201, {"Location": f"/v1/webhooks/{webhook}"})


async def index(request: Request) -> Response:
    """Every webhook, without its secret."""
    webhooks = handler_of(request).state.webhooks.values()
    return json_response(WebhookList(webhooks=[_resource(webhook) for webhook in webhooks]))


async def show(request: Request) -> Response:
    """One webhook, without its secret."""
    return json_response(_resource(_known(request)))


async def change(request: Request) -> Response:
    """Give a webhook another address or filter, or switch it off and on."""
    wanted = await body_as(request, WebhookChange)
    if wanted.url is not None:
        check_url(request, "url", wanted.url)
    await _ask(request, ask.ChangeWebhook(webhook=_name(request), **msgspec.structs.asdict(wanted)))
    return json_response(_resource(_known(request)))


async def rotate(request: Request) -> Response:
    """Give a webhook a new secret, shown once; for a day the old one signs too."""
    secret = _new_secret()
    await _ask(request, ask.RotateWebhookSecret(webhook=_name(request), secret=secret))
    return json_response(_resource(_known(request), secret))


async def remove(request: Request) -> Response:
    """Remove a webhook, with what was not delivered yet and the record of what was."""
    await _ask(request, ask.RemoveWebhook(webhook=_name(request)))
    return Response(status_code=204)


async def ping(request: Request) -> Response:
    """Have a test message sent, once: 202 with its delivery, which tells how it went."""
    (record,) = await _ask(request, ask.PingWebhook(webhook=_name(request)))
    return json_response(await _delivery(request, delivery_id(_name(request), record.event_id)), 202)


async def deliveries(request: Request) -> Response:
    """A page of a webhook's deliveries, newest first, with every attempt."""
    webhook, limit, cursor = _known(request), integer(request, "limit", 50, 1, MAX_PAGE), _cursor(request)
    office = await _office(request)
    page, following, previous = await asyncio.to_thread(
        lambda: list_deliveries(office.reader(), webhook.id, limit=limit, **cursor)
    )
    return json_response(
        DeliveryList(
            deliveries=[_delivery_resource(view) for view in page],
            next_cursor=None if following is None else f"after:{following}",
            previous_cursor=None if previous is None else f"before:{previous}",
        )
    )


async def delivery(request: Request) -> Response:
    """One delivery, with every attempt."""
    _known(request)
    return json_response(await _delivery(request, request.path_params["delivery"]))


async def redeliver(request: Request) -> Response:
    """Have a delivery sent again under the same id, whatever became of it: 202."""
    _known(request)
    name = request.path_params["delivery"]
    await _delivery(request, name)
    await _ask(request, ask.RedeliverWebhook(webhook=_name(request), delivery=name))
    return json_response(await _delivery(request, name), 202)


ROUTES = [
    Route("/v1/webhooks", create, methods=["POST"]),
    Route("/v1/webhooks", index, methods=["GET"]),
    Route("/v1/webhooks/{webhook}", show, methods=["GET"]),
    Route("/v1/webhooks/{webhook}", change, methods=["PATCH"]),
    Route("/v1/webhooks/{webhook}", remove, methods=["DELETE"]),
    Route("/v1/webhooks/{webhook}/rotate", rotate, methods=["POST"]),
    Route("/v1/webhooks/{webhook}/ping", ping, methods=["POST"]),
    Route("/v1/webhooks/{webhook}/deliveries", deliveries, methods=["GET"]),
    Route("/v1/webhooks/{webhook}/deliveries/{delivery}", delivery, methods=["GET"]),
    Route("/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver", redeliver, methods=["POST"]),
]


async def _ask(request: Request, command: ask.Command) -> list[Any]:
    return await handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))


async def _office(request: Request) -> WebhookOffice:
    """The outbox, once it shows what was durable when this was asked."""
    office: WebhookOffice = request.app.state.webhooks
    await office.shown()
    return office


async def _delivery(request: Request, name: str) -> DeliveryResource:
    office = await _office(request)
    view = find_delivery(office.reader(), _name(request), name)
    if view is None:
        raise UnknownDelivery(_name(request), name)
    return _delivery_resource(view)


def _name(request: Request) -> str:
    return str(request.path_params["webhook"])


def _known(request: Request, webhook: str | None = None) -> LiveWebhook:
    name = webhook or _name(request)
    known = handler_of(request).state.webhooks.get(name)
    if known is None:
        raise UnknownWebhook(name)
    return known


def _new_secret() -> str:
    return make_secret(secrets.token_bytes(SECRET_BYTES))


def _cursor(request: Request) -> dict[str, int]:
    text = request.query_params.get("cursor")
    if text is None:
        return {}
    match = _CURSOR.fullmatch(text)
    if match is None:
        detail = f"cursor {text[:40]!r} is not accepted: hand back next_cursor or previous_cursor of a page"
        raise Problem(422, "invalid-field", detail, field="cursor")
    return {match[1]: int(match[2])}


def _resource(webhook: LiveWebhook, secret: str | None = None) -> WebhookResource:
    return WebhookResource(
        id=webhook.id,
        url=webhook.url if webhook.id != CALLBACK else None,
        events=webhook.events,
        queues=webhook.queues,
        is_enabled=webhook.disabled is None,
        disabled=webhook.disabled,
        created_at=instant(webhook.created_at_us),
        secret=secret,
    )


def _delivery_resource(view: DeliveryView) -> DeliveryResource:
    category, _, subject = view.stream.partition("/")
    return DeliveryResource(
        id=view.id,
        event=view.type,
        job=subject if category == "job" else None,
        position=view.position,
        url=view.url,
        created_at=instant(view.made_at_us),
        round=view.round,
        status=view.status,
        next_attempt_at=None if view.next_at_us is None else instant(view.next_at_us),
        attempts=[
            DeliveryAttempt(
                attempt=a.attempt, at=instant(a.at_us), duration_ms=a.duration_ms, status=a.status, error=a.error
            )
            for a in view.attempts
        ],
    )  # fmt: skip
