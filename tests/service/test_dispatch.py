"""Handing out jobs: the real handler and log, a clock the test turns, sessions that keep what they hear."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from events.jobs import JobCompleted, JobRequeued
from service import commands as ask
from service import protocol as say
from service.dispatch import Dispatcher
from service.handle import Handler
from service.sessions import Session
from service.tasks.catalog import EMBEDDED
from tests.history import PRETEND, submission

pytestmark = pytest.mark.anyio
M = TypeVar("M", bound=say.Message)


class Floor:
    """A handler, a dispatcher and a clock."""

    def __init__(self, data: Path, first_eta_s: Callable[[str], float | None] = lambda job: None) -> None:
        self.now = 0.0  # monotonic seconds
        self.wall_is_off_s = 0.0  # what the wall clock is ahead of them
        self.handler = Handler(data, clock=lambda: int((self.now + self.wall_is_off_s) * 1e6), catalog=EMBEDDED)
        ids = itertools.count(1)
        self.stored: set[str] = set()
        self.dispatcher = Dispatcher(
            self.handler, monotonic=lambda: self.now, new_id=lambda: f"offer-{next(ids)}",
            is_stored=self.stored.__contains__, lease_s=30, beat_s=5, first_eta_s=first_eta_s,
        )  # fmt: skip

    async def ask(self, command: ask.Command) -> None:
        await self.handler.ask(command, actor="tester", cause="test")

    async def worker(self, name: str = "w", boot: str = "b1", running: tuple[say.RunningAttempt, ...] = ()) -> Peer:
        peer = Peer(self)
        hello = say.Hello(
            protocol=say.PROTOCOL_VERSION, worker=name, boot=boot, models=PRETEND,
            device=say.DeviceInfo(kind="cpu", name="test"), slots=1, versions={}, running=running,
        )  # fmt: skip
        await self.dispatcher.hello(peer.session, hello)
        return peer

    def status(self, job: str) -> str | None:
        live = self.handler.state.jobs.get(job)
        return live.status if live else None

    async def becomes(self, job: str, status: str) -> None:
        async with asyncio.timeout(10):
            while self.status(job) != status:  # noqa: ASYNC110 - what is waited for is the service's own state
                await asyncio.sleep(0)

    async def published(self) -> None:
        """Return when the listeners have heard of everything that was asked."""
        heard: set[int] = set()
        self.handler.listen(lambda records: heard.add(records[-1].position))
        await self.ask(ask.CreateQueue(queue=f"q{self.handler.log.head()}"))
        async with asyncio.timeout(10):
            while self.handler.log.head() not in heard:  # noqa: ASYNC110 - the service's own state
                await asyncio.sleep(0)

    def events(self, job: str) -> list[Any]:
        return [r.event for r in self.handler.log.read_stream(f"job/{job}")]


class Peer:
    """A worker's end of a session."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.heard: list[say.Message] = []
        self.is_ended = False
        self.session = Session(id="s", send=self.heard.append, end=self._end)
        self.numbers = itertools.count(1)

    def _end(self) -> None:
        self.is_ended = True

    def say(self, message: say.FromWorker) -> None:
        self.floor.dispatcher.receive(self.session, message)

    async def hears(self, kind: type[M]) -> M:
        """The first message of a kind that comes, taken out of what was heard."""
        async with asyncio.timeout(10):
            while True:
                for message in self.heard:
                    if isinstance(message, kind):
                        self.heard.remove(message)
                        return message
                await asyncio.sleep(0)

    async def starts(self) -> say.Start:
        """Takes the next job up to its Start."""
        self.say(say.Ready(slots=1))
        offer = await self.hears(say.Offer)
        self.say(say.Accept(offer=offer.offer))
        return await self.hears(say.Start)

    def completes(self, start: say.Start, token: int | None = None, files: tuple[say.Artifact, ...] = ()) -> None:
        self.say(
            say.Completed(
                number=next(self.numbers), job=start.job, attempt=start.attempt, token=token or start.token,
                artifacts=files, facts={},
            )
        )  # fmt: skip


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    opened = Floor(tmp_path)
    await opened.ask(ask.CreateQueue(queue="default"))
    yield opened
    await opened.handler.close()


