"""A receiver of webhooks: a real server on a real socket that keeps what it gets and answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.service_process import wait_for


class Message(msgspec.Struct, frozen=True):
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body)  # type: ignore[no-any-return]

    def verified(self, secret: str) -> dict[str, Any]:
        """The payload, once the specification's own library has accepted the signature."""
        return Webhook(secret).verify(self.body, self.headers)  # type: ignore[no-any-return]


class Receiver:
    """Answers 204 to every POST, unless `answers` of that path has something else next."""

    def __init__(self, host: str, tls: ssl.SSLContext | None) -> None:
        self.messages: list[Message] = []
        self.answers: dict[str, deque[Response]] = defaultdict(deque)
        self.always: dict[str, Response] = {}
        self.on_way: dict[str, int] = defaultdict(int)
        self.most_on_way: dict[str, int] = defaultdict(int)
        self._hangs = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        app = Starlette(routes=[Route("/{path:path}", self._receive, methods=["POST", "GET"])])
        config = uvicorn.Config(
            app, host=host, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1
        )
        config.load()
        config.ssl = tls
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started, 10, "the receiver to start")
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}"

    def to(self, path: str) -> list[Message]:
        """What came to a path, in order."""
        return [message for message in self.messages if message.path == path]

    def let_go(self) -> None:
        """Answer what hangs."""
        self._loop.call_soon_threadsafe(self._hangs.set)

    def hanging(self) -> Response:
        """An answer that does not come until `let_go`."""
        return _Hanging(self._hangs)

    def close(self) -> None:
        self.let_go()
        self._server.should_exit = True
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._server.serve())

    async def _receive(self, request: Request) -> Response:
        path = request.url.path
        self.on_way[path] += 1
        self.most_on_way[path] = max(self.most_on_way[path], self.on_way[path])
        body = await request.body()
        self.messages.append(Message(path, dict(request.headers), body))
        answer = (
            self.answers[path].popleft() if self.answers[path] else self.always.get(path, Response(status_code=204))
        )
        if isinstance(answer, _Hanging):
            await answer.until.wait()
        self.on_way[path] -= 1
        return answer


class _Hanging(Response):
    def __init__(self, until: asyncio.Event) -> None:
        super().__init__(status_code=204)
        self.until = until


def endless() -> Response:
    """An answer that fails and takes a minute to end."""

    async def more() -> AsyncIterator[bytes]:
        for _ in range(600):
            yield b"no " * 1000
            await asyncio.sleep(0.1)

    return StreamingResponse(more(), 500)


@contextmanager
def receiving(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver, ended with the block."""
    receiver = Receiver(host, tls)
    try:
        yield receiver
    finally:
        receiver.close()
