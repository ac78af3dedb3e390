"""What a webhook is promised: signed, at least once, tried for a day, shown, and nobody delayed by another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import Response

from service import commands as ask
from service.webhooks.courier import PER_LANE
from service.webhooks.schedule import PAUSES_S
from tests.receiver import Receiver, receiving
from tests.service.webhooks.desk import CALLBACK_SECRET, SECRET, open_desk, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


async def test_the_end_of_a_job_arrives_signed_and_without_its_prompt(receiver: Receiver, tmp_path: Path) -> None:
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.take_in(desk.history.submit("j", task=None, params={"prompt": "a secret fox"}, tags=("t",)))
        held = desk.history.lease("j")
        end = desk.ask(ask.CompleteJob(artifacts=(), facts={}, **held.words()))[-1]
        (delivery,) = await desk.settled()
        (message,) = receiver.to("/hook")
        payload = message.verified(SECRET)
        assert (payload["type"], payload["data"]["id"], payload["data"]["status"]) == (
            "job.completed",
            "j",
            "completed",
        )
        assert (payload["data"]["position"], payload["data"]["tags"]) == (end.position, ["t"])
        assert b"fox" not in message.body
        assert (delivery.id, delivery.status, delivery.position) == (message.id, "delivered", end.position)
        assert [a.status for a in delivery.attempts] == [204]
        assert desk.types() == ["created", "delivered"]


async def test_a_delivery_is_tried_for_a_day_with_one_id_one_body_and_new_signatures(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.always["/hook"] = Response("broken", 500)
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.finish()
        began_us = desk.now_us
        for attempts, pause_s in enumerate(PAUSES_S, 1):
            delivery = await desk.attempted(attempts)
            assert delivery.status == "pending"
            assert delivery.next_at_us == desk.now_us + pause_s * 1_000_000
            desk.pass_s(pause_s - 1)
            await asyncio.sleep(0.02)
            assert len(receiver.messages) == attempts, "not before its time"
            desk.pass_s(1)
        (delivery,) = await desk.settled()
        assert delivery.status == "gave-up"
        assert [(a.status, a.error) for a in delivery.attempts] == [(500, "broken")] * 8
        assert delivery.attempts[-1].at_us - began_us < 24 * 3600 * 1_000_000
        assert len({(m.id, m.body) for m in receiver.messages}) == 1
        assert len({m.headers["webhook-timestamp"] for m in receiver.messages}) == 8
        assert desk.types() == ["created", "gave-up"]


async def test_gone_disables_the_webhook_and_drops_what_it_was_owed(receiver: Receiver, tmp_path: Path) -> None:
    async with open_desk(tmp_path / "outbox.db") as desk:
        receiver.answers["/hook"] += [Response(status_code=500), Response(status_code=410)]
        desk.webhook(f"{receiver.url}/hook")
        desk.finish("j1")
        await desk.attempted(1)
        desk.finish("j2")
        await desk.settled()
        assert [d.status for d in desk.deliveries()] == ["dropped", "gave-up"]
        assert desk.history.state.webhooks["w"].disabled == "gone"
        desk.finish("j3")
        assert len(desk.deliveries()) == 2
        desk.ask(ask.ChangeWebhook(webhook="w", is_enabled=True))
        desk.finish("j4")
        assert [d.status for d in await desk.settled()] == ["dropped", "gave-up", "delivered"]
        assert desk.types() == ["created", "gave-up", "disabled", "enabled", "delivered"]


@pytest.mark.parametrize(("status", "waits"), [(429, True), (503, True), (500, False)])
async def test_retry_after_is_honoured_where_it_means_something(
    receiver: Receiver, tmp_path: Path, status: int, waits: bool
) -> None:
    receiver.answers["/hook"].append(Response(status_code=status, headers={"Retry-After": "600"}))
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.finish()
        delivery = await desk.attempted(1)
        assert delivery.next_at_us == desk.now_us + (600 if waits else PAUSES_S[0]) * 1_000_000


async def test_a_ping_is_tried_once_also_where_the_webhook_is_disabled(receiver: Receiver, tmp_path: Path) -> None:
    async with open_desk(tmp_path / "outbox.db") as desk:
        receiver.answers["/hook"].append(Response(status_code=500))
        desk.webhook(f"{receiver.url}/hook")
        desk.ask(ask.PingWebhook(webhook="w"))
        assert [d.status for d in await desk.settled()] == ["gave-up"]
        desk.ask(ask.ChangeWebhook(webhook="w", is_enabled=False))
        desk.ask(ask.PingWebhook(webhook="w"))
        assert [d.status for d in await desk.settled()] == ["gave-up", "delivered"]
        assert receiver.messages[-1].verified(SECRET) == {
            **receiver.messages[-1].payload, "type": "webhook.pinged", "data": {"webhook": "w"},
        }  # fmt: skip


async def test_a_redelivery_sends_the_same_message_again_in_a_round_of_its_own(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.finish()
        (delivery,) = await desk.settled()
        receiver.answers["/hook"].append(Response(status_code=500))
        desk.ask(ask.RedeliverWebhook(webhook="w", delivery=delivery.id))
        await desk.attempted(2)
        desk.pass_s(PAUSES_S[0])
        (delivery,) = await desk.settled()
        assert (delivery.round, delivery.status, [a.status for a in delivery.attempts]) == (
            2,
            "delivered",
            [204, 500, 204],
        )
        assert len({(m.id, m.body) for m in receiver.messages}) == 1
        assert desk.types() == ["created", "delivered", "redelivery-requested", "delivered"]


async def test_one_that_hangs_delays_nobody_else(receiver: Receiver, tmp_path: Path) -> None:
    receiver.always["/slow"] = receiver.hanging()
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/slow", "slow")
        desk.webhook(f"{receiver.url}/quick", "quick")
        for number in range(20):
            desk.finish(f"j{number}")
        await desk.settled("quick")
        assert len(receiver.to("/quick")) == 20
        await until(lambda: len(receiver.to("/slow")) == PER_LANE)
        assert {d.status for d in desk.deliveries("slow")} == {"pending"}
        receiver.let_go()
        await desk.settled("slow")
        assert receiver.most_on_way["/slow"] == PER_LANE


async def test_first_attempts_begin_in_log_order_and_one_at_a_time_of_a_job(
    receiver: Receiver, tmp_path: Path
) -> None:
    kinds = ("job-submitted", "job-leased", "job-completed")
    receiver.answers["/hook"] += [receiver.hanging()]
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook", events=kinds)
        desk.finish()
        await until(lambda: receiver.messages)
        await asyncio.sleep(0.05)
        assert len(receiver.messages) == 1, "the first is on its way, so the others of its job wait"
        receiver.let_go()
        await desk.settled()
        assert [m.payload["type"] for m in receiver.messages] == ["job.submitted", "job.leased", "job.completed"]
        assert [m.payload["data"]["status"] for m in receiver.messages] == ["queued", "running", "completed"]
        positions = [m.payload["data"]["position"] for m in receiver.messages]
        assert positions == sorted(positions)


async def test_what_the_log_could_not_be_told_is_told_later_and_sent_only_once(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.webhooks.courier.RETRY_S", 0.01)
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.is_log_full = True
        desk.finish()
        await until(lambda: desk.deliveries()[0].status == "delivered")
        await asyncio.sleep(0.05)
        assert desk.types() == ["created"]
        desk.is_log_full = False
        await desk.settled()
        assert desk.types() == ["created", "delivered"]
        assert len(receiver.messages) == 1


async def test_a_message_that_cannot_be_made_is_an_attempt_that_failed(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.finish()
        with monkeypatch.context() as broken:
            broken.setattr(desk.history, "read_stream", lambda name: [])
            delivery = await desk.attempted(1)
        assert delivery.attempts[0].error == "the service failed to send it; its log says why"
        desk.pass_s(PAUSES_S[0])
        assert [d.status for d in await desk.settled()] == ["delivered"]


async def test_for_a_day_after_a_rotation_both_secrets_sign(receiver: Receiver, tmp_path: Path) -> None:
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.history.at_us = desk.now_us  # as a log has it: the rotation ends a day after its record
        desk.ask(ask.RotateWebhookSecret(webhook="w", secret=CALLBACK_SECRET))
        desk.pass_s(2)
        desk.finish("j1")
        await desk.settled()
        for secret in (SECRET, CALLBACK_SECRET):
            receiver.messages[0].verified(secret)
        desk.pass_s(24 * 3600 + 10)
        desk.finish("j2")
        await desk.settled()
        assert len(receiver.messages[0].headers["webhook-signature"].split()) == 2
        assert len(receiver.messages[1].headers["webhook-signature"].split()) == 1


async def test_a_callback_goes_to_the_address_of_its_job_signed_with_the_secret_of_callbacks(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.finish("j1", tags=(f"{receiver.url}/one-off",))
        desk.finish("j2")
        (delivery,) = await desk.settled("callback")
        (message,) = receiver.messages
        assert message.path == "/one-off"
        assert message.verified(CALLBACK_SECRET)["data"]["id"] == "j1"
        assert (delivery.url, delivery.status) == (f"{receiver.url}/one-off", "delivered")


async def test_a_callback_that_is_gone_disables_no_other(receiver: Receiver, tmp_path: Path) -> None:
    receiver.always["/gone"] = Response(status_code=410)
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.finish("j1", tags=(f"{receiver.url}/gone",))
        await desk.settled("callback")
        desk.finish("j2", tags=(f"{receiver.url}/here",))
        assert [d.status for d in await desk.settled("callback")] == ["gave-up", "delivered"]


async def test_hosts_of_callbacks_do_not_delay_each_other(tmp_path: Path) -> None:
    with receiving() as slow, receiving() as quick:
        slow.always["/x"] = slow.hanging()
        async with open_desk(tmp_path / "outbox.db") as desk:
            for number in range(2 * PER_LANE):
                desk.finish(f"s{number}", tags=(f"{slow.url}/x",))
            desk.finish("q", tags=(f"{quick.url}/x",))
            await until(lambda: quick.messages)
            slow.let_go()
            await desk.settled("callback")


async def test_a_webhook_removed_while_it_is_told_leaves_nothing_behind(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers["/hook"].append(receiver.hanging())
    async with open_desk(tmp_path / "outbox.db") as desk:
        desk.webhook(f"{receiver.url}/hook")
        desk.finish()
        await until(lambda: receiver.messages)
        desk.ask(ask.RemoveWebhook(webhook="w"))
        receiver.let_go()
        desk.finish("j2")
        assert desk.deliveries() == []
        await asyncio.sleep(0.05)
        assert desk.outbox.reader().execute("SELECT count(*) FROM attempts").fetchall() == [(0,)]
        assert desk.types() == ["created", "removed"]
