"""One request over a real socket: what is sent, what is never connected to, how little is read."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme
from starlette.responses import RedirectResponse, Response

from service.webhooks.address import Allowed, parse_allowed
from service.webhooks.post import MAX_ANSWER_BYTES, Post
from tests.receiver import Receiver, endless, receiving

pytestmark = pytest.mark.anyio

LOCAL = parse_allowed(["127.0.0.1"])
HEADERS = {"webhook-id": "msg_1"}
AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def client_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def server_tls(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(context)
    return context


class Resolver:
    """Answers a name with the next of some lists of addresses."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0)


async def test_body_and_headers_arrive_as_they_are(receiver: Receiver) -> None:
    answer = await Post(LOCAL).send(f"{receiver.url}/hook?a=b", HEADERS, b'{"x":1}')
    assert (answer.status, answer.error) == (204, None)
    (message,) = receiver.to("/hook")
    assert message.body == b'{"x":1}'
    assert message.headers["webhook-id"] == "msg_1"
    assert message.headers["content-type"] == "application/json"
    assert message.headers["host"] == receiver.url.removeprefix("http://")


async def test_a_redirect_is_an_answer_like_any_other(receiver: Receiver) -> None:
    receiver.answers["/moved"].append(RedirectResponse(f"{receiver.url}/elsewhere"))
    answer = await Post(LOCAL).send(f"{receiver.url}/moved", HEADERS, b"{}")
    assert answer.status == 307
    assert receiver.to("/elsewhere") == []


async def test_of_a_refusal_the_beginning_is_kept_and_no_more_is_read(receiver: Receiver) -> None:
    receiver.answers["/no"] += [Response("the field x\x1b is missing", 422, {"Retry-After": "7"}), endless()]
    answer = await Post(LOCAL).send(f"{receiver.url}/no", HEADERS, b"{}")
    assert (answer.status, answer.text, answer.retry_after) == (422, "the field x  is missing", "7")
    answer = await Post(LOCAL).send(f"{receiver.url}/no", HEADERS, b"{}")
    assert answer.status == 500
    assert 0 < len(answer.text) <= MAX_ANSWER_BYTES


async def test_who_does_not_answer_in_time_has_failed(receiver: Receiver) -> None:
    receiver.answers["/slow"].append(receiver.hanging())
    answer = await Post(LOCAL, timeout_s=0.2).send(f"{receiver.url}/slow", HEADERS, b"{}")
    receiver.let_go()
    assert (answer.status, answer.error) == (None, "no answer within 0.2 s")


async def test_nobody_there_is_said_without_the_secret_part_of_the_url() -> None:
    answer = await Post(LOCAL).send("http://127.0.0.1:9/token?t=secret", HEADERS, b"{}")
    assert answer.error is not None
    assert answer.error.startswith("no answer from http://127.0.0.1:9 (")
    assert "secret" not in answer.error


@pytest.mark.parametrize(
    "spelling", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "localhost"]
)
async def test_loopback_is_not_reached_however_it_is_spelt(receiver: Receiver, spelling: str) -> None:
    before = len(receiver.messages)
    for scheme in ("http", "https"):
        answer = await Post(Allowed()).send(f"{scheme}://{spelling}:{receiver.port}/", HEADERS, b"{}")
        assert answer.status is None
        assert "is not" in (answer.error or "")
    assert len(receiver.messages) == before


async def test_a_name_that_changes_its_mind_reaches_only_the_address_that_was_checked() -> None:
    with receiving("127.0.0.2", server_tls("hook.example.org")) as right, receiving("127.0.0.3") as wrong:
        resolver = Resolver(["127.0.0.2"], ["127.0.0.3"])
        post = Post(parse_allowed(["127.0.0.2"]), resolve=resolver, tls=client_tls())
        url = f"https://hook.example.org:{right.port}/x"
        answer = await post.send(url, HEADERS, b"{}")
        assert (answer.status, answer.error) == (204, None)
        assert right.messages[0].headers["host"] == f"hook.example.org:{right.port}"
        assert resolver.asked == 1, "resolved once an attempt, and that answer is the one connected to"
        answer = await post.send(url, HEADERS, b"{}")
        assert "hook.example.org leads to 127.0.0.3, which is not public" in (answer.error or "")
        assert len(right.messages) == 1
        assert wrong.messages == []


async def test_one_address_that_is_not_allowed_spoils_the_others() -> None:
    with receiving("127.0.0.2", server_tls("hook.example.org")) as right:
        post = Post(parse_allowed(["127.0.0.2"]), resolve=Resolver(["127.0.0.2", "10.0.0.1"]), tls=client_tls())
        answer = await post.send(f"https://hook.example.org:{right.port}/", HEADERS, b"{}")
        assert "10.0.0.1" in (answer.error or "")
        assert right.messages == []


async def test_the_certificate_must_be_of_the_name_although_the_address_is_connected_to() -> None:
    with receiving("127.0.0.2", server_tls("other.example.org")) as other:
        post = Post(parse_allowed(["127.0.0.2"]), resolve=Resolver(["127.0.0.2"]), tls=client_tls())
        answer = await post.send(f"https://hook.example.org:{other.port}/", HEADERS, b"{}")
        assert "certificate" in (answer.error or "")
        assert other.messages == []


async def test_the_next_address_is_tried_where_the_first_does_not_answer() -> None:
    with receiving("127.0.0.2", server_tls("hook.example.org")) as right:
        post = Post(parse_allowed(["127.0.0.0/8"]), resolve=Resolver(["127.0.0.9", "127.0.0.2"]), tls=client_tls())
        assert (await post.send(f"https://hook.example.org:{right.port}/", HEADERS, b"{}")).status == 204


async def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert (await Post(LOCAL).send(f"{receiver.url}/direct", HEADERS, b"{}")).status == 204
