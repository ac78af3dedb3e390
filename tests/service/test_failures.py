"""Failure cases of the worker protocol: the real dispatcher and log, a clock the test turns, a worker that errs.

What is covered elsewhere is not repeated here; docs/queue.md has the table of all 22 cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events.jobs import JobCancelled, JobCompleted, JobFailed, JobLeased, JobRequeued
from events.workers import WorkerQuarantined
from service import commands as ask
from service import protocol as say
from service.refusals import IllegalTransition
from tests.history import submission
from tests.service.test_dispatch import Floor, Peer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    opened = Floor(tmp_path)
    await opened.ask(ask.CreateQueue(queue="default"))
    yield opened
    await opened.handler.close()


def words(start: say.Start) -> dict[str, Any]:
    return {"job": start.job, "attempt": start.attempt, "token": start.token}


def held(start: say.Start) -> say.RunningAttempt:
    return say.RunningAttempt(**words(start))


def kinds(floor: Floor, job: str, *wanted: type) -> list[type]:
    return [type(event) for event in floor.events(job) if isinstance(event, wanted)]


async def started(floor: Floor, job: str = "j", worker: str = "w", **params: Any) -> tuple[Peer, say.Start]:
    """A worker that computes a new job."""
    await floor.ask(submission(job, params=params))
    peer = await floor.worker(worker)
    return peer, await peer.starts()


def tick_with_beats(floor: Floor, seconds: float, *peers: Peer) -> None:
    """Let time pass while these workers are heard."""
    for _ in range(round(seconds / 5)):
        floor.now += 5
        for peer in peers:
            peer.say(say.Beat())
        floor.dispatcher.tick()


async def test_2_a_lease_that_its_worker_never_heard_of_goes_back_in_line(floor: Floor) -> None:
    await floor.ask(submission("j"))
    peer = await floor.worker()
    peer.say(say.Ready(slots=1))
    offer = await peer.hears(say.Offer)
    peer.say(say.Accept(offer=offer.offer))
    floor.dispatcher.ended(peer.session)  # before Start could be sent
    back = await floor.worker()
    assert (await back.hears(say.Welcome)).verdicts == ()
    start = await back.starts()
    back.completes(start)
    await back.hears(say.Acknowledge)
    assert kinds(floor, "j", JobCompleted) == [JobCompleted]


async def test_3_a_result_whose_acknowledgement_was_lost_is_delivered_once(floor: Floor) -> None:
    peer, start = await started(floor)
    peer.completes(start)
    await peer.hears(say.Acknowledge)  # and the socket dies before it arrives
    floor.dispatcher.ended(peer.session)
    back = await floor.worker(running=(held(start),))
    back.completes(start)
    assert (await back.hears(say.Acknowledge)).through == 1
    assert not [message for message in back.heard if isinstance(message, say.Stale)]
    assert kinds(floor, "j", JobCompleted) == [JobCompleted]


@pytest.mark.parametrize("is_old_first", [True, False])
async def test_7_of_an_old_result_and_a_new_lease_in_one_instant_only_the_lease_counts(
    floor: Floor, is_old_first: bool
) -> None:
    old, first = await started(floor, worker="w1")
    new = await floor.worker("w2")
    floor.now += 31
    new.say(say.Beat())
    floor.dispatcher.tick()
    await floor.becomes("j", "queued")
    new.say(say.Ready(slots=1))
    offer = await new.hears(say.Offer)
    acts = [lambda: old.completes(first), lambda: new.say(say.Accept(offer=offer.offer))]
    for act in acts if is_old_first else reversed(acts):
        act()
    start = await new.hears(say.Start)
    await old.hears(say.Stale)
    assert start.attempt == 2
    new.completes(start)
    await new.hears(say.Acknowledge)
    (done,) = [event for event in floor.events("j") if isinstance(event, JobCompleted)]
    assert done.attempt == 2


async def test_8_duplicates_and_words_out_of_order_have_one_effect(floor: Floor) -> None:
    peer, start = await started(floor)
    phase = say.Phase(number=1, phase="denoising", **words(start))
    done = say.Completed(number=2, artifacts=(), facts={}, **words(start))
    for message in (phase, phase, done, phase, done, done, phase):
        peer.say(message)
    last = say.Phase(number=9, phase="x", job="no such job", attempt=1, token=1)
    peer.say(last)
    while (await peer.hears(say.Acknowledge)).through != 9:
        pass
    assert [event.type for event in floor.events("j")] == [
        "job-submitted", "job-leased", "job-phase-entered", "job-completed",
    ]  # fmt: skip


async def test_9_a_cancel_behind_the_result_is_refused_and_the_result_stays(floor: Floor) -> None:
    peer, start = await started(floor)
    peer.completes(start)
    with pytest.raises(IllegalTransition):
        await floor.ask(ask.CancelJob(job="j"))
    assert isinstance(floor.events("j")[-1], JobCompleted)


async def test_11_a_child_that_makes_no_step_for_ten_steps_time_loses_its_job(floor: Floor) -> None:
    peer, start = await started(floor, steps=10, step_s=60.0)
    peer.say(say.Phase(number=1, phase="denoising", **words(start)))
    await peer.hears(say.Acknowledge)
    peer.say(say.Progress(phase="denoising", step=1, steps=10, **words(start)))
    tick_with_beats(floor, 590, peer)
    assert floor.status("j") == "running", "ten steps of 60 s are not over"
    tick_with_beats(floor, 20, peer)
    await floor.becomes("j", "scheduled")
    assert (await peer.hears(say.Stale)).attempt == 1
    requeued = floor.events("j")[-1]
    assert isinstance(requeued, JobRequeued)
    assert requeued.reason == "timeout"


async def test_12_out_of_memory_ends_the_job_and_three_jobs_in_a_row_the_worker(floor: Floor) -> None:
    peer = await floor.worker()
    for number, job in enumerate(("a", "b", "c"), start=1):
        await floor.ask(submission(job))
        start = await peer.starts()
        peer.say(say.Failed(number=number, kind="out-of-memory", message="no room", **words(start)))
        await peer.hears(say.Acknowledge)
        assert isinstance(floor.events(job)[-1], JobFailed), "the same again would only end the same way"
    (quarantine,) = [r.event for r in floor.handler.log.read_stream("worker/w")][1:]
    assert isinstance(quarantine, WorkerQuarantined)
    await floor.ask(submission("d"))
    peer.say(say.Ready(slots=1))
    floor.dispatcher.tick()
    assert not [message for message in peer.heard if isinstance(message, say.Offer)]


@pytest.mark.parametrize("down_s", [1, 600])
async def test_13_and_14_jobs_go_on_over_a_restart_of_the_service_however_long_it_takes(
    tmp_path: Path, down_s: float
) -> None:
    first = Floor(tmp_path)
    await first.ask(ask.CreateQueue(queue="default"))
    starts = [(await started(first, f"j{n}", f"w{n}"))[1] for n in range(3)]
    await first.handler.close()
    second = Floor(tmp_path)  # its monotonic clock begins anew
    second.wall_is_off_s = down_s
    second.dispatcher.tick()
    peers = [await second.worker(f"w{n}", running=(held(start),)) for n, start in enumerate(starts)]
    for peer, start in zip(peers, starts, strict=True):
        peer.completes(start)
        await peer.hears(say.Acknowledge)
        assert kinds(second, start.job, JobLeased, JobCompleted) == [JobLeased, JobCompleted]
    await second.handler.close()


@pytest.mark.parametrize("jump_s", [7200.0, -7200.0])
async def test_16_a_jump_of_the_wall_clock_ends_no_lease_and_hangs_none(floor: Floor, jump_s: float) -> None:
    floor.wall_is_off_s = 10_000
    peer, _ = await started(floor, steps=10, step_s=30.0)
    floor.wall_is_off_s += jump_s
    tick_with_beats(floor, 25, peer)
    assert floor.status("j") == "running"
    floor.now += 31
    floor.dispatcher.tick()
    await floor.becomes("j", "queued")
    instants = [record.at_us for record in floor.handler.log.read_stream("job/j")]
    assert instants == sorted(instants), "time never falls along the log"


async def test_17_a_model_that_loads_for_90_seconds_keeps_its_lease(floor: Floor) -> None:
    peer, start = await started(floor)
    peer.say(say.Phase(number=1, phase="loading_model", **words(start)))
    tick_with_beats(floor, 90, peer)
    assert floor.status("j") == "running"
    peer.completes(start)
    await peer.hears(say.Acknowledge)
    assert kinds(floor, "j", JobRequeued) == []


async def test_18_a_cancel_that_is_pending_when_its_worker_drains_is_still_carried_out(floor: Floor) -> None:
    peer, start = await started(floor)
    await floor.ask(ask.CancelJob(job="j"))
    peer.say(say.Drain())
    await peer.hears(say.Cancel)
    peer.say(say.Stopped(number=1, step=2, **words(start)))
    await peer.hears(say.Acknowledge)
    assert isinstance(floor.events("j")[-1], JobCancelled)
    floor.dispatcher.ended(peer.session)
    async with asyncio.timeout(10):
        while "w" in floor.handler.state.workers:  # noqa: ASYNC110 - the service's own state
            await asyncio.sleep(0)


async def test_19_a_job_that_loses_its_last_permitted_worker_ends_failed(floor: Floor) -> None:
    await floor.ask(submission("j"))
    for attempt in range(1, 6):
        peer = await floor.worker(boot=f"b{attempt}")
        assert (await peer.starts()).attempt == attempt
        floor.now += 31
        floor.dispatcher.tick()
        await (floor.becomes("j", "queued") if attempt < 5 else floor.published())
    ended = floor.events("j")[-1]
    assert isinstance(ended, JobFailed)
    assert ended.error.kind == "lost"
    assert floor.status("j") is None


async def test_21_a_token_of_another_job_opens_nothing(floor: Floor) -> None:
    thief, own = await started(floor, "own", "w1")
    _, other = await started(floor, "other", "w2")
    thief.say(say.Completed(number=1, job="own", attempt=1, token=other.token, artifacts=(), facts={}))
    assert (await thief.hears(say.Stale)).job == "own"
    thief.say(say.Completed(number=2, job="other", attempt=1, token=own.token, artifacts=(), facts={}))
    assert (await thief.hears(say.Stale)).job == "other"
    thief.say(say.Progress(job="other", attempt=1, token=own.token, phase="denoising", step=5, steps=9))
    await thief.hears(say.Stale)
    assert [floor.status(job) for job in ("own", "other")] == ["running", "running"]
    assert floor.dispatcher.progress == {}
