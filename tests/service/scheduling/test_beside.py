"""What a busy worker takes beside what it computes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from events.queues import Rules
from service import commands as ask
from service.protocol import Seat
from service.scheduling.beside import pick_beside
from service.tasks.catalog import EMBEDDED
from tests.history import History, register

BOTH: tuple[Seat, ...] = ("beside", "before")


@pytest.fixture
def history() -> History:
    """A worker that computes the job `runs`, a demo picture of priority 50."""
    history = History()
    history.ask(ask.CreateQueue(queue="default"))
    models = {"text-to-image": ("demo",), "pretend": ("pretend",)}
    history.ask(register("w", models=models))
    submit(history, "runs")
    history.lease("runs")
    return history


def submit(history: History, job: str, *, model: str = "demo", priority: int = 50, **words: object) -> None:
    params = {"prompt": "a", "steps": 9} if model == "demo" else {}
    history.submit(job, task=None, model=model, params=params, priority=priority, **words)


def taken(
    history: History, seats: Collection[Seat] = BOTH, given: Sequence[str] = (), offered: Collection[str] = ()
) -> tuple[str, str] | None:
    worker = history.state.workers["w"]
    found = pick_beside(history.state, worker, seats, given, {*offered, *given}, EMBEDDED)
    return None if found is None else (found.picked.job, found.seat)


def test_a_job_alike_enters_beside_whatever_its_steps_seed_and_words(history: History) -> None:
    history.submit("next", model="demo", task=None, params={"prompt": "b", "steps": 50, "seed": 1, "guidance": 1.0})
    assert taken(history) == ("next", "beside")
    assert taken(history, seats=["before"]) is None


def test_nobody_is_passed_over(history: History) -> None:
    submit(history, "other", model="pretend")
    submit(history, "alike")
    assert taken(history) is None


def test_a_higher_priority_of_the_loaded_model_comes_before_a_task_that_shares_no_calls() -> None:
    history = History()
    history.ask(ask.CreateQueue(queue="default"))
    history.ask(register("w", models={"pretend": ("pretend",)}))
    submit(history, "runs", model="pretend")
    history.lease("runs")
    submit(history, "same", model="pretend")
    assert taken(history) is None
    submit(history, "urgent", model="pretend", priority=51)
    assert taken(history) == ("urgent", "before")
    assert taken(history, given=["urgent"]) is None
    submit(history, "more", model="pretend", priority=60)
    assert taken(history, given=["urgent"]) == ("more", "before")


def test_a_model_that_would_have_to_be_loaded_does_not_come_before(history: History) -> None:
    submit(history, "urgent", model="pretend", priority=99)
    assert taken(history) is None


def test_whatever_comes_is_before_a_background_job() -> None:
    history = History()
    history.ask(ask.CreateQueue(queue="default"))
    history.ask(register("w"))
    submit(history, "runs", model="pretend", is_background=True)
    history.lease("runs")
    submit(history, "usual", model="pretend", priority=0)
    assert taken(history) == ("usual", "before")


def test_what_is_offered_already_is_not_offered_again_and_counts_as_given(history: History) -> None:
    submit(history, "next")
    assert taken(history, offered=["next"]) is None
    submit(history, "third")
    assert taken(history, given=["next"]) == ("third", "beside")


def test_an_idle_or_quarantined_worker_has_nobody_beside() -> None:
    history = History()
    history.ask(ask.CreateQueue(queue="default"))
    history.ask(register("w", models={"text-to-image": ("demo",)}))
    submit(history, "first")
    assert taken(history) is None


def test_queues_hold_beside_as_well(history: History) -> None:
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy="fair")))
    submit(history, "next")
    assert taken(history) == ("next", "beside")
    history.ask(ask.PauseQueue(queue="default"))
    assert taken(history) is None
