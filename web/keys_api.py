"""API keys over HTTP: make, list, limit, revoke. The secret is shown once, in the answer that made it."""

from __future__ import annotations

import secrets

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.keys import Limits, Scope
from projections.live import LiveKey
from service import commands as ask
from service.auth import check_key, make_key
from web.errors import Problem
from web.gate import COOKIE
from web.requests import body_as, caller_of, cause_of, handler_of, json_response


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/keys."""

    name: str
    scopes: tuple[Scope, ...]


class KeyResource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key; `key` is its text, there only in the answer that made it."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    limits: Limits = Limits()
    key: str | None = None


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Every key that opens something."""

    keys: list[KeyResource]


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/session."""

    key: str


async def create(request: Request) -> Response:
    """Make a key."""
    wanted = await body_as(request, NewKey)
    if not (1 <= len(wanted.name) <= 80 and wanted.name.isprintable()):
        raise Problem(422, "invalid-field", "name is not accepted: use 1 to 80 printable characters", field="name")
    if not wanted.scopes:
        raise Problem(422, "invalid-field", "a key without scopes opens nothing: name at least one", field="scopes")
    text, key, digest = make_key(secrets.token_bytes(38))
    command = ask.CreateKey(key=key, name=wanted.name, scopes=wanted.scopes, secret_digest=digest)
    await handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))
    return json_response(KeyResource(id=key, name=wanted.name, scopes=wanted.scopes, key=text), 201)


async def index(request: Request) -> Response:
    """Every key, without its secret."""
    keys = handler_of(request).state.keys.values()
    return json_response(KeyList(keys=[key_resource(key) for key in keys]))


async def limit(request: Request) -> Response:
    """Bound what a key may ask for."""
    limits, handler = await body_as(request, Limits), handler_of(request)
    command = ask.LimitKey(key=request.path_params["key"], limits=limits)
    await handler.ask(command, actor=caller_of(request).actor, cause=cause_of(request))
    return json_response(key_resource(handler.state.keys[command.key]))


def key_resource(key: LiveKey) -> KeyResource:
    """The key as the API shows it, without its secret."""
    return KeyResource(id=key.id, name=key.name, scopes=key.scopes, limits=key.limits)


async def revoke(request: Request) -> Response:
    """Let a key open nothing any more."""
    command = ask.RevokeKey(key=request.path_params["key"])
    await handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))
    return Response(status_code=204)


async def login(request: Request) -> Response:
    """Let a browser in: the key is posted once and comes back as a cookie that no script can read."""
    text = (await body_as(request, Login)).key
    if check_key(text, handler_of(request).state.keys) is None:
        raise Problem(401, "unauthorized", "that key opens nothing; ask an admin for one")
    response = Response(status_code=204)
    is_tls = request.scope["scheme"] == "https"
    response.set_cookie(COOKIE, text, httponly=True, samesite="strict", secure=is_tls, path="/")
    return response


async def logout(request: Request) -> Response:
    """Forget the browser's key."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/")
    return response


ROUTES = [
    Route("/v1/session", login, methods=["POST"]),
    Route("/v1/session", logout, methods=["DELETE"]),
    Route("/v1/keys", create, methods=["POST"]),
    Route("/v1/keys", index, methods=["GET"]),
    Route("/v1/keys/{key}/limits", limit, methods=["PUT"]),
    Route("/v1/keys/{key}", revoke, methods=["DELETE"]),
]
