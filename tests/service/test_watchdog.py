"""When an attempt is taken to hang: the real decisions over a log in memory, a clock the test turns."""

from __future__ import annotations

import pytest

from projections.costs import LEARNING_JOBS
from service import commands as ask
from service import protocol as say
from service.tasks.registry import TASKS
from service.watchdog import LEARNING_STALL_S, MIN_STALL_S, STALLED_STEPS, Watchdog
from tests.history import Held, History

STEPS = 10
RUN_TIMEOUT_S = TASKS["pretend"].RUN_TIMEOUT_S


class Watch:
    """One job that runs, and who watches it."""

    def __init__(self, step_s: float = 1.0, done_before: int = LEARNING_JOBS) -> None:
        self.now = 1000.0
        self.history = History().with_queue().with_worker()
        params = {"steps": STEPS, "step_s": step_s}
        for number in range(done_before):
            self.history.submit(f"before {number}", params=params)
            held = self.history.lease(f"before {number}")
            facts = {"timings": {"denoising": STEPS * step_s}}
            self.history.ask(ask.CompleteJob(artifacts=(), facts=facts, **held.words()))
        self.history.submit(params=params)
        self.watchdog = self.anew()
        self.held = self.history.lease()
        self.watchdog.moved(self.history.records[-1])

    def anew(self) -> Watchdog:
        return Watchdog(self.history, lambda: self.now)  # type: ignore[arg-type]

    def enters(self, phase: str) -> None:
        for record in self.history.ask(ask.ReportPhase(phase=phase, **self.held.words())):
            self.watchdog.moved(record)

    def steps(self, step: int) -> None:
        self.watchdog.moved(say.Progress(phase="denoising", step=step, steps=STEPS, **self.held.words()))

    def is_overdue(self, after_s: float) -> bool:
        self.now += after_s
        return [late.job for late in self.watchdog.overdue()] == ["j"]


@pytest.mark.parametrize(
    ("step_s", "done_before", "patience_s"),
    [
        (1.0, LEARNING_JOBS, MIN_STALL_S),
        (30.0, LEARNING_JOBS, STALLED_STEPS * 30.0),
        (1.0, LEARNING_JOBS - 1, LEARNING_STALL_S),  # what a step takes is not known yet
    ],
)
def test_an_attempt_hangs_after_ten_steps_time_without_a_step(
    step_s: float, done_before: int, patience_s: float
) -> None:
    watch = Watch(step_s, done_before)
    watch.enters("denoising")
    watch.steps(1)
    assert not watch.is_overdue(0.95 * patience_s)
    assert watch.is_overdue(0.1 * patience_s)


def test_a_step_begins_the_time_anew_and_the_same_step_again_does_not() -> None:
    watch = Watch()
    watch.enters("denoising")
    for step in (1, 2, 3):
        assert not watch.is_overdue(MIN_STALL_S - 1)
        watch.steps(step)
    assert not watch.is_overdue(MIN_STALL_S - 1)
    watch.steps(3)
    assert watch.is_overdue(2)


def test_a_task_may_step_in_another_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TASKS["enhance"].STEPPING == "writing"
    monkeypatch.setattr(TASKS["pretend"], "STEPPING", "writing")
    watch = Watch()
    watch.enters("writing")
    assert watch.is_overdue(MIN_STALL_S + 1)


@pytest.mark.parametrize("phase", ["loading_model", "preparing", "decoding"])
def test_phases_without_steps_have_only_the_time_of_the_whole_run(phase: str) -> None:
    watch = Watch()
    watch.enters(phase)
    assert not watch.is_overdue(RUN_TIMEOUT_S - 1)
    assert watch.is_overdue(2)


def test_an_attempt_that_steps_for_ever_is_ended_all_the_same() -> None:
    watch = Watch()
    watch.enters("denoising")
    for step in range(int(RUN_TIMEOUT_S / 50)):
        assert not watch.is_overdue(50)
        watch.steps(step)
    assert watch.is_overdue(50)


def test_after_a_restart_of_the_service_the_time_counts_from_then() -> None:
    watch = Watch()
    watch.enters("denoising")
    watch.now += 10 * RUN_TIMEOUT_S
    watch.watchdog = watch.anew()
    assert not watch.is_overdue(0)
    assert not watch.is_overdue(MIN_STALL_S - 1)
    assert watch.is_overdue(2)


def test_an_adopted_attempt_is_watched_anew_with_the_patience_it_had() -> None:
    watch = Watch(step_s=30.0)
    patience_s = STALLED_STEPS * 30.0
    watch.enters("denoising")
    watch.now += patience_s - 1
    watch.history.ask(ask.ExpireLease(job="j", attempt=1))
    watch.history.with_worker(held=(ask.HeldAttempt(**watch.held.words()),))
    job = watch.history.state.jobs["j"]
    watch.held = Held("j", job.attempt, job.token)
    watch.watchdog.moved(watch.history.records[-1])
    watch.steps(3)
    assert not watch.is_overdue(0.95 * patience_s)
    assert watch.is_overdue(0.1 * patience_s)


def test_the_next_attempt_has_the_whole_time_again() -> None:
    watch = Watch()
    watch.now += RUN_TIMEOUT_S - 1
    watch.history.ask(ask.ExpireLease(job="j", attempt=1))
    watch.held = watch.history.lease()
    watch.watchdog.moved(watch.history.records[-1])
    assert not watch.is_overdue(RUN_TIMEOUT_S - 1)
    assert watch.is_overdue(2)


def test_what_does_not_run_is_never_overdue() -> None:
    watch = Watch()
    watch.history.ask(ask.CompleteJob(artifacts=(), facts={}, **watch.held.words()))
    watch.watchdog.ended("j")
    assert not watch.is_overdue(2 * RUN_TIMEOUT_S)


def test_it_asks_for_the_end_of_that_attempt_and_says_why() -> None:
    watch = Watch()
    watch.enters("denoising")
    watch.now += MIN_STALL_S + 7
    (late,) = watch.watchdog.overdue()
    assert (late.job, late.attempt, late.why) == ("j", 1, "attempt 1 made no step for 67 s, and 60 s are waited")
