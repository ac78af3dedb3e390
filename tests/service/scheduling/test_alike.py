"""What could share a pipeline call: alike in all but prompt and seed, and nobody is wronged by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.keys import Limits
from events.queues import Rules
from service import commands as ask
from service.scheduling.alike import alike
from tests.history import History


@pytest.fixture
def history() -> History:
    return History().with_queue().with_queue("other")


def picture(
    history: History, job: str, steps: int = 20, seed: int = 1, prompt: str = "a fox", **fields: object
) -> None:
    params = {"prompt": prompt, "steps": steps, "seed": seed}
    history.submit(job, task="text-to-image", params=params, **fields)


def found(history: History, first: str = "first", most: int = 8, offered: tuple[str, ...] = ()) -> list[str]:
    return alike(history.state, history.state.jobs[first], most, offered)


def test_prompts_and_seeds_may_differ_and_nothing_else(history: History) -> None:
    picture(history, "first")
    picture(history, "same", seed=2, prompt="a hare")
    picture(history, "longer", steps=30)
    picture(history, "urgent", priority=60)
    picture(history, "night", is_background=True)
    picture(history, "elsewhere", queue="other")
    picture(history, "held", is_held=True)
    history.submit("pretend")
    assert found(history) == ["same"]


def test_no_more_than_asked_and_none_that_is_offered(history: History) -> None:
    for name in ("first", "a", "b", "c", "d"):
        picture(history, name)
    assert found(history, most=2) == ["a", "b"]
    assert found(history, offered=("a", "c")) == ["b", "d"]
    assert found(history, first="c") == ["first", "a", "b", "d"]


def test_in_a_fair_queue_a_call_is_of_one_submitter(history: History) -> None:
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy="fair")))
    for name, submitter in (("first", "ann"), ("b", "bob"), ("a", "ann")):
        picture(history, name, submitter=submitter)
    assert found(history) == ["a"]


def test_a_cap_on_running_jobs_holds_within_a_call(history: History) -> None:
    history.ask(ask.CreateKey(key="k", name="k", scopes=("submitter",), secret_digest="d"))
    history.ask(ask.LimitKey(key="k", limits=Limits(max_running=2)))
    for name in ("first", "a", "b"):
        picture(history, name, submitter="key/k")
    picture(history, "c", submitter="ann")
    assert found(history) == ["a", "c"]


@given(
    kinds=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([40, 50])), max_size=25), most=st.integers(0, 30)
)
def test_it_is_the_line_filtered(kinds: list[tuple[int, int]], most: int) -> None:
    history = History().with_queue()
    picture(history, "first", steps=1)
    for number, (steps, priority) in enumerate(kinds):
        picture(history, f"{number}", steps=steps, priority=priority)
    expected = [str(number) for number, kind in enumerate(kinds) if kind == (1, 50)]
    assert found(history, most=most) == expected[:most]
