"""A scripted service for the worker's tests: real sockets, real HTTP, but the test decides every answer.

It keeps no jobs and no rules; what it received is there to be asserted on. Runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from service import protocol as say

PATIENCE_S = 60.0  # only a failing test waits so long
M = TypeVar("M")


class Upload(msgspec.Struct, frozen=True):
    """One PUT that was received."""

    digest: str
    body: bytes
    media_type: str
    query: dict[str, str]
    authorization: str


class Fetch(msgspec.Struct, frozen=True):
    """One GET that was received."""

    digest: str
    query: dict[str, str]
    authorization: str


class Talk:
    """One session of a worker, from the service's side."""

    def __init__(self, peer: Peer, websocket: WebSocket, loop: asyncio.AbstractEventLoop) -> None:
        self._peer = peer
        self._websocket = websocket
        self._loop = loop
        self.received: list[Any] = []
        self._used: set[int] = set()
        self.is_closed = False

    @property
    def hello(self) -> say.Hello:
        """The first message."""
        return next(message for message in self.received if isinstance(message, say.Hello))

    def send(self, message: say.ToWorker) -> None:
        """Say something to the worker."""
        asyncio.run_coroutine_threadsafe(self._websocket.send_bytes(say.encode(message)), self._loop).result(5)

    def cut(self) -> None:
        """End the session as a failing network does, without a word."""
        self._loop.call_soon_threadsafe(self._websocket.scope["test.cut"].set)

    def expect(self, kind: type[M], where: Callable[[M], bool] = lambda _: True) -> M:
        """The next message of `kind` that no `expect` has given yet; waits for it."""

        def find() -> M | None:
            for index, message in enumerate(self.received):
                if index not in self._used and isinstance(message, kind) and where(message):
                    self._used.add(index)
                    return message
            return None

        found = self._peer.wait(find, f"a {kind.__name__}; received {[type(m).__name__ for m in self.received]}")
        assert found is not None
        return found

    def all(self, kind: type[M]) -> list[M]:
        """Every message of `kind` so far."""
        return [message for message in self.received if isinstance(message, kind)]

    def begin(self, job: str, *, attempt: int = 1, token: int = 10, **params: Any) -> None:
        """Offer a pretend job against the worker's credit and start it."""
        self.offer(job, "pretend", "pretend", attempt, token, params)

    def draw(self, job: str, *, attempt: int = 1, token: int = 10, **params: Any) -> None:
        """Offer a picture of the embedded model and start it."""
        whole = {"seed": 7, "steps": 20, "guidance": 2.0, "width": 512, "height": 512, **params}
        self.offer(job, "text-to-image", "demo", attempt, token, whole)

    def offer(self, job: str, task: str, model: str, attempt: int, token: int, params: dict[str, Any]) -> None:
        """Wait for credit, offer, wait for Accept, start."""
        self.expect(say.Ready, lambda ready: ready.slots > 0)
        self.offer_again(job, task, model, attempt, token, params)

    def offer_again(
        self,
        job: str,
        task: str,
        model: str,
        attempt: int,
        token: int,
        params: dict[str, Any],
        priority: int = 50,
        seat: say.Seat = "slots",
    ) -> None:
        """The same with credit that a withdrawn or declined offer gave back, or that was seen to be there."""
        offer = f"offer-{job}-{attempt}"
        self.send(
            say.Offer(
                offer=offer,
                within_s=5,
                job=job,
                task=task,
                model=model,
                params=params,
                priority=priority,
                seat=seat,
            )
        )
        self.expect(say.Accept, lambda accept: accept.offer == offer)
        self.send(say.Start(offer=offer, job=job, attempt=attempt, token=token))


