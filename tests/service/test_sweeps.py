"""What time alone causes: the real handler and log, a clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.queues import Rules
from projections.job_queries import find_job
from service import commands as ask
from service.sweeps import RETENTION_S, SWEEP, Sweeps, newest_before
from tests.history import History, submission
from tests.service.test_dispatch import Floor

pytestmark = pytest.mark.anyio


class Room(Floor):
    """A floor whose time is swept."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.now = 1000.0
        self.sweeps = Sweeps(self.handler, clock=lambda: int(self.now * 1e6))

    async def after(self, seconds: float) -> None:
        """Let time pass, and do what it has brought."""
        self.now += seconds
        self.sweeps.tick()
        await self.sweeps.close()

    async def submit(self, job: str, **in_s: Any) -> None:
        times = {f"{name}_us": int((self.now + s) * 1e6) for name, s in in_s.items()}
        await self.ask(submission(job, **times))

    async def done(self, *jobs: str) -> None:
        """Submit jobs that end at once."""
        for job in jobs:
            await self.submit(job)
            await self.ask(ask.CancelJob(job=job))

    async def shown(self, *jobs: str) -> list[str]:
        """Which of the jobs the views show."""
        await self.handler.shown()
        reader = self.handler.views.reader()
        return [job for job in jobs if find_job(reader, job) is not None]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    opened = Room(tmp_path)
    await opened.ask(ask.CreateQueue(queue="default"))
    yield opened
    await opened.handler.close()


async def test_a_scheduled_job_comes_into_line_when_it_is_due_and_not_before(room: Room) -> None:
    await room.submit("j", not_before=10)
    await room.after(9.9)
    assert room.status("j") == "scheduled"
    await room.after(0.2)
    assert room.status("j") == "queued"


async def test_more_due_jobs_than_one_commit_takes_all_come_into_line(room: Room) -> None:
    jobs = [f"j{number}" for number in range(SWEEP + 5)]
    await asyncio.gather(*(room.submit(job, not_before=10) for job in jobs))
    await room.after(10)
    assert {room.status(job) for job in jobs} == {"queued"}


@pytest.mark.parametrize(("deadline", "is_started", "ends"), [
    ("start_deadline", False, "expired"), ("start_deadline", True, None),
    ("finish_deadline", False, "expired"), ("finish_deadline", True, "expired"),
])  # fmt: skip
async def test_a_deadline_ends_what_has_not_come_so_far(
    room: Room, deadline: str, is_started: bool, ends: str | None
) -> None:
    await room.submit("j", **{deadline: 10})
    if is_started:
        await (await room.worker()).starts()
    await room.after(11)
    last = room.events("j")[-1]
    assert (last.type == "job-expired") is (ends == "expired")
    assert room.status("j") == (None if ends else "running")


async def test_jobs_leave_the_views_when_they_are_too_old_and_the_log_keeps_them(room: Room) -> None:
    await room.ask(ask.ConfigureQueue(queue="default", rules=Rules(keep_s=3600)))
    await room.done("old")
    await room.after(3000)
    await room.done("new")
    await room.submit("waiting since then")
    await room.after(601)
    assert await room.shown("old", "new", "waiting since then") == ["new", "waiting since then"]
    assert [event.type for event in room.events("old")] == ["job-submitted", "job-cancelled"]


async def test_only_so_many_finished_jobs_stay_in_the_views(room: Room) -> None:
    await room.ask(ask.ConfigureQueue(queue="default", rules=Rules(keep_jobs=2)))
    await room.ask(ask.CreateQueue(queue="other"))
    await room.ask(submission("elsewhere", queue="other"))
    await room.ask(ask.CancelJob(job="elsewhere"))
    await room.done("a", "b", "c", "d")
    await room.after(RETENTION_S)
    assert await room.shown("a", "b", "c", "d", "elsewhere") == ["c", "d", "elsewhere"]


async def test_a_queue_without_bounds_forgets_nothing(room: Room) -> None:
    await room.done("a")
    await room.after(1e7)
    assert await room.shown("a") == ["a"]


async def test_what_leaves_is_looked_for_once_a_minute_and_nothing_is_written_in_vain(room: Room) -> None:
    await room.ask(ask.ConfigureQueue(queue="default", rules=Rules(keep_jobs=0, keep_s=0)))
    head = room.handler.log.head()
    await room.after(RETENTION_S)
    assert room.handler.log.head() == head
    await room.done("a")
    head = room.handler.log.head()
    await room.after(RETENTION_S - 1)
    assert room.handler.log.head() == head
    await room.after(2)
    assert room.handler.log.head() == head + 1
    await room.after(RETENTION_S)
    assert room.handler.log.head() == head + 1


@given(at_s=st.lists(st.integers(1, 50), max_size=40), asked_s=st.integers(0, 60))
def test_the_newest_record_before_an_instant_is_found(at_s: list[int], asked_s: int) -> None:
    history = History()
    for number, s in enumerate(sorted(at_s)):
        history.at_us = s * 1_000_000 - 1_000_000  # and one with the command
        history.ask(ask.CreateQueue(queue=f"q{number}"))
    expected = sum(s <= asked_s for s in at_s)
    assert newest_before(history, asked_s * 1_000_000) == expected  # type: ignore[arg-type]
