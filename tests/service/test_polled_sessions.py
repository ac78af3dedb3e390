"""Sessions over HTTP against the real dispatcher, handler and log, with a clock the test turns."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from events.jobs import JobCancelled, JobCompleted, JobFailed, JobLeased, JobRequeued
from events.workers import WorkerLost
from service import commands as ask
from service import protocol as say
from service.polled_sessions import KEPT_S, MOST_CLAIMS, Held, Lease, PolledSession, PolledSessions
from service.refusals import FencedBoot, StaleAttempt, UnknownSession
from tests.history import PRETEND, submission
from tests.service.test_dispatch import Floor

pytestmark = pytest.mark.anyio
T = TypeVar("T")


class Counter(Floor):
    """A floor with workers that come over HTTP."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        names = (f"session-{number}" for number in itertools.count(1))
        self.sessions = PolledSessions(
            self.handler, self.dispatcher, monotonic=lambda: self.now, new_id=lambda: next(names)
        )

    async def hello(
        self, name: str = "w", boot: str = "b1", running: tuple[say.RunningAttempt, ...] = ()
    ) -> say.Welcome:
        return await self.sessions.open(
            say.Hello(
                protocol=say.PROTOCOL_VERSION, worker=name, boot=boot, models=PRETEND,
                device=say.DeviceInfo(kind="cpu", name="test"), slots=1, versions={}, running=running,
            )
        )  # fmt: skip

    async def polled(self, name: str = "w", boot: str = "b1") -> PolledSession:
        return self.sessions.find((await self.hello(name, boot)).session)

    def later(self, seconds: float) -> None:
        """Time passes, second by second."""
        for _ in range(round(seconds)):
            self.now += 1
            self.dispatcher.tick()
            self.sessions.tick()


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Counter]:
    opened = Counter(tmp_path)
    await opened.ask(ask.CreateQueue(queue="default"))
    yield opened
    await opened.handler.close()


def nobody_leaves() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def claim(session: PolledSession, name: str, wait_s: float = 10) -> asyncio.Task[Lease | None]:
    """A claim that waits; it is let in before anything else happens."""
    return asyncio.create_task(session.claim(name, wait_s, nobody_leaves()))


async def soon(wanted: Awaitable[T]) -> T:
    async with asyncio.timeout(10):
        return await wanted


async def leased(session: PolledSession, name: str = "c") -> Lease:
    lease = await soon(claim(session, name))
    assert lease is not None
    return lease


def attempt(lease: Lease, token: int | None = None) -> say.RunningAttempt:
    return say.RunningAttempt(job=lease.job, attempt=lease.attempt, token=token or lease.token)


def completed(lease: Lease, token: int | None = None) -> say.Completed:
    return say.Completed(
        number=0, job=lease.job, attempt=lease.attempt, token=token or lease.token, artifacts=(), facts={}
    )