class Peer:
    """The service: accepts sessions and uploads until it is closed."""

    def __init__(self) -> None:
        self.talks: list[Talk] = []
        self.uploads: list[Upload] = []
        self.upload_statuses: list[int] = []  # answers to the next uploads; then 201
        self.upload_status = 201
        self.fetches: list[Fetch] = []
        self.pictures: dict[str, bytes] = {}  # what is handed out by digest; 404 for any other
        self.fetch_statuses: list[int] = []  # answers to the next fetches; then 200
        self.is_acknowledging = True
        self.is_open = True  # else the handshake is answered with 403
        self.refusal: say.Refused | None = None
        self.verdict: Callable[[say.RunningAttempt], say.Verdict] = keep
        self.beat_s = 5.0
        self._changed = threading.Condition()
        app = Starlette(
            routes=[
                WebSocketRoute("/v1/worker", self._serve),
                Route("/v1/worker/artifacts/{digest}", self._store, methods=["PUT"]),
                Route("/v1/worker/artifacts/{digest}", self._hand_out, methods=["GET"]),
            ]
        )
        config = uvicorn.Config(app, port=0, log_level="error", ws="websockets-sansio", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        self.wait(lambda: self._server.started or None, "the peer's server")
        (self.port,) = {sock.getsockname()[1] for server in self._server.servers for sock in server.sockets}
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End every session and the server."""
        for talk in self.talks:
            talk.cut()
        self._server.should_exit = True
        self._thread.join(10)

    def talk(self, number: int = 1) -> Talk:
        """The session `number`, from 1; waits until it has begun."""
        return self.wait(lambda: self.talks[number - 1] if len(self.talks) >= number else None, f"session {number}")

    def wait(self, find: Callable[[], M | None], what: str) -> M:
        """The first thing `find` gives that is not None; asks again whenever something was received."""
        until = time.monotonic() + PATIENCE_S
        with self._changed:
            while (found := find()) is None:
                left = until - time.monotonic()
                assert left > 0, f"waited {PATIENCE_S:g} s for {what}"
                self._changed.wait(min(left, 0.1))
        return found

    async def _serve(self, websocket: WebSocket) -> None:
        if not self.is_open:
            await websocket.close()
            return
        await websocket.accept(subprotocol=say.SUBPROTOCOL)
        cut = websocket.scope["test.cut"] = asyncio.Event()
        talk = Talk(self, websocket, asyncio.get_running_loop())
        reading = asyncio.create_task(self._read(talk, websocket))
        cutting = asyncio.create_task(cut.wait())
        await asyncio.wait({reading, cutting}, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, cutting):
            task.cancel()
        talk.is_closed = True
        with self._changed:
            self._changed.notify_all()
        if cut.is_set():
            with contextlib.suppress(WebSocketDisconnect):  # the worker may have gone first
                await websocket.close(1011)

    async def _read(self, talk: Talk, websocket: WebSocket) -> None:
        try:
            while True:
                message = say.from_worker(await websocket.receive_bytes())
                with self._changed:
                    talk.received.append(message)
                    self._changed.notify_all()
                await self._answer(talk, websocket, message)
        except WebSocketDisconnect:
            return

    async def _answer(self, talk: Talk, websocket: WebSocket, message: say.FromWorker) -> None:
        if isinstance(message, say.Hello):
            if self.refusal is not None:
                await websocket.send_bytes(say.encode(self.refusal))
                await websocket.close(1000)
                return
            verdicts = tuple(self.verdict(attempt) for attempt in message.running)
            welcome = say.Welcome(session="s", lease_s=30, beat_s=self.beat_s, verdicts=verdicts)
            await websocket.send_bytes(say.encode(welcome))
            with self._changed:
                self.talks.append(talk)
                self._changed.notify_all()
        elif self.is_acknowledging and isinstance(message, say.Reported):
            await websocket.send_bytes(say.encode(say.Acknowledge(through=message.number)))

    async def _store(self, request: Request) -> Response:
        body = await request.body()
        upload = Upload(
            digest=request.path_params["digest"],
            body=body,
            media_type=request.headers["content-type"],
            query=dict(request.query_params),
            authorization=request.headers.get("authorization", ""),
        )
        status = self.upload_statuses.pop(0) if self.upload_statuses else self.upload_status
        if status == 201 and hashlib.sha256(body).hexdigest() != upload.digest:
            status = 422
        with self._changed:
            self.uploads.append(upload)
            self._changed.notify_all()
        return PlainTextResponse(f"answer {status}", status)

    async def _hand_out(self, request: Request) -> Response:
        fetch = Fetch(
            digest=request.path_params["digest"],
            query=dict(request.query_params),
            authorization=request.headers.get("authorization", ""),
        )
        status = self.fetch_statuses.pop(0) if self.fetch_statuses else 200
        with self._changed:
            self.fetches.append(fetch)
            self._changed.notify_all()
        data = self.pictures.get(fetch.digest)
        if status != 200 or data is None:
            return PlainTextResponse(f"answer {status}", 404 if status == 200 else status)
        return Response(data)


def keep(attempt: say.RunningAttempt) -> say.Verdict:
    """The verdict that lets an attempt go on as it is."""
    return say.Verdict(job=attempt.job, attempt=attempt.attempt, keep=True, token=attempt.token)


def drop(attempt: say.RunningAttempt) -> say.Verdict:
    """The verdict that an attempt is no longer wanted."""
    return say.Verdict(job=attempt.job, attempt=attempt.attempt, keep=False)
