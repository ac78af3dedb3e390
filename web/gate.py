"""The outermost layer: which hosts, origins, keys and sizes come in at all, for http and websocket alike.

It looks at scope["path"] and scope["headers"] only, never at a URL put together from them: a Host header can
make that say anything (CVE-2026-48710). Allow-lists throughout; a browser page of another site cannot reach a
service on this machine, neither by a form nor by fetch nor by a WebSocket, nor by rebinding a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.entropy import Entropy
from events.keys import Scope as KeyScope
from projections.live import LiveKey
from service.artifacts import MAX_BYTES, MAX_PICTURE_BYTES
from service.auth import LOCAL, Caller, check_key
from web.errors import Problem, problem_response
from web.forms import MAX_FORM_BYTES, is_form
from web.requests import MAX_JSON_BYTES

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
PUBLIC = ("/static/", "/v1/health/live", "/v1/health/ready", "/v1/session")
"""Paths anybody may read: the page itself holds nothing, and a load balancer asks for health."""

COOKIE = "safelight_key"
SAFE_METHODS = frozenset({"GET", "HEAD"})

_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)


class Gate:
    """An ASGI app around the app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        keys: Callable[[], Mapping[str, LiveKey]],
        needs_key: bool,
        end_waits: Callable[[], None] = lambda: None,
    ) -> None:
        """`hosts` are the names (without port) a request may be addressed to, besides loopback. `keys` gives the
        keys that open something now; with `needs_key` nobody gets in without one. `end_waits` has every request
        answered that waits for something to happen: who ends the server calls it first."""
        self.end_waits = end_waits
        self._app = app
        self._hosts = LOOPBACK | {host.lower() for host in hosts}
        self._keys = keys
        self._needs_key = needs_key
        self._entropy = Entropy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on with the caller and a request id in the scope."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal = self._refuse_address(scope, headers) or self._refuse_caller(scope, headers)
        if refusal is None and scope["type"] == "http":
            refusal = _refuse_length(scope, headers)
        if refusal is not None:
            await _answer(refusal, scope, receive, send)
            return
        scope["safelight.headers"] = headers
        scope["safelight.request"] = self._entropy.take(8).hex()
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._app(scope, _limited(receive, _limit(scope["path"], headers)), _with_headers(send))

    def _refuse_address(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            detail = f"host {host[:80]!r} is not served here; add it with --allow-host if it should be"
            return problem_response(421, "forbidden-host", detail)
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return problem_response(403, "forbidden-origin", f"origin {origin[:80]!r} may not ask this service")
        if headers.get("sec-fetch-site") == "cross-site" and not (
            scope["type"] == "http" and scope["method"] in SAFE_METHODS and scope["path"] == "/"
        ):
            return problem_response(403, "forbidden-origin", "a page of another site may not ask this service")
        return None

    def _refuse_caller(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """Find out who asks and whether they may; puts the Caller in the scope."""
        path = scope["path"]
        text = _presented(headers)
        if text is None and not self._needs_key:
            caller: Caller | None = LOCAL
        else:
            caller = check_key(text, self._keys()) if text is not None else None
        if caller is None and (path == "/" or path.startswith(PUBLIC)):
            caller = Caller("anonymous", frozenset())
        if caller is None:
            detail = "this service needs a key; send it as Authorization: Bearer KEY"
            return problem_response(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
        wanted = needed_scope(scope)
        if wanted is not None and wanted not in caller.scopes:
            detail = f"{caller.actor} lacks the scope {wanted} that this needs; ask an admin for a key that has it"
            return problem_response(403, "forbidden", detail)
        scope["safelight.caller"] = caller
        return None


def needed_scope(scope: Mapping[str, Any]) -> KeyScope | None:
    """The scope that a request needs, None for a public one."""
    path = scope["path"]
    if path == "/v1/worker" or path.startswith("/v1/worker/"):
        return "worker"
    if path == "/" or path.startswith(PUBLIC):
        return None
    if path.startswith(("/v1/keys", "/v1/webhooks")):
        return "admin"
    if scope["type"] == "websocket" or scope["method"] in SAFE_METHODS:
        return "viewer"
    if path.startswith(("/v1/queues", "/v1/workers", "/v1/jobs/bulk")) or path.endswith("/move"):
        return "operator"
    return "submitter"


def is_loopback(host: str) -> bool:
    """Whether binding to `host` keeps the service on this machine."""
    return host in {"127.0.0.1", "::1", "localhost"}


def _headers(scope: Scope) -> dict[str, str]:
    """Header values by lower-case name; of a repeated one the last, but two Hosts make an unusable one."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name == "host" and name in headers else value
    return headers


def _name(host: str) -> str:
    """The name of a Host header, without its port."""
    name, separator, port = host.lower().rpartition(":")
    return name if separator and port.isdigit() else host.lower()


def _presented(headers: Mapping[str, str]) -> str | None:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    if "cookie" not in headers:
        return None
    try:
        morsel = SimpleCookie(headers["cookie"]).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None


def _limit(path: str, headers: Mapping[str, str]) -> int:
    if path.startswith("/v1/worker/artifacts/"):
        return MAX_BYTES
    if path == "/v1/artifacts":
        return MAX_PICTURE_BYTES
    return MAX_FORM_BYTES if path == "/v1/jobs" and is_form(headers) else MAX_JSON_BYTES


def _refuse_length(scope: Scope, headers: Mapping[str, str]) -> Response | None:
    declared, limit = headers.get("content-length", "0"), _limit(scope["path"], headers)
    if not (declared.isascii() and declared.isdigit() and len(declared) < 16 and int(declared) <= limit):
        # The connection stays open, so that the server throws away what still comes. Closing it with bytes unread
        # would reset it, and the reset often overtakes this answer.
        return problem_response(413, "too-large", _too_large(declared[:20], limit))
    return None


def _too_large(size: str, limit: int) -> str:
    return f"a body of {size} bytes is not accepted here; the limit is {limit} bytes"


def _limited(receive: Receive, limit: int) -> Receive:
    """`receive` that raises a Problem once more than `limit` body bytes have come; none of the rest is kept."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise Problem(413, "too-large", _too_large(f"more than {limit}", limit))
        return message

    return counted


def _with_headers(send: Send) -> Send:
    """`send` that adds the security headers; the strict page policy unless the answer has its own."""

    async def extended(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), *_SECURITY_HEADERS]
            if not any(name.lower() == b"content-security-policy" for name, _ in headers):
                headers.append((b"content-security-policy", _PAGE_POLICY))
            message = {**message, "headers": headers}
        await send(message)

    return extended


async def _answer(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the refusal; a WebSocket is refused in its handshake, by the same status where the server can."""
    if scope["type"] == "http":
        await refusal(scope, receive, _with_headers(send))
        return
    if "websocket.http.response" in scope.get("extensions", {}):
        await receive()
        await send(
            {
                "type": "websocket.http.response.start",
                "status": refusal.status_code,
                "headers": refusal.raw_headers,
            }
        )
        await send({"type": "websocket.http.response.body", "body": bytes(refusal.body)})
        return
    await receive()
    await send({"type": "websocket.close", "code": 4401 if refusal.status_code == 401 else 4403})
