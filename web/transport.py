"""Writing one prebuilt WebSocket frame to many sockets: a small subclass of uvicorn's sans-io protocol.

ASGI has no broadcast: `await send` per subscriber costs about 1.7 times as much as writing a frame that was
built once (docs/push.md). The protocol object travels in the ASGI scope; web/hub.py writes to it. A server
without it (another one, the test client) gets the same messages by plain `send` (PlainSink). uvicorn's class
is not a stable API: constraints.txt pins what is tested, and the tests run over both.

It also ends peers that stay connected but do not read. Neither a ping timeout nor close() does: both wait for
a buffer that will never drain.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any, Protocol

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

EXTENSION = "safelight.transport"
STALLED_S = 10.0  # how long a peer may leave its buffer full
SEND_BUFFER_BYTES = 64 << 10
TCP_USER_TIMEOUT_MS = 20_000


def text_frame(payload: bytes) -> bytes:
    """A whole unmasked text frame."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def binary_frame(payload: bytes) -> bytes:
    """A whole unmasked binary frame."""
    return Frame(Opcode.BINARY, payload).serialize(mask=False)


class Sink(Protocol):
    """Where a subscriber's frames go."""

    def write(self, frame: bytes) -> None:
        """Send a prebuilt frame; only while `is_writable`."""

    @property
    def is_writable(self) -> bool:
        """Whether the peer keeps up."""

    @property
    def is_idle(self) -> bool:
        """Whether everything written so far has left."""

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever the sink becomes writable again."""


class PushProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol as a Sink that gives up on peers which do not read."""

    stalled_s = STALLED_S

    def connection_made(self, transport: BaseTransport) -> None:
        """Keep little in the kernel for a peer, and notice when it is gone."""
        super().connection_made(transport)
        self._resumed: Callable[[], None] = lambda: None
        self._stall: asyncio.TimerHandle | None = None
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the stall timer with the connection."""
        self._end_stall()
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        """Put this object where the app finds it; the app's task has not begun to run yet."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def pause_writing(self) -> None:
        """The peer lags: give it some seconds to read."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer has read."""
        super().resume_writing()
        self._end_stall()
        self._resumed()

    def write(self, frame: bytes) -> None:
        """Send a prebuilt frame."""
        if not self.close_sent:
            self.transport.write(frame)

    @property
    def is_writable(self) -> bool:
        """Whether the peer keeps up and the connection lives."""
        return self.writable.is_set() and not self.disconnected and not self.close_sent

    @property
    def is_idle(self) -> bool:
        """Whether everything written so far has left."""
        return self.transport.get_write_buffer_size() == 0

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever the peer has caught up with its buffer."""
        self._resumed = callback

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class PlainSink:
    """The same over plain ASGI `send`, for servers without PushProtocol: one frame in flight."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._resumed: Callable[[], None] = lambda: None
        self._sending: asyncio.Task[None] | None = None

    def write(self, frame: bytes) -> None:
        """Send the payload of a prebuilt frame."""
        assert self.is_writable, "one frame at a time"
        self._sending = asyncio.create_task(self._send(frame))

    @property
    def is_writable(self) -> bool:
        """Whether the frame before has been taken."""
        return self._sending is None

    @property
    def is_idle(self) -> bool:
        """The same: there is no buffer here."""
        return self._sending is None

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever a frame has been taken."""
        self._resumed = callback

    async def _send(self, frame: bytes) -> None:
        is_text = frame[0] & 0x0F == Opcode.TEXT
        payload = frame[_header_bytes(frame) :]
        if is_text:
            await self._websocket.send_text(payload.decode())
        else:
            await self._websocket.send_bytes(payload)
        self._sending = None
        self._resumed()


def sink_of(websocket: WebSocket) -> Sink:
    """The fastest sink this connection has."""
    protocol = websocket.scope.get("extensions", {}).get(EXTENSION)
    return protocol if isinstance(protocol, PushProtocol) else PlainSink(websocket)


def _header_bytes(frame: bytes) -> int:
    """Length of an unmasked frame's header (RFC 6455 section 5.2)."""
    return {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
