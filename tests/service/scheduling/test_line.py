"""The copy of the line that a forecast uses up: it hands out what the scheduler would, and the original stays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.keys import Limits
from events.queues import Rules
from projections.live import LiveState
from service import commands as ask
from service.scheduling import eta
from service.scheduling.eta import forward
from service.scheduling.line import PickLine
from service.scheduling.pick import in_turn, pick
from service.tasks.catalog import EMBEDDED
from tests.history import PRETEND, History, register

BOTH = {**PRETEND, "text-to-image": ("demo",)}
KEYS = ("k1", "k2")
SUBMITTERS = ("ann", "bob", *(f"key/{key}" for key in KEYS))

jobs = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(["default", "other"]),
        "submitter": st.sampled_from(SUBMITTERS),
        "task": st.sampled_from(["pretend", "text-to-image"]),
        "priority": st.sampled_from([40, 50, 50, 50, 60]),
        "is_background": st.booleans(),
        "steps": st.integers(1, 40),
    }
)
rooms = st.fixed_dictionaries(
    {
        "jobs": st.lists(jobs, max_size=25),
        "leased": st.integers(0, 4),
        "policy": st.sampled_from(["fifo", "fair"]),
        "max_running": st.one_of(st.none(), st.integers(1, 3)),
        "weight": st.sampled_from([0.5, 1.0, 3.0]),
        "is_paused": st.booleans(),
    }
)


def open_room(room: dict[str, Any]) -> History:
    """Two queues with jobs, two workers that have some of them."""
    history = History().with_queue("other")
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy=room["policy"])))
    for key in KEYS:
        history.ask(ask.CreateKey(key=key, name=key, scopes=("submitter",), secret_digest="d"))
    limits = Limits(max_running=room["max_running"], weight=room["weight"])
    history.ask(ask.LimitKey(key="k1", limits=limits))
    for worker, models in (("w1", BOTH), ("w2", PRETEND)):
        history.ask(register(worker, "b1", models=models))
    for number, job in enumerate(room["jobs"]):
        params: dict[str, Any] = {"steps": job["steps"]}
        params |= {"step_s": 0.5} if job["task"] == "pretend" else {"prompt": "x"}
        rest = {name: value for name, value in job.items() if name != "steps"}
        history.submit(f"j{number}", **{**rest, "params": params})
    for _ in range(room["leased"]):
        take(history, "w1")
    if room["is_paused"]:
        history.ask(ask.PauseQueue(queue="other"))
    return history


def take(history: History, worker: str) -> str | None:
    """What the dispatcher would do: pick, then lease."""
    picked = pick(history.state, history.state.workers[worker], 1, (), EMBEDDED)
    for one in picked:
        lease = ask.LeaseJob(job=one.job, worker=worker, boot="b1", lease_s=30.0, passed=one.passed)
        history.ask(lease)
        return one.job
    return None


def seen(state: LiveState, name: str) -> eta.Worker:
    live = state.workers[name]
    return eta.Worker(name, live.device, live.models, warm=(live.warm,) if live.warm else ())


@given(room=rooms, turns=st.lists(st.sampled_from(["w1", "w2"]), max_size=30))
def test_it_hands_out_exactly_what_pick_would(room: dict[str, Any], turns: Sequence[str]) -> None:
    history = open_room(room)
    line = PickLine(history.state, EMBEDDED)
    warm = {name: seen(history.state, name).warm for name in ("w1", "w2")}
    for name in turns:
        job = line.take(seen(history.state, name), warm[name], 0.0)
        assert (job.id if job is not None else None) == take(history, name)
        if job is not None:
            warm[name] = (job.model,)


@given(room=rooms, depth=st.integers(1, 40))
def test_a_forecast_leaves_no_trace_in_the_state(room: dict[str, Any], depth: int) -> None:
    state = open_room(room).state
    before = msgspec.msgpack.encode(state)
    workers = [seen(state, name) for name in state.workers]
    line = PickLine(state, EMBEDDED)
    assert line.in_turn(workers) == [w.name for w in in_turn(state, list(state.workers.values()), (), EMBEDDED)]
    forward(workers, line, state.costs, state.accuracy, 0, depth=depth)
    assert msgspec.msgpack.encode(state) == before


@given(room=rooms)
def test_a_slot_that_becomes_free_lets_somebody_at_its_cap_go_on(room: dict[str, Any]) -> None:
    history = open_room({**room, "max_running": 1, "leased": 0, "is_paused": False})
    line, state = PickLine(history.state, EMBEDDED), history.state
    worker = seen(state, "w1")
    handed_out = []
    while (job := line.take(worker, (), 0.0)) is not None:
        handed_out.append(job.id)
        is_capped = state.jobs[job.id].submitter == "key/k1"
        assert line.ended(job.id) is is_capped
    assert len(handed_out) == len(state.jobs), "whoever may have one at once gets all of them one after the other"


@pytest.mark.parametrize("policy", ["fifo", "fair"])
def test_it_counts_who_was_passed_and_what_was_used_as_leases_do(policy: str) -> None:
    plain = {"priority": 50, "is_background": False, "queue": "default"}
    cold = [{**plain, "submitter": name, "task": "pretend", "steps": 40} for name in SUBMITTERS]
    warm = [{**plain, "submitter": name, "task": "text-to-image", "steps": 9} for name in SUBMITTERS * 2]
    room = {"jobs": warm[:1] + cold + warm + cold, "leased": 1, "policy": policy}
    history = open_room({**room, "max_running": None, "weight": 3.0, "is_paused": False})
    line, loaded = PickLine(history.state, EMBEDDED), history.state.workers["w1"].warm
    for _ in range(len(room["jobs"]) - 1):
        job = line.take(seen(history.state, "w1"), (loaded,), 0.0)
        assert job is not None
        assert job.id == take(history, "w1")
        loaded = job.model


def test_what_runs_in_a_paused_queue_counts_against_its_submitters_cap() -> None:
    job = {"submitter": "key/k1", "task": "pretend", "priority": 50, "is_background": False, "steps": 1}
    room = {"jobs": [{**job, "queue": "other"}], "leased": 1, "policy": "fifo", "max_running": 1, "weight": 1.0}
    history = open_room({**room, "is_paused": True})
    history.submit("next", submitter="key/k1")
    assert PickLine(history.state, EMBEDDED).take(seen(history.state, "w2"), (), 0.0) is None


def test_a_forecast_over_100_waiting_jobs_takes_below_5_ms() -> None:
    history = History().with_queue()
    for number in range(4):
        history.ask(register(f"w{number}", "b1", models=BOTH))
    for number in range(100):
        task = {"task": None, "params": {"prompt": "x"}} if number % 3 else {}
        history.submit(f"{number}", submitter=f"u{number % 10}", priority=50 + number % 2, **task)
    state, took_s = history.state, []
    workers = [seen(state, name) for name in state.workers]
    for _ in range(20):
        began_at = time.perf_counter()
        assert forward(workers, PickLine(state, EMBEDDED), state.costs, state.accuracy, 0).starts == 100
        took_s.append(time.perf_counter() - began_at)
    assert min(took_s) < 0.005