async def test_a_claim_is_a_durable_lease_with_all_the_params(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j", params={"steps": 3}))
    lease = await leased(session)
    assert floor.status("j") == "running"
    assert (lease.job, lease.attempt, lease.task, lease.model, lease.lease_s) == ("j", 1, "pretend", "pretend", 30)
    assert lease.params["steps"] == 3
    await session.report(completed(lease), "cause")
    assert isinstance(floor.events("j")[-1], JobCompleted)


async def test_a_waiting_claim_is_answered_when_a_job_comes(floor: Counter) -> None:
    session = await floor.polled()
    waiting = claim(session, "c")
    await asyncio.sleep(0)
    await floor.ask(submission("j"))
    lease = await soon(waiting)
    assert lease is not None
    assert lease.job == "j"


async def test_the_same_claim_has_the_same_answer_and_another_one_another_job(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j1"))
    await floor.ask(submission("j2"))
    first = await leased(session, "c1")
    assert await leased(session, "c1") == first, "the first answer was lost"
    assert (await leased(session, "c2")).job != first.job
    await session.report(completed(first), "cause")
    assert await soon(claim(session, "c1")) is None, "its attempt has ended: nothing more is due to it"


async def test_many_claims_at_once_never_get_one_job(floor: Counter) -> None:
    sessions = [await floor.polled(f"w{number}") for number in range(4)]
    waiting = [claim(session, f"c{number}") for session in sessions for number in range(3)]
    await asyncio.sleep(0)
    for number in range(12):
        await floor.ask(submission(f"j{number}"))
    leases = await soon(asyncio.gather(*waiting))
    assert len({lease.job for lease in leases if lease is not None}) == 12


async def test_a_claim_repeated_while_the_first_waits_takes_one_job_for_both(floor: Counter) -> None:
    session = await floor.polled()
    first = claim(session, "c")
    await asyncio.sleep(0)
    second = claim(session, "c")
    assert await soon(first) is None
    await floor.ask(submission("j1"))
    await floor.ask(submission("j2"))
    lease = await soon(second)
    assert lease is not None
    assert [floor.status("j1"), floor.status("j2")].count("running") == 1


async def test_a_claim_that_waited_in_vain_takes_nothing_afterwards(floor: Counter) -> None:
    session = await floor.polled()
    assert await soon(claim(session, "c", 0)) is None
    await floor.ask(submission("j"))
    await floor.published()
    assert floor.status("j") == "queued"
    assert (await leased(session, "c")).job == "j"


async def test_a_claim_that_does_not_want_to_wait_still_gets_what_is_there(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j"))
    lease = await soon(claim(session, "c", 0))
    assert lease is not None


async def test_nothing_is_leased_for_an_asker_who_has_gone(floor: Counter) -> None:
    session = await floor.polled()
    gone = nobody_leaves()
    waiting = asyncio.create_task(session.claim("c", 10, gone))
    await asyncio.sleep(0)
    gone.set_result(None)
    assert await soon(waiting) is None
    await floor.ask(submission("j"))
    await floor.published()
    assert floor.status("j") == "queued"


async def test_a_job_leased_as_its_asker_left_is_not_lost(floor: Counter) -> None:
    session = await floor.polled()
    gone = nobody_leaves()
    waiting = asyncio.create_task(session.claim("c1", 10, gone))
    await asyncio.sleep(0)
    await floor.ask(submission("j"))
    while not session.session.offers:  # noqa: ASYNC110 - what is waited for is the service's own state
        await asyncio.sleep(0)
    gone.set_result(None)  # the offer is out, its lease is not durable yet
    unheard = await soon(waiting)
    assert (await leased(session, "c2" if unheard is None else "c1")).job == "j"
    assert floor.status("j") == "running"


async def test_an_attempt_that_no_heartbeat_names_goes_to_another_worker_though_this_one_beats(
    floor: Counter,
) -> None:
    session, other = await floor.polled("w"), await floor.polled("other")
    await floor.ask(submission("j1"))
    heard = await leased(session, "c1")
    await floor.ask(submission("j2"))
    await leased(session, "c2")  # its answer was lost, and the worker asks with a new word
    for _ in range(8):
        floor.later(5)
        floor.sessions.find(other.session.id)
        assert floor.sessions.find(session.session.id).heartbeat([attempt(heard)]).stale == []
    await floor.becomes("j2", "queued")
    assert floor.status("j1") == "running"
    assert (await leased(other)).job == "j2"


async def test_a_report_names_its_attempt(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j"))
    lease = await leased(session)
    for number in range(6):
        floor.later(10)
        floor.sessions.find(session.session.id)
        if number % 2:
            await session.report(say.Phase(number=0, phase=f"p{number}", **words(lease)), "cause")
        else:
            session.progress(say.Progress(phase="p", step=number, steps=9, **words(lease)), None)
    assert floor.status("j") == "running"


def words(lease: Lease) -> dict[str, Any]:
    return {"job": lease.job, "attempt": lease.attempt, "token": lease.token}


async def test_a_silent_worker_says_hello_again_and_is_adopted_back(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j"))
    lease = await leased(session)
    floor.later(31)
    await floor.becomes("j", "queued")
    with pytest.raises(UnknownSession):
        floor.sessions.find(session.session.id)
    (verdict,) = (await floor.hello(running=(attempt(lease),))).verdicts
    assert verdict.keep
    assert verdict.token > lease.token
    (again,) = (await floor.hello(running=(attempt(lease),))).verdicts
    assert again == verdict, "the first answer was lost"
    session = floor.sessions.find("session-3")
    with pytest.raises(StaleAttempt):
        await session.report(completed(lease), "cause")
    await session.report(completed(lease, verdict.token), "cause")
    assert [type(e) for e in floor.events("j")].count(JobCompleted) == 1


async def test_what_a_hello_does_not_name_waits_again(floor: Counter) -> None:
    await floor.ask(submission("j"))
    await leased(await floor.polled())
    await floor.hello()
    requeued = floor.events("j")[-1]
    assert isinstance(requeued, JobRequeued)
    assert requeued.reason == "worker-restarted"


async def test_a_late_report_of_a_job_that_somebody_else_has_is_stale(floor: Counter) -> None:
    session = await floor.polled("slow")
    await floor.ask(submission("j"))
    lease = await leased(session)
    floor.later(31)
    await floor.becomes("j", "queued")
    other = await leased(await floor.polled("quick"))
    back = floor.sessions.find((await floor.hello("slow")).session)
    assert back.heartbeat([attempt(lease)]).stale == [Held(job="j", attempt=1)]
    for refused in (completed(lease), say.Failed(number=0, kind="crash", message="x", **words(lease))):
        with pytest.raises(StaleAttempt):
            await back.report(refused, "cause")
    with pytest.raises(StaleAttempt):
        back.progress(say.Progress(phase="p", step=1, steps=2, **words(lease)), None)
    assert (other.attempt, floor.status("j")) == (2, "running")


async def test_a_repeated_report_is_answered_like_the_first_and_has_one_effect(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j"))
    lease = await leased(session)
    head = 0
    for _ in range(3):
        await session.report(completed(lease), "cause")
        assert head in (0, floor.handler.log.head())
        head = floor.handler.log.head()


async def test_a_cancel_is_told_at_every_answer_until_it_is_obeyed(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j"))
    lease = await leased(session)
    await floor.ask(ask.CancelJob(job="j"))
    told = [Held(job="j", attempt=1)]
    assert session.heartbeat([attempt(lease)]).cancel == told
    assert session.progress(say.Progress(phase="p", step=1, steps=2, **words(lease)), None).cancel == told
    assert (await session.report(say.Phase(number=0, phase="p", **words(lease)), "cause")).cancel == told
    assert (await session.report(say.Stopped(number=0, step=2, **words(lease)), "cause")).cancel == []
    assert floor.events("j")[-1] == JobCancelled(attempt=1, step=2)


async def test_a_newer_process_of_the_name_fences_the_older_one_at_once(floor: Counter) -> None:
    session = await floor.polled()
    waiting = claim(session, "c")
    await asyncio.sleep(0)
    await floor.hello(boot="b2")
    with pytest.raises(FencedBoot):
        await soon(waiting)
    with pytest.raises(FencedBoot):
        floor.sessions.find(session.session.id)
    floor.later(KEPT_S + 1)
    with pytest.raises(UnknownSession):
        floor.sessions.find(session.session.id)


async def test_a_worker_on_a_socket_and_one_over_http_fence_each_other(floor: Counter) -> None:
    session = await floor.polled("w", "b1")
    peer = await floor.worker("w", "b2")
    with pytest.raises(FencedBoot):
        floor.sessions.find(session.session.id)
    await floor.hello("w", "b3")
    refused = await peer.hears(say.Refused)
    assert not refused.retry
    assert peer.is_ended


async def test_an_attempt_goes_on_when_its_process_changes_from_http_to_a_socket(floor: Counter) -> None:
    await floor.ask(submission("j"))
    lease = await leased(await floor.polled())
    peer = await floor.worker(running=(attempt(lease),))
    (verdict,) = (await peer.hears(say.Welcome)).verdicts
    assert verdict.keep
    for _ in range(8):
        floor.later(5)
        peer.say(say.Beat())
    assert floor.status("j") == "running", "a socket need not name what it has"


async def test_a_worker_that_drains_is_gone_at_once_when_it_has_nothing(floor: Counter) -> None:
    session = await floor.polled()
    session.drain()
    await floor.published()
    assert [type(r.event) for r in floor.handler.log.read_stream("worker/w")][-1] is WorkerLost
    with pytest.raises(UnknownSession):
        session.rules()


async def test_a_quarantined_worker_claims_nothing_until_it_is_released(floor: Counter) -> None:
    session = await floor.polled()
    for number in range(3):
        await floor.ask(submission(f"j{number}"))
        lease = await leased(session, f"c{number}")
        failed = say.Failed(number=0, kind="out-of-memory", message="too large", **words(lease))
        await session.report(failed, "cause")
    await floor.ask(submission("j"))
    waiting = claim(session, "c")
    await floor.published()
    assert not waiting.done()
    await floor.ask(ask.ReleaseWorker(worker="w"))
    lease = await soon(waiting)
    assert lease is not None


async def test_an_offer_that_cannot_be_leased_leaves_its_claim_waiting(floor: Counter) -> None:
    session = await floor.polled()
    waiting = claim(session, "c")
    await asyncio.sleep(0)
    await asyncio.gather(floor.ask(submission("j1")), floor.ask(ask.CancelJob(job="j1")))
    await floor.published()
    assert not waiting.done()
    await floor.ask(submission("j2"))
    lease = await soon(waiting)
    assert lease is not None
    assert lease.job == "j2"


async def test_claims_do_not_wait_once_the_service_ends(floor: Counter) -> None:
    session = await floor.polled()
    waiting = claim(session, "c")
    await asyncio.sleep(0)
    floor.sessions.close()
    assert await soon(waiting) is None
    assert await soon(claim(session, "c2", 60)) is None


async def test_a_session_remembers_only_so_many_claims(floor: Counter) -> None:
    session = await floor.polled()
    await floor.ask(submission("j0"))
    first = await leased(session, "c0")
    for number in range(1, MOST_CLAIMS + 1):
        await floor.ask(submission(f"j{number}"))
        await leased(session, f"c{number}")
    await floor.ask(submission("another"))
    assert (await leased(session, "c0")).job == "another" != first.job


async def test_leases_name_who_has_them(floor: Counter) -> None:
    await floor.ask(submission("j"))
    await leased(await floor.polled("painter", "b7"))
    (lease,) = (event for event in floor.events("j") if isinstance(event, JobLeased))
    assert (lease.worker, lease.boot, lease.lease_s) == ("painter", "b7", 30)


class Shaky:
    """A worker whose requests and answers get lost at random, in a session that may be replaced at any time."""

    def __init__(self, floor: Counter, rng: random.Random, name: str) -> None:
        self._floor, self._rng, self._name = floor, rng, name
        self._session = ""
        self._boots, self._claims = itertools.count(1), itertools.count(1)
        self._boot = self._claim = "0"
        self._held: Lease | None = None

    async def act(self) -> None:
        """One request, whose answer is lost one time in four; or time passes, or the process starts anew."""
        is_lost = self._rng.random() < 0.25
        try:
            await self._ask(self._floor.sessions.find(self._session), is_lost)
        except (UnknownSession, FencedBoot):
            await self._hello(is_lost)
        except StaleAttempt:
            self._held = None if not is_lost else self._held

    async def _ask(self, session: PolledSession, is_lost: bool) -> None:
        chance = self._rng.random()
        if chance < 0.1:
            self._boot, self._held = f"{next(self._boots)}", None
            await self._hello(is_lost)
        elif self._held is None:
            lease = await session.claim(f"claim-{self._claim}", 0, nobody_leaves())
            if not is_lost:
                self._held, self._claim = lease, f"{next(self._claims)}"
        elif chance < 0.5:
            session.heartbeat([attempt(self._held)])
        else:
            await session.report(completed(self._held), "cause")
            self._held = None if not is_lost else self._held

    async def _hello(self, is_lost: bool) -> None:
        running = (attempt(self._held),) if self._held is not None else ()
        welcome = await self._floor.hello(self._name, self._boot, running)
        if is_lost:
            return
        self._session = welcome.session
        if self._held is not None:
            (verdict,) = welcome.verdicts
            kept = msgspec.structs.replace(self._held, token=verdict.token)
            self._held = kept if verdict.keep else None


@pytest.mark.parametrize("seed", range(30))
async def test_no_lost_answer_strands_or_doubles_a_job(floor: Counter, seed: int) -> None:
    rng = random.Random(seed)
    workers = [Shaky(floor, rng, name) for name in ("w1", "w2", "w3")]
    for number in range(8):
        await floor.ask(submission(f"j{number}"))
    for _ in range(2_000):
        if not floor.handler.state.jobs:
            break
        await rng.choice(workers).act()
        if rng.random() < 0.2:
            floor.later(rng.choice((1, 5, 20)))
        await floor.published()
    for number in range(8):
        ends = [event for event in floor.events(f"j{number}") if isinstance(event, JobCompleted | JobFailed)]
        assert len(ends) == 1, (number, ends)
