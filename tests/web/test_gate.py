"""The outermost layer alone: every method, every foreign host and origin, keys and sizes."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Receive, Send

from projections.live import LiveKey
from service.auth import check_key, make_key
from web.errors import Problem
from web.gate import Gate, needed_scope
from web.requests import MAX_JSON_BYTES

pytestmark = pytest.mark.anyio

TEXT, KEY, DIGEST = make_key(bytes(range(38)))
KEYS = {
    scope: LiveKey(f"{number:012x}", scope, (scope,), DIGEST)  # type: ignore[arg-type]
    for number, scope in enumerate(["viewer", "submitter", "operator", "admin", "worker"])
}
BY_ID = {key.id: key for key in KEYS.values()}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def text_of(scope: str) -> str:
    return f"safelight_{KEYS[scope].id}_{TEXT.rpartition('_')[2]}"


class Inside:
    """The app behind the gate: remembers what reached it, reads the body, answers 200."""

    def __init__(self) -> None:
        self.reached: list[Any] = []
        self.body = b""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.reached.append(scope)
        if scope["type"] == "http":
            more = True
            while more:
                message = await receive()
                self.body += message.get("body", b"")
                more = message.get("more_body", False)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"in"})


async def ask(
    inside: Inside, method: str = "GET", path: str = "/v1/jobs", *, needs_key: bool = False, kind: str = "http",
    body: list[bytes] | None = None, extensions: dict[str, Any] | None = None, **headers: str,
) -> list[Any]:  # fmt: skip
    """What the gate sends when asked; headers by name with _ for -."""
    gate = Gate(inside, hosts=["lab.example"], keys=lambda: BY_ID, needs_key=needs_key)
    sent: list[Any] = []
    parts = list(body or [b""])

    async def receive() -> Any:
        if kind == "websocket":
            return {"type": "websocket.connect"}
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": "127.0.0.1:8787", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items()]
    scope = {"type": kind, "method": method, "path": path, "headers": raw, "extensions": extensions or {}}
    await gate(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8787", "localhost:1", "[::1]:8787", "lab.example", "LAB.example:80"]
)
async def test_a_known_host_comes_in(host: str) -> None:
    inside = Inside()
    assert (await ask(inside, host=host))[0]["status"] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost:80:80",
        "x/health?",
        "127.0.0.1, evil",
        "lab.example@evil",
    ],
)
@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/v1/health/live", "/static/main.js"])
async def test_an_unknown_host_reaches_no_route(host: str, path: str) -> None:
    inside = Inside()
    assert (await ask(inside, path=path, host=host))[0]["status"] == 421
    assert inside.reached == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "http://127.0.0.1:8787.evil.example",
        "http://127.0.0.1",
        "file://",
        "http://127.0.0.1:8788",
    ],
)
async def test_another_origin_reaches_nothing_by_any_method(method: str, origin: str) -> None:
    inside = Inside()
    assert (await ask(inside, method, origin=origin))[0]["status"] == 403
    assert inside.reached == []


async def test_our_own_page_and_programs_come_in() -> None:
    inside = Inside()
    assert (await ask(inside, "POST", origin="http://127.0.0.1:8787"))[0]["status"] == 200
    assert (await ask(inside, "POST"))[0]["status"] == 200


async def test_a_cross_site_request_without_origin_is_refused_but_a_link_opens_the_page() -> None:
    inside = Inside()
    assert (await ask(inside, "POST", sec_fetch_site="cross-site"))[0]["status"] == 403
    assert (await ask(inside, "GET", sec_fetch_site="cross-site"))[0]["status"] == 403
    assert (await ask(inside, "GET", "/", sec_fetch_site="cross-site"))[0]["status"] == 200


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"host": "evil.example"}]
)
async def test_a_websocket_is_held_to_the_same(headers: dict[str, str]) -> None:
    inside = Inside()
    sent = await ask(
        inside, kind="websocket", path="/v1/events", extensions={"websocket.http.response": {}}, **headers
    )
    assert sent[0]["status"] in (403, 421)
    plain = await ask(inside, kind="websocket", path="/v1/events", **headers)
    assert plain[0]["type"] == "websocket.close"
    assert inside.reached == []


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/events", "/v1/queues", "/v1/artifacts/x", "/metrics", "/v1/openapi.json", "/docs"]
)
async def test_where_a_key_is_needed_nothing_answers_without_one(path: str) -> None:
    inside = Inside()
    assert (await ask(inside, path=path, needs_key=True))[0]["status"] == 401
    assert (await ask(inside, path=path, needs_key=True, authorization="Bearer safelight_x_y"))[0]["status"] == 401
    assert inside.reached == []


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/v1/health/live", "/v1/health/ready"])
async def test_the_page_and_health_need_no_key(path: str) -> None:
    assert (await ask(Inside(), path=path, needs_key=True))[0]["status"] == 200


async def test_a_wrong_key_is_refused_even_where_none_is_needed() -> None:
    assert (await ask(Inside(), authorization="Bearer nonsense"))[0]["status"] == 401


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/v1/jobs", "viewer"),
        ("POST", "/v1/jobs", "submitter"),
        ("POST", "/v1/jobs/x/cancel", "submitter"),
        ("POST", "/v1/queues/default/pause", "operator"),
        ("GET", "/v1/keys", "admin"),
        ("POST", "/v1/keys", "admin"),
        ("DELETE", "/v1/keys/x", "admin"),
    ],
)
async def test_each_scope_does_what_it_may_and_no_more(method: str, path: str, least: str) -> None:
    ladder = ["viewer", "submitter", "operator", "admin"]
    for scope in ladder:
        status = (await ask(Inside(), method, path, needs_key=True, authorization=f"Bearer {text_of(scope)}"))[0][
            "status"
        ]
        assert status == (200 if ladder.index(scope) >= ladder.index(least) else 403), scope
    worker = await ask(Inside(), method, path, needs_key=True, authorization=f"Bearer {text_of('worker')}")
    assert worker[0]["status"] == 403


@pytest.mark.parametrize("needs_key", [True, False])
async def test_the_workers_door_opens_to_a_worker_key_only(needs_key: bool) -> None:
    path = "/v1/worker/artifacts/x"
    assert (await ask(Inside(), "PUT", path, needs_key=needs_key))[0]["status"] in (401, 403)
    admin = await ask(Inside(), "PUT", path, needs_key=needs_key, authorization=f"Bearer {text_of('admin')}")
    assert admin[0]["status"] == 403
    worker = await ask(Inside(), "PUT", path, needs_key=needs_key, authorization=f"Bearer {text_of('worker')}")
    assert worker[0]["status"] == 200


async def test_a_cookie_does_what_the_header_does() -> None:
    inside = Inside()
    sent = await ask(inside, needs_key=True, cookie=f"a=b; safelight_key={text_of('viewer')}")
    assert sent[0]["status"] == 200
    assert inside.reached[0]["safelight.caller"].actor == f"key/{KEYS['viewer'].id}"


async def test_who_is_local_has_a_name_in_the_log() -> None:
    inside = Inside()
    await ask(inside)
    assert inside.reached[0]["safelight.caller"].actor == "local"


@pytest.mark.parametrize("length", [str(MAX_JSON_BYTES + 1), "-1", "+2", "1_0", "9" * 30, "x"])
async def test_a_body_that_says_it_is_too_long_is_not_read(length: str) -> None:
    inside = Inside()
    assert (await ask(inside, "POST", content_length=length))[0]["status"] == 413
    assert inside.reached == []


async def test_a_chunked_body_that_grows_too_long_is_cut_off() -> None:
    inside = Inside()
    with pytest.raises(Problem, match="more than 1048576 bytes") as caught:
        await ask(inside, "POST", body=[b"x" * (MAX_JSON_BYTES // 4)] * 8)
    assert caught.value.status == 413
    assert len(inside.body) <= MAX_JSON_BYTES


async def test_every_answer_has_the_security_headers() -> None:
    for sent in (await ask(Inside()), await ask(Inside(), host="evil")):
        names = {name for name, _ in sent[0]["headers"]}
        assert {b"content-security-policy", b"x-content-type-options", b"referrer-policy"} <= names


def test_a_key_is_checked_whole() -> None:
    keys = {KEY: LiveKey(KEY, "n", ("admin",), DIGEST)}
    caller = check_key(TEXT, keys)
    assert caller is not None
    assert caller.actor == f"key/{KEY}"
    for wrong in (TEXT[:-1], TEXT[:-1] + "x", TEXT + "0", TEXT.upper(), "", TEXT.replace(KEY, "0" * 12)):
        assert check_key(wrong, keys) is None


def test_an_unknown_path_needs_a_key_like_any_other() -> None:
    assert needed_scope({"type": "http", "method": "GET", "path": "/anything"}) == "viewer"
