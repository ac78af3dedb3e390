"""An outbox and its courier over a log in memory, with a clock that tests turn, sending over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from events.envelope import Record
from events.jobs import ArtifactRef, JobSubmitted
from events.webhooks import CALLBACK, ENDS
from service import commands as ask
from service.commands import Command
from service.webhooks.address import parse_allowed
from service.webhooks.courier import Courier
from service.webhooks.outbox import DeliveryView, Outbox, list_deliveries
from service.webhooks.post import Post
from service.webhooks.signing import SECRET_BYTES, make_secret
from tests.history import History

SECRET = make_secret(b"s" * SECRET_BYTES)
CALLBACK_SECRET = make_secret(b"c" * SECRET_BYTES)
PNG = ArtifactRef(digest="ab" * 32, media_type="image/png", bytes=9, width=8, height=8)


def callback_of(record: Record, submitted: JobSubmitted) -> str | None:
    """Stands for what a submission will say: here a tag names the URL."""
    return next((tag for tag in submitted.tags if tag.startswith("http")), None)


class Desk:
    """What a test does with them."""

    def __init__(self, path: Path, history: History | None = None) -> None:
        self.history = history or History().with_queue().with_worker()
        if CALLBACK not in self.history.state.webhooks:
            self.history.ask(ask.CreateWebhook(webhook=CALLBACK, url="", secret=CALLBACK_SECRET, events=()))
        self.path = path
        self.is_log_full = False
        self.now_us = time.time_ns() // 1000
        self.outbox = Outbox(path, self.history, callback_of)  # type: ignore[arg-type]
        post = Post(parse_allowed(["127.0.0.1"]), timeout_s=5)
        self.courier = Courier(self.outbox, post.send, self.tell, clock=lambda: self.now_us, chance=lambda: 0.0)

    async def tell(self, command: Command) -> None:
        if self.is_log_full:
            raise OSError("no room")
        self.take_in(self.history.ask(command))

    def take_in(self, records: Sequence[Record]) -> list[Record]:
        self.outbox.take_in(records)
        self.courier.wake()
        return list(records)

    def ask(self, command: Command) -> list[Record]:
        return self.take_in(self.history.ask(command))

    def webhook(
        self, url: str, name: str = "w", events: tuple[str, ...] = ENDS, queues: tuple[str, ...] = ()
    ) -> None:
        self.ask(ask.CreateWebhook(webhook=name, url=url, secret=SECRET, events=events, queues=queues))

    def finish(self, job: str = "j", **fields: Any) -> Record:
        """Submit a job and complete it; gives the record of the end."""
        self.take_in(self.history.submit(job, **fields))
        held = self.history.lease(job)
        return self.ask(ask.CompleteJob(artifacts=(PNG,), facts={}, **held.words()))[-1]

    def deliveries(self, webhook: str = "w") -> list[DeliveryView]:
        """All of them, oldest first."""
        return list_deliveries(self.outbox.reader(), webhook, limit=1000)[0][::-1]

    def pass_s(self, seconds: float) -> None:
        """Turn the clock and have the courier look."""
        self.now_us += int(seconds * 1_000_000)
        self.courier.wake()

    async def attempted(self, attempts: int, webhook: str = "w") -> DeliveryView:
        """The webhook's only delivery, once it has had so many attempts."""
        await until(lambda: len(self.deliveries(webhook)[0].attempts) >= attempts)
        (delivery,) = self.deliveries(webhook)
        return delivery

    async def settled(self, webhook: str = "w") -> list[DeliveryView]:
        """The webhook's deliveries, once all have ended and the log knows."""
        await until(
            lambda: all(d.status != "pending" for d in self.deliveries(webhook)) and not self.outbox.to_tell(1)
        )
        return self.deliveries(webhook)

    def types(self) -> list[str]:
        """The events about webhooks so far, in short."""
        return [r.event.type.removeprefix("webhook-") for r in self.history.records if r.category == "webhook"][
            1:
        ]  # without the built-in one


@asynccontextmanager
async def open_desk(path: Path, history: History | None = None) -> AsyncIterator[Desk]:
    """A desk whose courier runs until the end of the block."""
    desk = Desk(path, history)
    running = asyncio.create_task(desk.courier.run())
    try:
        yield desk
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        desk.outbox.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - threads and sockets do not tell this loop
            await asyncio.sleep(0.005)
