"""One socket to the service: connecting, hello and welcome, then sending and receiving until it ends.

What the messages mean is not decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from service.protocol import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Beat,
    Hello,
    Refused,
    ToWorker,
    Welcome,
    encode,
    to_worker,
)
from service.worker.outbox import Outbox

CONNECT_S = 10.0
WELCOME_S = 30.0  # the service registers the worker in its log before it answers
SEND_S = 10.0  # a service that does not read for so long is as good as gone
SEND_BUFFER_BYTES = 16 << 10  # below a preview: the one in flight is all that can stand before a state message


class RefusedByService(Exception):
    """The service ended the session; `retry` tells whether trying again may help."""

    def __init__(self, why: str, retry: bool) -> None:
        super().__init__(why)
        self.retry = retry


class BadAnswer(Exception):
    """What answers at the address is no Safelight service."""


@asynccontextmanager
async def connected(server: str, key: str | None) -> AsyncIterator[ClientConnection]:
    """An open socket to the service at `server`. Raises OSError, TimeoutError or a WebSocketException."""
    async with connect(
        worker_url(server),
        additional_headers=authorization(key),
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,  # pictures and small messages: it would cost time and save nothing
        max_size=MAX_FRAME_BYTES,
        open_timeout=CONNECT_S,
        close_timeout=2,
        write_limit=SEND_BUFFER_BYTES,
        proxy=None if is_loopback(server) else True,
    ) as socket:
        if socket.subprotocol != SUBPROTOCOL:
            raise BadAnswer(f"it does not speak {SUBPROTOCOL}; check the address")
        yield socket


async def greet(socket: ClientConnection, hello: Hello) -> Welcome:
    """Say hello and give the answer. Raises RefusedByService, BadAnswer or TimeoutError."""
    await socket.send(encode(hello))
    async with asyncio.timeout(WELCOME_S):
        answer = _message(await socket.recv())
    if isinstance(answer, Refused):
        raise RefusedByService(answer.why, answer.retry)
    if not isinstance(answer, Welcome):
        raise BadAnswer(f"it answered hello with {type(answer).__name__}; expected Welcome")
    return answer


async def converse(
    socket: ClientConnection, outbox: Outbox, receive: Callable[[ToWorker], None], beat_s: float
) -> None:
    """Send what the outbox gives and hand on what arrives, until the session ends; it always ends by raising.

    Raises RefusedByService, BadAnswer, TimeoutError, a WebSocketException or msgspec.DecodeError.
    """
    # No TaskGroup: with it, an error in the instant of a cancel takes the cancel's place. A service that is killed
    # closes this socket and our standard input at once, and an agent that missed its end kept its lease for ever.
    parts = (_send_all(socket, outbox), _receive_all(socket, receive), _beat(outbox, beat_s))
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [end for end in ends if isinstance(end, Exception)]
    # sender and receiver often see the same end; a refusal says more than the closed socket after it
    raise max(errors, key=lambda error: isinstance(error, RefusedByService))


async def _send_all(socket: ClientConnection, outbox: Outbox) -> None:
    while True:
        frame = encode(await outbox.next())
        try:
            async with asyncio.timeout(SEND_S):
                await socket.send(frame)
        except ConnectionClosed:
            return  # the receiver ends the session: a refusal may still stand before the end


async def _receive_all(socket: ClientConnection, receive: Callable[[ToWorker], None]) -> None:
    while True:
        message = _message(await socket.recv())
        if isinstance(message, Refused):
            raise RefusedByService(message.why, message.retry)
        receive(message)


async def _beat(outbox: Outbox, beat_s: float) -> None:
    while True:
        await asyncio.sleep(beat_s)
        outbox.say(Beat())


def _message(frame: str | bytes) -> ToWorker:
    if isinstance(frame, str):
        raise BadAnswer("it sent text; expected msgpack frames")
    return to_worker(frame)


def worker_url(server: str) -> str:
    """The socket's address below the service's HTTP address."""
    parts = urlsplit(server)
    scheme = {"http": "ws", "https": "wss"}[parts.scheme]
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/v1/worker", "", ""))


def authorization(key: str | None) -> dict[str, str]:
    """The header that carries the worker's key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def is_loopback(server: str) -> bool:
    """Whether the service runs on this machine: then no proxy of the environment is asked."""
    host = urlsplit(server).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
