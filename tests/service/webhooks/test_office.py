"""The thread of the webhooks beside a real log: told by the log, told to the log, and in nobody's way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from events.webhooks import ENDS
from service import commands as ask
from service.handle import Handler, ViewsBehind
from service.tasks.catalog import EMBEDDED
from service.webhooks.address import parse_allowed
from service.webhooks.office import WebhookOffice
from service.webhooks.outbox import DeliveryView, list_deliveries
from service.webhooks.post import Post
from tests.history import submission
from tests.receiver import Receiver, receiving
from tests.service.webhooks.desk import SECRET, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def clock() -> int:
    return time.time_ns() // 1000


def opened(folder: Path, handler: Handler) -> WebhookOffice:
    post = Post(parse_allowed(["127.0.0.1"]))
    return WebhookOffice(
        folder / "outbox.db",
        handler,
        post.send,
        clock=clock,
        chance=lambda: 0.0,
        callback_of=lambda record, event: None,
    )


@pytest.fixture
async def handler(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Handler]:
    handler = Handler(tmp_path, clock=clock, catalog=EMBEDDED)
    await asked(handler, ask.CreateQueue(queue="default"))
    command = ask.CreateWebhook(webhook="w", url=f"{receiver.url}/hook", secret=SECRET, events=ENDS)
    await asked(handler, command)
    yield handler
    await handler.close()


async def asked(handler: Handler, command: ask.Command) -> None:
    await handler.ask(command, actor="tester", cause="test")


async def cancelled_job(handler: Handler, job: str) -> None:
    await asked(handler, submission(job))
    await asked(handler, ask.CancelJob(job=job))


def shown(office: WebhookOffice) -> list[DeliveryView]:
    return list_deliveries(office.reader(), "w", limit=100)[0]


async def test_whoever_asks_sees_what_is_durable_and_the_log_hears_how_it_ended(
    handler: Handler, receiver: Receiver, tmp_path: Path
) -> None:
    office = opened(tmp_path, handler)
    await cancelled_job(handler, "j")
    await office.shown()
    (delivery,) = shown(office)
    await until(lambda: handler.log.read_stream("webhook/w")[-1].event.type == "webhook-delivered")
    ended = handler.log.read_stream("webhook/w")[-1]
    assert (ended.actor, ended.event_id) == ("outbox", f"{delivery.id}.1")
    assert receiver.messages[0].verified(SECRET)["data"]["id"] == "j"
    await office.close()


async def test_what_hangs_at_the_end_is_sent_by_the_next_one(
    handler: Handler, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answers["/hook"].append(receiver.hanging())
    office = opened(tmp_path, handler)
    await cancelled_job(handler, "j")
    await until(lambda: receiver.messages)
    began_s = time.monotonic()
    await office.close()
    assert time.monotonic() - began_s < 5, "the end waits for no receiver"
    await cancelled_job(handler, "later")  # while nobody listens for webhooks
    office = opened(tmp_path, handler)
    await until(lambda: [d.status for d in shown(office)] == ["delivered", "delivered"])
    assert sorted(m.payload["data"]["id"] for m in receiver.messages) == ["j", "j", "later"]
    await office.close()


async def test_while_the_outbox_cannot_be_written_commands_are_taken_and_then_everything_is_told(
    handler: Handler, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.webhooks.courier.RETRY_S", 0.02)
    office = opened(tmp_path, handler)
    store = office._outbox._store
    works, is_broken = store.apply, True

    def apply(*arguments: Any) -> None:
        if is_broken:
            raise OSError(28, "no space left on device")
        works(*arguments)

    monkeypatch.setattr(store, "apply", apply)
    await cancelled_job(handler, "j1")
    with pytest.raises(ViewsBehind, match="the outbox stands at 2 of 4"):
        await office.shown()
    await cancelled_job(handler, "j2")
    assert receiver.messages == []
    is_broken = False
    await until(lambda: len(receiver.messages) == 2)
    await office.shown()
    await office.close()