async def test_a_job_goes_from_offer_to_result(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j", params={"steps": 3}))
    start = await peer.starts()
    assert floor.status("j") == "running", "the lease is durable before the worker may compute"
    peer.completes(start)
    assert (await peer.hears(say.Acknowledge)).through == 1
    assert isinstance(floor.events("j")[-1], JobCompleted)


async def test_without_credit_nothing_is_offered(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j1"))
    await floor.ask(submission("j2"))
    peer.say(say.Ready(slots=1))
    await peer.hears(say.Offer)
    floor.dispatcher.tick()
    assert not any(isinstance(m, say.Offer) for m in peer.heard)


async def test_an_offer_that_is_not_accepted_lapses_at_no_cost(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    peer.say(say.Ready(slots=1))
    offer = await peer.hears(say.Offer)
    floor.now += say.OFFER_S
    floor.dispatcher.tick()
    assert (await peer.hears(say.Withdraw)).offer == offer.offer
    again = await peer.hears(say.Offer)
    assert again.offer != offer.offer
    peer.say(say.Accept(offer=offer.offer))
    peer.say(say.Accept(offer=again.offer))
    assert (await peer.hears(say.Start)).attempt == 1


async def test_a_socket_that_dies_after_the_offer_costs_nothing(floor: Floor) -> None:
    first, second = await floor.worker("w1"), await floor.worker("w2")
    await floor.ask(submission("j"))
    first.say(say.Ready(slots=1))
    await first.hears(say.Offer)
    second.say(say.Ready(slots=1))
    floor.dispatcher.ended(first.session)
    offer = await second.hears(say.Offer)
    second.say(say.Accept(offer=offer.offer))
    assert (await second.hears(say.Start)).attempt == 1


async def test_a_job_cancelled_between_offer_and_accept_is_withdrawn(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    peer.say(say.Ready(slots=1))
    offer = await peer.hears(say.Offer)
    await floor.ask(ask.CancelJob(job="j"))
    peer.say(say.Accept(offer=offer.offer))
    assert "ended" in (await peer.hears(say.Withdraw)).why
    await floor.ask(submission("j2"))
    assert (await peer.hears(say.Offer)).job == "j2", "the credit came back with the withdrawal"


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(ask.PauseQueue(queue="default"))
    await floor.ask(submission("j"))
    peer.say(say.Ready(slots=1))
    floor.dispatcher.tick()
    assert not any(isinstance(m, say.Offer) for m in peer.heard)
    await floor.ask(ask.ResumeQueue(queue="default"))
    await peer.hears(say.Offer)


async def test_a_worker_gets_only_what_it_can_run(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j1", task=None, params={"prompt": "x"}, priority=100))
    await floor.ask(submission("j2", priority=1))
    peer.say(say.Ready(slots=1))
    assert (await peer.hears(say.Offer)).job == "j2"


async def test_a_silent_worker_loses_its_job_and_a_beat_keeps_it(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    await peer.starts()
    for _ in range(10):
        floor.now += 29
        peer.say(say.Beat())
        floor.dispatcher.tick()
    assert floor.status("j") == "running"
    floor.now += 31
    floor.dispatcher.tick()
    assert (await peer.hears(say.Refused)).retry
    await floor.becomes("j", "queued")
    assert floor.events("j")[-1] == JobRequeued(attempt=1, reason="lease-expired")


async def test_a_cut_shorter_than_the_lease_costs_nothing(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    start = await peer.starts()
    floor.dispatcher.ended(peer.session)
    floor.now += 20
    floor.dispatcher.tick()
    held = say.RunningAttempt(job="j", attempt=start.attempt, token=start.token, step=3)
    back = await floor.worker(running=(held,))
    assert (await back.hears(say.Welcome)).verdicts == (
        say.Verdict(job="j", attempt=1, keep=True, token=start.token),
    )
    back.completes(start)
    await back.hears(say.Acknowledge)
    assert floor.status("j") is None


async def test_a_cut_longer_than_the_lease_is_adopted_while_nobody_else_has_the_job(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    start = await peer.starts()
    floor.dispatcher.ended(peer.session)
    floor.now += 60
    floor.dispatcher.tick()
    await floor.becomes("j", "queued")
    held = say.RunningAttempt(job="j", attempt=start.attempt, token=start.token)
    back = await floor.worker(running=(held,))
    (verdict,) = (await back.hears(say.Welcome)).verdicts
    assert verdict.keep
    assert verdict.token > start.token
    back.completes(start, verdict.token)
    await back.hears(say.Acknowledge)
    assert [type(e) for e in floor.events("j")].count(JobCompleted) == 1


async def test_a_worker_that_returns_after_somebody_else_took_over_is_told_to_stop(floor: Floor) -> None:
    old = await floor.worker("w1")
    await floor.ask(submission("j"))
    start = await old.starts()
    floor.dispatcher.ended(old.session)
    other = await floor.worker("w2")
    floor.now += 31
    other.say(say.Beat())
    floor.dispatcher.tick()
    other_start = await other.starts()
    held = say.RunningAttempt(job="j", attempt=start.attempt, token=start.token)
    back = await floor.worker("w1", running=(held,))
    assert not (await back.hears(say.Welcome)).verdicts[0].keep
    back.completes(start)
    assert (await back.hears(say.Stale)).job == "j"
    assert (await back.hears(say.Acknowledge)).through == 1, "a stale report is settled: it is not sent again"
    other.completes(other_start)
    await other.hears(say.Acknowledge)
    assert [type(e) for e in floor.events("j")].count(JobCompleted) == 1


async def test_a_report_that_is_replayed_is_acknowledged_and_has_one_effect(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    start = await peer.starts()
    report = say.Completed(number=4, job="j", attempt=start.attempt, token=start.token, artifacts=(), facts={})
    peer.say(report)
    peer.say(report)
    assert (await peer.hears(say.Acknowledge)).through == 4
    await floor.ask(submission("other"))
    assert not any(isinstance(m, say.Stale) for m in peer.heard)
    assert [type(e) for e in floor.events("j")].count(JobCompleted) == 1


async def test_a_newer_process_of_the_same_name_fences_the_old_one_at_once(floor: Floor) -> None:
    old = await floor.worker("w", "b1")
    await floor.ask(submission("j"))
    start = await old.starts()
    new = await floor.worker("w", "b2")
    assert not (await old.hears(say.Refused)).retry
    assert old.is_ended
    assert (await new.starts()).attempt == 2
    old.completes(start)
    assert (await old.hears(say.Stale)).attempt == 1


async def test_cancel_reaches_the_worker_and_again_after_a_reconnect(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    start = await peer.starts()
    await floor.ask(ask.CancelJob(job="j"))
    assert (await peer.hears(say.Cancel)).token == start.token
    held = say.RunningAttempt(job="j", attempt=start.attempt, token=start.token)
    back = await floor.worker(running=(held,))
    assert (await back.hears(say.Cancel)).job == "j"
    back.say(say.Stopped(number=1, job="j", attempt=start.attempt, token=start.token, step=2))
    await back.hears(say.Acknowledge)
    assert floor.status("j") is None


async def test_a_result_that_crosses_the_cancel_wins(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    start = await peer.starts()
    await floor.ask(ask.CancelJob(job="j"))
    peer.completes(start)
    await peer.hears(say.Acknowledge)
    assert isinstance(floor.events("j")[-1], JobCompleted)


async def test_progress_of_an_attempt_that_lost_its_job_is_answered_stale(floor: Floor) -> None:
    peer = await floor.worker()
    await floor.ask(submission("j"))
    start = await peer.starts()
    peer.say(say.Progress(job="j", attempt=1, token=start.token, phase="denoising", step=2, steps=4))
    assert floor.dispatcher.progress["j"].step == 2
    peer.say(say.Progress(job="j", attempt=1, token=start.token - 1, phase="denoising", step=3, steps=4))
    await peer.hears(say.Stale)
    assert floor.dispatcher.progress["j"].step == 2
    peer.completes(start)
    await peer.hears(say.Acknowledge)
    async with asyncio.timeout(10):
        while floor.dispatcher.progress:  # noqa: ASYNC110 - forgotten with the publishing, soon after the answer
            await asyncio.sleep(0)
    peer.say(say.Progress(job="j", attempt=1, token=start.token, phase="denoising", step=4, steps=4))
    await peer.hears(say.Stale)
    assert floor.dispatcher.progress == {}, "late progress does not resurrect a job"


async def test_an_older_protocol_is_refused_in_words(floor: Floor) -> None:
    peer = Peer(floor)
    hello = say.Hello(
        protocol=99,
        worker="w",
        boot="b",
        models={},
        device=say.DeviceInfo(kind="cpu", name="t"),
        slots=1,
        versions={},
    )
    await floor.dispatcher.hello(peer.session, hello)
    refused = await peer.hears(say.Refused)
    assert "protocol 99" in refused.why
    assert peer.is_ended


async def test_leases_begin_anew_when_the_service_restarts(tmp_path: Path) -> None:
    first = Floor(tmp_path)
    await first.ask(ask.CreateQueue(queue="default"))
    peer = await first.worker()
    await first.ask(submission("j"))
    start = await peer.starts()
    await first.handler.close()

    second = Floor(tmp_path)
    second.now = 25
    second.dispatcher.tick()
    assert second.status("j") == "running", "the lease of a worker that has not come back yet runs in full"
    held = say.RunningAttempt(job="j", attempt=start.attempt, token=start.token)
    back = await second.worker(running=(held,))
    assert (await back.hears(say.Welcome)).verdicts[0].keep
    back.completes(start)
    await back.hears(say.Acknowledge)
    assert second.status("j") is None
    await second.handler.close()


async def test_a_worker_that_never_comes_back_after_a_restart_loses_its_job(tmp_path: Path) -> None:
    first = Floor(tmp_path)
    await first.ask(ask.CreateQueue(queue="default"))
    peer = await first.worker()
    await first.ask(submission("j"))
    await peer.starts()
    await first.handler.close()

    second = Floor(tmp_path)
    second.now = 31
    second.dispatcher.tick()
    await second.becomes("j", "queued")
    assert "w" not in second.handler.state.workers
    await second.handler.close()


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_job_completes_only_with_files_that_are_in_the_store(floor: Floor, is_there: bool) -> None:
    await floor.ask(submission())
    peer = await floor.worker()
    file = say.Artifact(digest="a" * 64, media_type="image/png", bytes=3, width=1, height=1)
    if is_there:
        floor.stored.add(file.digest)
    peer.completes(await peer.starts(), files=(file,))
    await peer.hears(say.Acknowledge)
    last = floor.events("j")[-1]
    assert last.type == ("job-completed" if is_there else "job-requeued")
    assert is_there or file.digest in last.detail
