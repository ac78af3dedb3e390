"""Group commit: each decision once, in order, answered; who waits together together; the loop waits for no disk."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.envelope import Draft, Record
from events.log import Asked, LogClosed
from events.sqlite import SqliteLog
from service.group_commit import QUICK_S, GroupCommit
from tests.events.counting import Counting, asked, submitted

pytestmark = pytest.mark.anyio

ALWAYS_QUICK_S = 1000.0  # every commit is quicker than that: all that nobody else waits for is made in the loop
NEVER_QUICK_S = 0.0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog[Counting]]:
    opened = SqliteLog(tmp_path / "log.db", restore=lambda _: Counting(), clock=lambda: 1)
    yield opened
    opened.close()


class Commits:
    """A GroupCommit and what it told of its commits."""

    def __init__(self, log: SqliteLog[Counting], quick_s: float = QUICK_S) -> None:
        self.taken_in: list[list[int]] = []
        self.told: list[list[int]] = []
        self.by: list[str] = []  # the thread of each decision
        self.group_commit = GroupCommit(log, self._take_in, self._hand_on, quick_s=quick_s)

    def _take_in(self, records: Sequence[Record]) -> None:
        self.taken_in.append([record.position for record in records])

    def _hand_on(self, records: Sequence[Record]) -> None:
        self.told.append([record.position for record in records])

    async def submit(self, number: int, pause_s: float = 0.0) -> list[Record]:
        def decide(tx: object) -> list[Draft]:
            self.by.append(threading.current_thread().name)
            time.sleep(pause_s)
            return [submitted(number)]

        async with asyncio.timeout(20):
            return await self.group_commit.ask(asked(decide))


async def test_who_waits_together_shares_a_commit(log: SqliteLog[Counting]) -> None:
    commits = Commits(log)
    answers = await asyncio.gather(*(commits.submit(n) for n in range(500)))
    assert [answer[0].position for answer in answers] == list(range(1, 501))
    assert [len(group) for group in commits.taken_in] == [256, 244]
    await commits.group_commit.close()


@pytest.mark.parametrize("quick_s", [ALWAYS_QUICK_S, NEVER_QUICK_S])
async def test_a_caller_goes_on_between_state_and_listeners(log: SqliteLog[Counting], quick_s: float) -> None:
    commits = Commits(log, quick_s)
    await commits.submit(1)
    assert (commits.taken_in, commits.told) == ([[1]], [])
    await asyncio.sleep(0)
    assert commits.told == [[1]]
    await commits.group_commit.close()


async def test_what_gathers_during_a_commit_shares_the_next(log: SqliteLog[Counting]) -> None:
    commits = Commits(log, NEVER_QUICK_S)
    first = asyncio.create_task(commits.submit(0, pause_s=0.2))
    while not commits.by:  # noqa: ASYNC110 - the thread tells nobody that it has begun
        await asyncio.sleep(0)
    later = []
    for number in range(1, 9):
        later.append(asyncio.create_task(commits.submit(number)))
        await asyncio.sleep(0.001)  # turns of the loop of their own
    await asyncio.gather(first, *later)
    assert [len(group) for group in commits.taken_in] == [1, 8]
    await commits.group_commit.close()


@pytest.mark.parametrize(("quick_s", "where"), [(ALWAYS_QUICK_S, "MainThread"), (NEVER_QUICK_S, "safelight-log")])
async def test_a_lone_quick_commit_is_made_in_the_loop_and_any_other_in_the_thread(
    log: SqliteLog[Counting], quick_s: float, where: str
) -> None:
    commits = Commits(log, quick_s)
    for number in range(20):
        await commits.submit(number)
    assert commits.by == ["safelight-log"] + [where] * 19  # how quick commits are is not known before the first
    await asyncio.gather(commits.submit(20), commits.submit(21))
    assert commits.by[-2:] == ["safelight-log"] * 2
    await commits.group_commit.close()


async def test_a_decision_of_many_records_is_never_made_in_the_loop(log: SqliteLog[Counting]) -> None:
    commits = Commits(log, ALWAYS_QUICK_S)
    await commits.submit(0)
    seen: list[str] = []

    def decide(tx: object) -> list[Draft]:
        seen.append(threading.current_thread().name)
        return [submitted(number) for number in range(100)]

    request = asked(decide).request
    await commits.group_commit.ask(Asked(decide, request, many=100))
    await commits.group_commit.ask(Asked(decide, request))
    assert seen == ["safelight-log", "MainThread"]
    await commits.group_commit.close()


async def test_slow_commits_leave_the_loop_and_quick_ones_come_back(log: SqliteLog[Counting]) -> None:
    commits = Commits(log, quick_s=0.05)
    for number in range(20):
        await commits.submit(number)
    assert commits.by[-1] == "MainThread"
    await commits.submit(20, pause_s=0.5)
    await commits.submit(21)
    assert commits.by[-1] == "MainThread", "one stall is no slow disk"
    for number in range(22, 32):
        await commits.submit(number, pause_s=0.1)
    assert commits.by[-5:] == ["safelight-log"] * 5
    for number in range(32, 60):
        await commits.submit(number)
    assert commits.by[-1] == "MainThread"
    await commits.group_commit.close()


@pytest.mark.parametrize("quick_s", [ALWAYS_QUICK_S, NEVER_QUICK_S])
async def test_no_commit_runs_during_an_errand_and_who_asks_meanwhile_is_answered_behind_it(
    log: SqliteLog[Counting], quick_s: float
) -> None:
    commits = Commits(log, quick_s)
    await commits.submit(0)
    began, may_end = threading.Event(), threading.Event()
    order: list[str] = []

    def errand() -> int:
        began.set()
        may_end.wait(20)
        order.append("errand")
        return log.state.position

    commits.group_commit.between(errand, lambda head: order.append(f"back at {head}"))
    await asyncio.to_thread(began.wait, 20)
    waiting = asyncio.create_task(commits.submit(1))
    await asyncio.sleep(0.05)  # time to do wrong in
    assert not waiting.done()
    assert len(commits.by) == 1
    may_end.set()
    await waiting
    assert order == ["errand", "back at 1"]
    await commits.group_commit.close()


async def test_what_was_asked_before_the_end_is_finished_and_nothing_after_it(log: SqliteLog[Counting]) -> None:
    commits = Commits(log)
    waiting = [asyncio.ensure_future(commits.group_commit.ask(asked(submitted(n)))) for n in range(1000)]
    await commits.group_commit.close()
    assert [future.result()[0].position for future in waiting] == list(range(1, 1001))
    with pytest.raises(LogClosed):
        await commits.submit(1000)


async def test_who_left_disturbs_nobody(log: SqliteLog[Counting]) -> None:
    commits = Commits(log)
    answers = [commits.group_commit.ask(asked(submitted(n))) for n in range(3)]
    answers[1].cancel()
    assert [(await answers[n])[0].position for n in (0, 2)] == [1, 3]
    await commits.group_commit.close()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    plan=st.lists(st.sampled_from(["ask", "refuse", "nothing", "turn", "wait", "errand"]), max_size=40),
    quick_s=st.sampled_from([ALWAYS_QUICK_S, NEVER_QUICK_S, QUICK_S]),
)
async def test_every_decision_runs_once_in_order_and_is_taken_in_before_it_is_answered(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str], quick_s: float
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.db"
    log = SqliteLog(path, restore=lambda _: Counting(), clock=lambda: 1)
    commits = Commits(log, quick_s)
    ran: list[int] = []
    came_back: list[int] = []

    def decision(number: int, what: str):  # type: ignore[no-untyped-def]
        def decide(tx: object) -> list[Draft]:
            ran.append(number)
            if what == "refuse":
                raise ValueError(number)
            return [submitted(number)] if what == "ask" else []

        return decide

    async def answered(number: int, what: str) -> list[Record]:
        records = await commits.group_commit.ask(asked(decision(number, what)))
        assert {record.position for record in records} <= {p for group in commits.taken_in for p in group}
        return records

    waiting: list[asyncio.Task[list[Record]]] = []
    for number, what in enumerate(plan):
        if what == "turn":
            await asyncio.sleep(0)
        elif what == "wait":
            await asyncio.gather(*waiting, return_exceptions=True)
        elif what == "errand":
            commits.group_commit.between(lambda: log.state.position, came_back.append)
        else:
            waiting.append(asyncio.create_task(answered(number, what)))
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await commits.group_commit.close()
    log.close()
    kinds = [(number, what) for number, what in enumerate(plan) if what in ("ask", "refuse", "nothing")]
    assert ran == [number for number, _ in kinds]
    for (number, what), outcome in zip(kinds, outcomes, strict=True):
        if what == "refuse":
            assert isinstance(outcome, ValueError)
        else:
            assert not isinstance(outcome, BaseException)
            assert [record.stream for record in outcome] == ([f"job/{number}"] if what == "ask" else [])
    told = [position for group in commits.told for position in group]
    assert told == list(range(1, sum(what == "ask" for _, what in kinds) + 1))
    assert len(came_back) == plan.count("errand")
    assert all(earlier <= later for earlier, later in pairwise(came_back))
