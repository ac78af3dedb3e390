"""Estimates that are kept and told: the real handler and dispatcher, a clock the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.jobs import JobLeased
from service import commands as ask
from service import protocol as say
from service.planner import LEAST_S, STALE_S, Planner
from service.scheduling.eta import Eta
from tests.history import submission
from tests.service.test_dispatch import Floor, Peer

pytestmark = pytest.mark.anyio
TEN_S = {"steps": 10, "step_s": 1.0}


class Plans(Floor):
    """A floor with a planner, and what it told."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, first_eta_s=lambda job: self.planner.first_s(job))
        self.told: list[tuple[str, Eta]] = []
        self.planner = Planner(
            self.handler,
            monotonic=lambda: self.now,
            clock=lambda: int(self.now * 1e6),
            progress=self.dispatcher.progress,
            connected=lambda: self.dispatcher.connected,
            tell=lambda job, queue, eta, at_us: self.told.append((job, eta)),
        )

    async def submit(self, job: str, priority: int = 50) -> None:
        await self.ask(submission(job, params=TEN_S, priority=priority))

    async def after(self, seconds: float) -> None:
        """Let time pass, and make a forecast if it is time for one."""
        await self.published()
        self.now += seconds
        self.planner.tick()

    def done_s(self, job: str) -> float | None:
        told = self.planner.eta(self.handler.state.jobs[job])
        assert told is not None
        return told[0].done_s


@pytest.fixture
async def plans(tmp_path: Path) -> AsyncIterator[Plans]:
    opened = Plans(tmp_path)
    await opened.ask(ask.CreateQueue(queue="default"))
    yield opened
    await opened.handler.close()


async def busy(plans: Plans) -> tuple[Peer, say.Start]:
    """A worker that computes a job of ten seconds."""
    await plans.submit("now")
    peer = await plans.worker()
    return peer, await peer.starts()


async def test_the_first_estimate_of_a_job_is_kept_and_recorded_with_its_lease(plans: Plans) -> None:
    peer, start = await busy(plans)
    await plans.submit("next")
    await plans.after(5.0)
    first_s = plans.planner.first_s("next")
    assert first_s == pytest.approx(20.0, abs=1.0), "from its submission on, though it is told later"
    await plans.submit("before it", priority=90)
    await plans.after(1.0)
    assert plans.done_s("next") == pytest.approx(24.0, abs=1.0)
    assert plans.planner.first_s("next") == first_s
    peer.completes(start)
    peer.completes(await peer.starts())
    await peer.starts()
    (lease,) = [event for event in plans.events("next") if isinstance(event, JobLeased)]
    assert lease.eta_s == first_s


async def test_only_an_estimate_that_moved_is_told(plans: Plans) -> None:
    await busy(plans)
    await plans.after(LEAST_S)
    assert [job for job, _ in plans.told] == ["now"]
    await plans.after(STALE_S)
    assert len(plans.told) == 1, "five seconds later five less: that is no news"
    await plans.after(STALE_S + 1)
    assert len(plans.told) == 2, "it is late: what is left has not become less"


@pytest.mark.parametrize("why", ["paused", "no-worker"])
async def test_what_cannot_start_has_no_estimate_but_a_reason(plans: Plans, why: str) -> None:
    if why == "paused":
        await plans.worker()
        await plans.ask(ask.PauseQueue(queue="default"))
    await plans.submit("j")
    await plans.after(LEAST_S)
    told = plans.planner.eta(plans.handler.state.jobs["j"])
    assert told is not None
    assert (told[0].done_s, told[0].why.blocked) == (None, why)
    assert plans.planner.first_s("j") is None


async def test_a_job_that_no_forecast_has_seen_has_no_estimate_yet(plans: Plans) -> None:
    await plans.worker()
    await plans.after(LEAST_S)
    await plans.submit("j")
    assert plans.planner.eta(plans.handler.state.jobs["j"]) is None
    await plans.after(LEAST_S)
    assert plans.done_s("j") == pytest.approx(10.0, abs=0.5)


async def test_what_a_person_changed_is_not_held_against_the_estimate(plans: Plans) -> None:
    await busy(plans)
    for job in ("moved", "held", "edited", "let be"):
        await plans.submit(job)
    await plans.after(1.0)
    await plans.ask(ask.MoveJob(job="moved", where="bottom"))
    await plans.ask(ask.HoldJob(job="held"))
    await plans.ask(ask.EditJob(job="edited", seed=1, tags=("x",)))
    await plans.published()
    assert [plans.planner.first_s(job) is None for job in ("moved", "held", "edited", "let be")] == [
        True, True, True, False,
    ]  # fmt: skip


async def test_loading_a_model_says_nothing_about_the_pace_of_steps(plans: Plans) -> None:
    peer, start = await busy(plans)
    about = {"job": "now", "attempt": 1, "token": start.token}
    peer.say(say.Phase(number=1, phase="loading_model", **about))
    plans.now += 40
    peer.say(say.Phase(number=2, phase="denoising", **about))
    await peer.hears(say.Acknowledge)
    plans.now += 2
    peer.say(say.Progress(phase="denoising", step=2, steps=10, **about))
    await plans.after(0.0)
    assert plans.done_s("now") == pytest.approx(8.0, abs=0.1)


async def test_a_job_that_comes_back_in_line_is_told_anew(plans: Plans) -> None:
    await busy(plans)
    await plans.submit("j")
    told: dict[str, list[str]] = {}
    for command in (None, ask.HoldJob(job="j"), ask.ReleaseJob(job="j")):
        if command is not None:
            await plans.ask(command)
        plans.told.clear()
        await plans.after(LEAST_S)
        told[type(command).__name__] = [job for job, _ in plans.told if job == "j"]
    assert told == {"NoneType": ["j"], "HoldJob": [], "ReleaseJob": ["j"]}
