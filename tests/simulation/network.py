"""A wire between worker and service that can be cut, or hang without either end noticing."""

from __future__ import annotations

import asyncio
from collections import deque

from websockets.exceptions import ConnectionClosedError


class Pipe:
    """One direction: bytes in order. None is the orderly end."""

    def __init__(self) -> None:
        self._waiting: deque[bytes | None] = deque()
        self._woken = asyncio.Event()
        self._is_closed = False
        self._is_hanging = False

    def put(self, frame: bytes | None) -> None:
        """Send."""
        self._waiting.append(frame)
        self._woken.set()

    def close(self) -> None:
        """Lose what is under way."""
        self._is_closed = True
        self._woken.set()

    def hang(self, is_hanging: bool) -> None:
        """Keep everything under way, until it goes on."""
        self._is_hanging = is_hanging
        self._woken.set()

    async def get(self) -> bytes:
        """The next frame. Raises ConnectionClosed after the end."""
        while not self._is_closed:
            if self._waiting and not self._is_hanging:
                frame = self._waiting.popleft()
                if frame is not None:
                    return frame
                self._is_closed = True
            else:
                self._woken.clear()
                await self._woken.wait()
        raise ConnectionClosedError(None, None)


class Link:
    """Both directions."""

    def __init__(self) -> None:
        self.up, self.down = Pipe(), Pipe()

    def close(self) -> None:
        """End it for both."""
        self.up.close()
        self.down.close()

    def hang(self, is_hanging: bool) -> None:
        """Let nothing through, and tell nobody; or let it through again."""
        self.up.hang(is_hanging)
        self.down.hang(is_hanging)


class Socket:
    """The worker's end, as service/worker/session.py uses one."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._link.up.put(frame)

    async def recv(self) -> bytes:
        """The next frame."""
        return await self._link.down.get()
