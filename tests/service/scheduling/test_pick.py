"""The scheduler as a table: who is next for whom."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.live import LiveState, LiveWorker
from service import commands as ask
from service.scheduling.eligible import can_run
from service.scheduling.pick import pick
from tests.history import PRETEND, History

WORKER = LiveWorker("w", "b1", PRETEND, 1)


def picked(state: LiveState, worker: LiveWorker, slots: int, offered: Collection[str]) -> list[str]:
    return [one.job for one in pick(state, worker, slots, offered)]


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
    assert not can_run(WORKER, history.state.jobs["picture"])


@given(priorities=st.lists(st.integers(0, 100), max_size=30), slots=st.integers(0, 40))
def test_it_is_the_stable_sort_by_priority(priorities: list[int], slots: int) -> None:
    history = History().with_queue()
    for number, priority in enumerate(priorities):
        history.submit(f"{number}", priority=priority)
    expected = [str(n) for n, _ in sorted(enumerate(priorities), key=lambda item: -item[1])]
    assert picked(history.state, WORKER, slots, ()) == expected[:slots]
