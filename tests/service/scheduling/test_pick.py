"""The scheduler as a table: who is next for whom."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.jobs import JobError
from events.keys import Limits
from events.queues import Policy, Rules
from projections.costs import Spent
from projections.live import LiveState, LiveWorker
from service import commands as ask
from service.scheduling.eligible import can_run, why_nobody
from service.scheduling.pick import LOOK_AHEAD, MAX_PASSED, NEAR, Pick, in_turn, pick
from service.tasks.catalog import EMBEDDED
from tests.history import PRETEND, History, register

WORKER = LiveWorker("w", "b1", PRETEND, 1)
BOTH = {**PRETEND, "text-to-image": ("demo",)}
DRAWING = LiveWorker("w", "b1", BOTH, 1, warm="demo")  # has both models, and this one loaded
PICTURE: dict[str, Any] = {"task": None, "params": {"prompt": "x"}}


def picked(state: LiveState, worker: LiveWorker, slots: int, offered: Collection[str]) -> list[str]:
    return [one.job for one in pick(state, worker, slots, offered, EMBEDDED)]


@pytest.fixture
def history() -> History:
    return History().with_queue().with_queue("other")


def test_priority_comes_first_then_who_came_first(history: History) -> None:
    for job, priority in (("a", 50), ("b", 90), ("c", 50), ("d", 90)):
        history.submit(job, priority=priority)
    assert picked(history.state, WORKER, 10, ()) == ["b", "d", "a", "c"]
    assert picked(history.state, WORKER, 2, ()) == ["b", "d"]


def test_queues_share_one_order_and_a_paused_one_stands_aside(history: History) -> None:
    history.submit("a", queue="other")
    history.submit("b")
    history.submit("c", queue="other", priority=60)
    assert picked(history.state, WORKER, 10, ()) == ["c", "a", "b"]
    history.ask(ask.PauseQueue(queue="other"))
    assert picked(history.state, WORKER, 10, ()) == ["b"]


def test_what_is_offered_or_cannot_run_here_never_holds_up_the_line(history: History) -> None:
    history.submit("picture", task=None, params={"prompt": "x"}, priority=100)
    history.submit("a")
    history.submit("b")
    assert picked(history.state, WORKER, 1, {"a"}) == ["b"]
    assert not can_run(WORKER, history.state.jobs["picture"], EMBEDDED)


def limited(history: History, key: str, limits: Limits) -> str:
    """The submitter of a new key with limits."""
    history.ask(ask.CreateKey(key=key, name=key, scopes=("submitter",), secret_digest="d"))
    history.ask(ask.LimitKey(key=key, limits=limits))
    return f"key/{key}"


def test_a_loaded_model_goes_before_within_reach_and_says_whom_it_passed(history: History) -> None:
    history.submit("cold")
    for number in range(LOOK_AHEAD - 1):
        history.submit(f"c{number}")
    history.submit("warm", **PICTURE)
    assert pick(history.state, DRAWING, 1, (), EMBEDDED) == [Pick("warm", passed="cold")]
    history.submit("last of all", **PICTURE)
    assert picked(history.state, DRAWING, 2, ()) == ["warm", "cold"], "the other warm one is one too far"


def test_a_loaded_model_is_no_reason_to_pass_a_higher_priority(history: History) -> None:
    history.submit("cold", priority=60)
    history.submit("warm", **PICTURE, priority=59)
    assert picked(history.state, DRAWING, 1, ()) == ["cold"]


@pytest.mark.parametrize(
    ("run_s", "load_s", "first"), [(9.0, 10.0, "warm"), (11.0, 10.0, "cold"), (1.0, 0.0, "cold")]
)
def test_a_loaded_model_goes_before_only_where_the_load_it_saves_is_worth_the_wait(
    history: History, run_s: float, load_s: float, first: str
) -> None:
    history.submit("cold")
    history.submit("warm", **PICTURE)
    for _ in range(30):
        history.state.costs.learn(
            "demo", DRAWING.device, history.state.jobs["warm"].work, Spent(run_s, load_s, 0.0)
        )
    assert picked(history.state, DRAWING, 1, ()) == [first]


def test_nobody_is_passed_over_more_often_than_it_can_bear(history: History) -> None:
    history.ask(register("w", "b1", models=BOTH))
    history.submit("warmed up", **PICTURE)
    history.lease("warmed up")
    history.submit("cold")
    for number in range(9):
        history.submit(f"warm {number}", **PICTURE)
    order = []
    for _ in range(MAX_PASSED + 1):
        (one,) = pick(history.state, history.state.workers["w"], 1, (), EMBEDDED)
        history.ask(ask.LeaseJob(job=one.job, worker="w", boot="b1", lease_s=30.0, passed=one.passed))
        order.append(one.job)
    assert order == [*(f"warm {number}" for number in range(MAX_PASSED)), "cold"]


def test_a_loaded_model_costs_no_other_submitter_its_turn_in_a_fair_queue(history: History) -> None:
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy="fair")))
    history.submit("cold", submitter="ann")
    history.submit("bob's", submitter="bob", **PICTURE)
    assert picked(history.state, DRAWING, 1, ()) == ["cold"]
    history.submit("ann's", submitter="ann", **PICTURE)
    assert pick(history.state, DRAWING, 1, (), EMBEDDED) == [Pick("ann's", passed="cold")]


def test_free_workers_choose_in_the_order_that_loads_least(history: History) -> None:
    cold, warm = LiveWorker("cold", "b1", BOTH, 1, warm="pretend"), msgspec.structs.replace(DRAWING, name="warm")
    assert [worker.name for worker in in_turn(history.state, [cold, warm], (), EMBEDDED)] == ["cold", "warm"]
    history.submit("a", **PICTURE)
    assert [worker.name for worker in in_turn(history.state, [cold, warm], (), EMBEDDED)] == ["warm", "cold"]
    assert [worker.name for worker in in_turn(history.state, [cold, warm], {"a"}, EMBEDDED)] == ["cold", "warm"]


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (2.0, 2 / 3), (4.0, 0.8)])
def test_a_fair_queue_gives_gpu_time_by_weight(history: History, weight: float, share: float) -> None:
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy="fair")))
    history.ask(register("w", "b1"))
    heavy = limited(history, "heavy", Limits(weight=weight))
    for number in range(120):
        history.submit(f"h{number}", submitter=heavy, params={"steps": 30, "step_s": 1.0})
        history.submit(f"l{number}", submitter="light", params={"steps": 10, "step_s": 1.0})
    used_s: Counter[str] = Counter()
    for _ in range(100):
        (one,) = pick(history.state, history.state.workers["w"], 1, (), EMBEDDED)
        job = history.state.jobs[one.job]
        held = history.lease(job.id)
        took_s = job.params["steps"]
        history.at_us += (took_s - 1) * 1_000_000  # and one with the report
        history.ask(ask.CompleteJob(artifacts=(), facts={}, **held.words()))
        used_s[job.submitter] += took_s
    assert used_s[heavy] / used_s.total() == pytest.approx(share, abs=0.03)


def test_who_has_all_running_that_it_may_is_skipped_and_holds_up_nobody(history: History) -> None:
    history.ask(register("w", "b1"))
    one = limited(history, "one", Limits(max_running=1))
    for job, submitter in (("a", one), ("b", one), ("c", "ann")):
        history.submit(job, submitter=submitter)
    assert picked(history.state, WORKER, 3, ()) == ["a", "c"], "the first of three is taken, and counts"
    assert picked(history.state, WORKER, 3, {"a"}) == ["c"], "what is offered counts"
    history.lease("a")
    assert picked(history.state, WORKER, 3, ()) == ["c"], "what runs counts"


def test_background_jobs_come_last_whatever_their_priority(history: History) -> None:
    history.submit("idle", is_background=True, priority=100)
    history.submit("other", queue="other", priority=0)
    history.submit("low", priority=1)
    assert picked(history.state, WORKER, 3, ()) == ["low", "other", "idle"]


def test_a_worker_in_quarantine_gets_nothing(history: History) -> None:
    history.ask(register("w", "b1"))
    for job in "abcd":
        history.submit(job)
    for job in "abc":
        held = history.lease(job)
        history.ask(ask.FailAttempt(error=JobError(kind="out-of-memory", message="m"), **held.words()))
    assert picked(history.state, history.state.workers["w"], 1, ()) == []
    assert picked(history.state, msgspec.structs.replace(WORKER, name="v"), 1, ()) == ["d"]
    history.ask(ask.ReleaseWorker(worker="w"))
    assert picked(history.state, history.state.workers["w"], 1, ()) == ["d"]


@pytest.mark.parametrize(("has_bytes", "is_able"), [(0, True), (8 << 30, True), ((8 << 30) - 1, False)])
def test_a_model_needs_the_memory_that_the_catalogue_says(history: History, has_bytes: int, is_able: bool) -> None:
    catalog = EMBEDDED.extended([msgspec.structs.replace(EMBEDDED["pretend"], memory_bytes=8 << 30)])
    worker = msgspec.structs.replace(WORKER, memory_bytes=has_bytes)
    history.state.workers["w"] = worker
    history.submit("a")
    assert [one.job for one in pick(history.state, worker, 1, (), catalog)] == (["a"] if is_able else [])
    assert ("8.0 GiB" in (why_nobody(history.state, history.state.jobs["a"], catalog) or "")) is not is_able


def test_a_job_far_down_the_line_is_found_when_nothing_before_it_can_run_here(history: History) -> None:
    for number in range(2 * NEAR):
        history.submit(f"c{number}", **PICTURE)
    history.submit("a")
    assert picked(history.state, WORKER, 1, ()) == ["a"]


@pytest.mark.parametrize("policy", ["fifo", "fair"])
def test_a_pick_of_10_000_waiting_jobs_takes_below_a_millisecond(policy: Policy) -> None:
    history = History().with_queue()
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy=policy)))
    for number in range(10_000):
        task = PICTURE if number % 3 else {}
        history.submit(f"{number}", submitter=f"u{number % 100}", **task)
    took_s = []
    for _ in range(20):
        began_at = time.perf_counter()
        assert len(pick(history.state, DRAWING, 1, (), EMBEDDED)) == 1
        took_s.append(time.perf_counter() - began_at)
    assert min(took_s) < 0.001


@given(priorities=st.lists(st.integers(0, 100), max_size=30), slots=st.integers(0, 40))
def test_it_is_the_stable_sort_by_priority(priorities: list[int], slots: int) -> None:
    history = History().with_queue()
    for number, priority in enumerate(priorities):
        history.submit(f"{number}", priority=priority)
    expected = [str(n) for n, _ in sorted(enumerate(priorities), key=lambda item: -item[1])]
    assert picked(history.state, WORKER, slots, ()) == expected[:slots]
