from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from service.protocol import FromWorker
from service.worker.journal import Journal
from service.worker.outbox import Outbox
from service.worker.session import authorization, converse, is_loopback, worker_url


class BrokenInTheSameInstant(Outbox):
    """Fails while it is cancelled, as a socket does whose other end dies in the instant of our end."""

    async def next(self) -> FromWorker:
        try:
            return await super().next()
        except asyncio.CancelledError:
            raise OSError("broken pipe") from None


@pytest.mark.anyio
async def test_a_cancel_is_not_lost_to_an_error_of_the_same_instant(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    async with (
        serve(lambda socket: socket.wait_closed(), "127.0.0.1", 0) as server,
        connect(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}") as socket,
    ):
        outbox = BrokenInTheSameInstant(journal)
        outbox.open()
        session = asyncio.create_task(converse(socket, outbox, lambda message: None, beat_s=60))
        await asyncio.sleep(0)
        session.cancel()
        await asyncio.wait({session}, timeout=10)
        assert session.cancelled()
    journal.close()


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("http://127.0.0.1:8787", "ws://127.0.0.1:8787/v1/worker"),
        ("https://gpu.example/safelight/", "wss://gpu.example/safelight/v1/worker"),
        ("http://[::1]:80", "ws://[::1]:80/v1/worker"),
    ],
)
def test_the_socket_lies_below_the_services_address(server: str, url: str) -> None:
    assert worker_url(server) == url


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://10.0.0.1", False),
        ("https://gpu.example", False),
    ],
)
def test_a_proxy_is_never_asked_for_this_machine(server: str, expected: bool) -> None:
    assert is_loopback(server) is expected


def test_without_a_key_no_header_is_sent() -> None:
    assert authorization(None) == {}
    assert authorization("k") == {"Authorization": "Bearer k"}
