"""Decisions about the queue as tables: hold, release, move, edit, batches, limits, rules, time, quarantine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from events.envelope import encode
from events.jobs import JobBecameDue, JobEdited, JobError, JobExpired, JobFailed, JobHeld, JobReleased, JobRequeued
from events.keys import Limits
from events.queues import QueueConfigured, QueueCreated, QueuePruned, Rules
from events.workers import WorkerQuarantined, WorkerReleased
from projections.live_job import fold_stream
from service import commands as ask
from service import refusals as no
from service.decisions.attempts import POLICIES, QUARANTINE_AFTER
from service.decisions.transitions import TRANSITIONS
from tests.history import Held, History, register, submission

S = 1_000_000  # microseconds


@pytest.fixture
def history() -> History:
    return History().with_queue().with_worker()


def events(records):  # type: ignore[no-untyped-def]
    return [r.event for r in records]


def line(history: History, queue: str = "default") -> list[str]:
    return list(history.state.queues[queue].order)


def fail(held: Held, kind: str) -> ask.FailAttempt:
    return ask.FailAttempt(error=JobError(kind=kind, message="m"), **held.words())  # type: ignore[arg-type]


def complete(held: Held) -> ask.CompleteJob:
    return ask.CompleteJob(artifacts=(), facts={}, **held.words())


def with_key(history: History, key: str = "k", **limits: Any) -> str:
    history.ask(ask.CreateKey(key=key, name=key, scopes=("submitter",), secret_digest="d"))
    history.ask(ask.LimitKey(key=key, limits=Limits(**limits)))
    return f"key/{key}"


# the table of transitions


def status_of(history: History, status: str) -> str:
    """A job that has the status; gives its id."""
    job = f"is-{status}"
    now_us = history.at_us
    fields: dict[str, Any] = {
        "scheduled": {"not_before_us": now_us + 3600 * S},
        "held": {"is_held": True},
        "expired": {"start_deadline_us": now_us + 2 * S},
    }.get(status, {})
    history.submit(job, **fields)
    if status in ("running", "completed", "failed"):
        held = history.lease(job)
        if status != "running":
            history.ask(complete(held) if status == "completed" else fail(held, "out-of-memory"))
    elif status == "cancelled":
        history.ask(ask.CancelJob(job=job))
    elif status == "expired":
        history.wait(5)
    return job


ASKED = {
    "hold": lambda job: ask.HoldJob(job=job),
    "release": lambda job: ask.ReleaseJob(job=job),
    "cancel": lambda job: ask.CancelJob(job=job),
    "retry": lambda job: ask.RetryJob(job=job),
}
FINE_TWICE = {("hold", "held"), ("release", "queued"), ("release", "scheduled"), ("cancel", "cancelled")}
STATUSES = ("scheduled", "held", "queued", "running", "completed", "failed", "cancelled", "expired")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("action", ASKED)
def test_what_the_table_allows_happens_and_anything_else_is_refused_naming_both_statuses(
    history: History, action: str, status: str
) -> None:
    job, transition = status_of(history, status), TRANSITIONS[action]
    if status in transition.before:
        (record,) = history.ask(ASKED[action](job))
        after = history.state.jobs[job].status if job in history.state.jobs else "cancelled"
        assert after == ("running" if record.event.type == "job-cancel-requested" else transition.after)
    elif (action, status) in FINE_TWICE:
        assert history.ask(ASKED[action](job)) == []
    else:
        with pytest.raises(no.IllegalTransition, match=f"is {status} and cannot become {transition.after}"):
            history.ask(ASKED[action](job))


# hold and release


def test_a_held_job_leaves_the_line_and_comes_back_to_its_place(history: History) -> None:
    for job in "abc":
        history.submit(job)
    assert events(history.ask(ask.HoldJob(job="b"))) == [JobHeld()]
    assert line(history) == ["a", "c"]
    assert events(history.ask(ask.ReleaseJob(job="b"))) == [JobReleased()]
    assert line(history) == ["a", "b", "c"]


def test_a_job_released_before_its_time_is_scheduled(history: History) -> None:
    history.submit("j", is_held=True, not_before_us=history.at_us + 100 * S)
    history.ask(ask.ReleaseJob(job="j"))
    assert history.state.jobs["j"].status == "scheduled"
    history.wait(200)
    assert line(history) == ["j"]


# move


@pytest.mark.parametrize(
    ("job", "where", "other", "expected"),
    [
        ("d", "top", None, "dabc"),
        ("a", "bottom", None, "bcda"),
        ("d", "before", "b", "adbc"),
        ("a", "after", "c", "bcad"),
        ("b", "after", "a", "abcd"),
        ("b", "before", "c", "abcd"),
        ("a", "top", None, "abcd"),
    ],
)
def test_a_job_is_moved_by_one_event_or_none(
    history: History, job: str, where: Any, other: str | None, expected: str
) -> None:
    for name in "abcd":
        history.submit(name)
    records = history.ask(ask.MoveJob(job=job, where=where, other=other))
    assert "".join(line(history)) == expected
    assert len(records) == (expected != "abcd")


def test_a_job_moved_next_to_another_priority_takes_it(history: History) -> None:
    history.submit("urgent", priority=90)
    history.submit("plain", priority=50)
    history.submit("night", is_background=True)
    history.ask(ask.MoveJob(job="night", where="top"))
    assert line(history) == ["night", "urgent", "plain"]
    moved = history.state.jobs["night"]
    assert (moved.priority, moved.is_background) == (90, False)


def test_a_requeued_job_comes_back_to_where_it_was_moved(history: History) -> None:
    for name in "abc":
        history.submit(name)
    history.ask(ask.MoveJob(job="c", where="top"))
    held = history.lease("c")
    history.ask(ask.ExpireLease(job="c", attempt=held.attempt))
    assert line(history) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("job", "other", "says"),
    [
        ("held", "a", "it is held; only a job that is queued stands in line"),
        ("a", "elsewhere", "job elsewhere is not in line in queue default"),
        ("a", "a", "cannot stand beside itself"),
        ("a", "nobody", "job nobody is not in line"),
    ],
)
def test_a_move_that_means_nothing_is_refused(history: History, job: str, other: str, says: str) -> None:
    history.with_queue("other")
    history.submit("a")
    history.submit("held", is_held=True)
    history.submit("elsewhere", queue="other")
    history.submit("b")
    with pytest.raises(no.CannotMove, match=says):
        history.ask(ask.MoveJob(job=job, where="before", other=other))


def test_in_a_fair_queue_one_moves_among_ones_own_jobs_only(history: History) -> None:
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy="fair")))
    for job, submitter in (("a1", "ann"), ("b1", "bob"), ("a2", "ann")):
        history.submit(job, submitter=submitter)
    assert len(history.ask(ask.MoveJob(job="a2", where="top"))) == 1
    assert line(history)[0] == "a2"
    with pytest.raises(no.CannotMove, match="another submitter"):
        history.ask(ask.MoveJob(job="a2", where="before", other="b1"))


# edit


def test_an_edit_changes_what_it_says_and_leaves_the_rest(history: History) -> None:
    history.submit("j", task=None, params={"prompt": "a fox", "steps": 30}, tags=("one",), metadata={"k": "v"})
    (record,) = history.ask(ask.EditJob(job="j", seed=9, params={"steps": 10, "seed": None}, priority=80))
    event = record.event
    assert isinstance(event, JobEdited)
    assert (event.params["steps"], event.params["seed"], event.priority) == (10, 9, 80)
    assert (event.tags, event.metadata) == (("one",), {"k": "v"})
    assert msgspec.json.decode(record.private or b"")["prompt"] == "a fox"
    assert "fox" not in str(event)
    live = history.state.jobs["j"]
    assert (live.described, live.params["steps"], live.priority) == (record.position, 10, 80)


def test_a_failed_job_is_edited_and_back_in_line_by_one_decision(history: History) -> None:
    history.submit("j", task=None, params={"prompt": "a fox"})
    history.with_worker("w2")
    history.ask(fail(history.lease("j"), "out-of-memory"))
    edited, retried = history.ask(ask.EditJob(job="j", seed=1, params={"prompt": "a hare"}))
    assert [edited.event.type, retried.event.type] == ["job-edited", "job-retried"]
    assert line(history) == ["j"]
    live = history.state.jobs["j"]
    assert live.described == edited.position, "whoever runs it reads the edit"
    assert live == fold_stream(history.stream("job/j"))


@pytest.mark.parametrize("status", ["queued", "held", "scheduled", "failed", "cancelled", "expired"])
@pytest.mark.parametrize(("queue", "left"), [("other", "default"), ("default", None), (None, None)])
def test_an_edit_names_the_queue_that_the_job_has_left_and_no_other(
    history: History, status: str, queue: str | None, left: str | None
) -> None:
    history.with_queue("other")
    job = status_of(history, status)
    event = history.ask(ask.EditJob(job=job, seed=1, queue=queue))[0].event
    assert isinstance(event, JobEdited)
    assert (event.queue, event.left) == (queue or "default", left)
    assert (b'"left"' in encode(event)) == (left is not None), "a field that has its default is absent"


@pytest.mark.parametrize("status", ["running", "completed"])
def test_what_runs_or_is_done_is_not_edited(history: History, status: str) -> None:
    job = status_of(history, status)
    with pytest.raises(no.IllegalTransition, match=f"is {status} and cannot become edited"):
        history.ask(ask.EditJob(job=job, seed=1, priority=1))


def test_an_edit_is_checked_like_a_submission(history: History) -> None:
    history.submit("j")
    with pytest.raises(no.InvalidField, match=r"params\.steps"):
        history.ask(ask.EditJob(job="j", seed=1, params={"steps": -1}))
    with pytest.raises(no.InvalidField, match="priority"):
        history.ask(ask.EditJob(job="j", seed=1, priority=101))
    with pytest.raises(no.UnknownQueue):
        history.ask(ask.EditJob(job="j", seed=1, queue="nowhere"))


# batches, capacity and limits


def batch(*jobs: str, **fields: Any) -> ask.SubmitBatch:
    return ask.SubmitBatch(batch="b", jobs=tuple(submission(job, **fields) for job in jobs))


def test_a_batch_is_all_of_its_jobs_or_none(history: History) -> None:
    first, *jobs = history.ask(batch("a", "b", "c"))
    assert first.event.type == "batch-submitted"
    assert [record.event.batch for record in jobs] == ["b", "b", "b"]
    broken = ask.SubmitBatch(batch="b2", jobs=(submission("d"), submission("e", params={"steps": -1})))
    with pytest.raises(no.InvalidField):
        history.ask(broken)
    assert line(history) == ["a", "b", "c"]


def test_a_repeated_batch_submits_nothing_new(history: History) -> None:
    again = {"idempotency_key": "k", "request_digest": "d"}
    jobs = (submission("a", **again), submission("b"))
    assert len(history.ask(ask.SubmitBatch(batch="b", jobs=jobs))) == 3
    assert history.ask(ask.SubmitBatch(batch="b2", jobs=(submission("c", **again), submission("d")))) == []


def test_a_queue_takes_what_it_has_room_for(history: History) -> None:
    history.ask(ask.ConfigureQueue(queue="default", rules=Rules(capacity=2)))
    history.submit("a")
    with pytest.raises(no.QueueFull, match="1 of 2 places are taken"):
        history.ask(batch("b", "c"))
    history.submit("b", is_held=True)
    with pytest.raises(no.QueueFull, match="2 of 2 places are taken") as caught:
        history.submit("c")
    assert caught.value.retry_after_s >= 1
    history.lease("a")
    history.submit("c")  # what runs does not wait


def test_a_drained_queue_runs_what_it_has_and_takes_nothing_new(history: History) -> None:
    history.submit("a")
    history.ask(ask.DrainQueue(queue="default"))
    with pytest.raises(no.QueueFull, match="being drained"):
        history.submit("b")
    history.lease("a")
    history.ask(ask.ResumeQueue(queue="default"))
    history.submit("b")


def test_a_key_has_so_many_waiting_over_all_queues(history: History) -> None:
    history.with_queue("other")
    submitter = with_key(history, max_waiting=2)
    history.submit("a", submitter=submitter)
    history.submit("b", submitter=submitter, queue="other")
    with pytest.raises(no.LimitReached, match="may have 2 waiting jobs and has 2"):
        history.submit("c", submitter=submitter)
    history.submit("d", submitter="ann")


CLOSED = {
    "full": (no.QueueFull, "1 of 1 places are taken"),
    "drained": (no.QueueFull, "being drained"),
    "limited": (no.LimitReached, "may have 1 waiting jobs and has 1"),
}


def close(history: History, how: str) -> None:
    """Leave no room for another job of key k in queue `default`, where one of its jobs waits."""
    if how == "full":
        history.ask(ask.ConfigureQueue(queue="default", rules=Rules(capacity=1)))
    elif how == "drained":
        history.ask(ask.DrainQueue(queue="default"))
    else:
        history.ask(ask.LimitKey(key="k", limits=Limits(max_waiting=1)))


@pytest.mark.parametrize("command", [ask.RetryJob(job="j"), ask.EditJob(job="j", seed=1, priority=60)])
@pytest.mark.parametrize("how", CLOSED)
def test_a_job_that_has_ended_comes_back_only_where_there_is_room(
    history: History, how: str, command: ask.Command
) -> None:
    submitter = with_key(history)
    history.submit("j", submitter=submitter)
    history.ask(ask.CancelJob(job="j"))
    history.submit("other", submitter=submitter)
    close(history, how)
    refusal, says = CLOSED[how]
    with pytest.raises(refusal, match=says):
        history.ask(command)
    history.ask(ask.CancelJob(job="other"))
    history.ask(ask.ResumeQueue(queue="default"))
    assert history.ask(command)[-1].event.type == "job-retried"


def test_a_retry_that_means_nothing_is_refused_for_that_and_not_for_want_of_room(history: History) -> None:
    history.submit("j")
    history.ask(ask.DrainQueue(queue="default"))
    with pytest.raises(no.IllegalTransition):
        history.ask(ask.RetryJob(job="j"))
    with pytest.raises(no.UnknownJob):
        history.ask(ask.RetryJob(job="nobody"))


@pytest.mark.parametrize(
    "command",
    [
        lambda held: fail(held, "crash"),
        lambda held: ask.TimeOutAttempt(job=held.job, attempt=held.attempt, why="it hangs"),
        lambda held: ask.ExpireLease(job=held.job, attempt=held.attempt),
        lambda held: register("w", "b2"),
    ],
    ids=["crash", "timeout", "lost lease", "new process"],
)
@pytest.mark.parametrize("how", CLOSED)
def test_an_attempt_that_met_a_fault_is_tried_again_whether_there_is_room_or_not(
    history: History, how: str, command: Callable[[Held], ask.Command]
) -> None:
    submitter = with_key(history)
    history.submit("j", submitter=submitter)
    held = history.lease("j")
    history.submit("other", submitter=submitter)
    close(history, how)
    assert any(isinstance(event, JobRequeued) for event in events(history.ask(command(held))))
    history.wait(60)
    assert line(history) == ["j", "other"]


def test_a_key_has_so_many_running(history: History) -> None:
    submitter = with_key(history, max_running=1)
    history.submit("a", submitter=submitter)
    history.submit("b", submitter=submitter)
    held = history.lease("a")
    with pytest.raises(no.NotLeasable, match="may have 1 running, and has"):
        history.lease("b")
    history.ask(complete(held))
    history.lease("b")


@pytest.mark.parametrize(
    ("limits", "field"),
    [(Limits(weight=0), "weight"), (Limits(max_waiting=-1), "max_waiting"), (Limits(jobs_per_minute=-1), "jobs")],
)
def test_limits_out_of_bounds_are_refused(history: History, limits: Limits, field: str) -> None:
    with_key(history)
    with pytest.raises(no.InvalidField, match=field):
        history.ask(ask.LimitKey(key="k", limits=limits))
    with pytest.raises(no.UnknownKey):
        history.ask(ask.LimitKey(key="nobody", limits=Limits()))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"metadata": {"k": ""}}, r"metadata\.k"),
        ({"metadata": {f"k{n}": "v" for n in range(33)}}, "at most 32"),
        ({"start_deadline_us": 1}, "start_deadline: it is not after now"),
        ({"not_before_us": 100 * S, "finish_deadline_us": 50 * S}, "finish_deadline: it is not after not_before"),
        ({"not_before_us": 10**18}, "not_before: it lies more than a year ahead"),
    ],
)
def test_times_and_metadata_out_of_bounds_are_refused(history: History, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(no.InvalidField, match=says):
        history.submit("j", **fields)


# rules


def test_a_queue_is_made_by_its_rules_and_said_once(history: History) -> None:
    rules = Rules(policy="fair", capacity=5)
    command = ask.ConfigureQueue(queue="new", rules=rules)
    assert events(history.ask(command)) == [QueueCreated(name="new"), QueueConfigured(name="new", rules=rules)]
    assert history.ask(command) == []
    with pytest.raises(no.InvalidField, match="capacity: 0 is not accepted: use 1 or more"):
        history.ask(ask.ConfigureQueue(queue="new", rules=Rules(capacity=0)))


def test_what_is_pruned_is_not_retried_nor_edited(history: History) -> None:
    history.submit("old")
    history.ask(fail(history.lease("old"), "out-of-memory"))
    prune = ask.PruneQueue(queue="default", through=history.state.position)
    assert events(history.ask(prune)) == [QueuePruned(name="default", through=prune.through)]
    assert history.ask(prune) == []
    for command in (ask.RetryJob(job="old"), ask.EditJob(job="old", seed=1, priority=1)):
        with pytest.raises(no.UnknownJob):
            history.ask(command)
    with pytest.raises(no.InvalidField, match="the log stands at"):
        history.ask(ask.PruneQueue(queue="default", through=10**6))


# time


def test_a_scheduled_job_becomes_due_and_no_sooner(history: History) -> None:
    history.submit("j", not_before_us=history.at_us + 60 * S)
    with pytest.raises(no.NotLeasable, match="it is scheduled"):
        history.lease("j")
    assert history.wait(30) == []
    assert events(history.wait(30)) == [JobBecameDue()]
    history.lease("j")


@pytest.mark.parametrize("fields", [{}, {"is_held": True}, {"not_before_us": 1_000_000 + 30 * S}])
def test_what_has_not_started_by_its_deadline_expires(history: History, fields: dict[str, Any]) -> None:
    history.submit("j", start_deadline_us=history.at_us + 60 * S, **fields)
    assert JobExpired(deadline="start") in events(history.wait(100))
    assert "j" not in history.state.jobs


def test_a_start_deadline_is_met_by_starting(history: History) -> None:
    history.submit("j", start_deadline_us=history.at_us + 60 * S)
    held = history.lease("j")
    assert history.wait(100) == []
    history.ask(ask.ExpireLease(job="j", attempt=held.attempt))
    assert history.wait(100) == [], "it had started in time; that its worker vanished is no reason to drop it"


def test_what_has_not_finished_by_its_deadline_expires_also_while_it_runs(history: History) -> None:
    history.submit("j", finish_deadline_us=history.at_us + 60 * S)
    held = history.lease("j")
    assert events(history.wait(100)) == [JobExpired(deadline="finish", attempt=held.attempt)]
    with pytest.raises(no.StaleAttempt, match="has ended"):
        history.ask(complete(held))


def test_a_retried_job_has_no_deadlines_any_more(history: History) -> None:
    history.submit("j", start_deadline_us=history.at_us + 10 * S)
    history.wait(60)
    history.ask(ask.RetryJob(job="j"))
    assert history.wait(1_000) == []
    assert line(history) == ["j"]


def test_a_sweep_does_no_more_than_it_may(history: History) -> None:
    for number in range(5):
        history.submit(f"j-{number}", not_before_us=history.at_us + 60 * S)
    history.at_us += 100 * S
    assert [len(history.ask(ask.Sweep(limit=3))) for _ in range(3)] == [3, 2, 0]


# attempts


@pytest.mark.parametrize("fault", ["crash", "internal", "timeout"])
def test_every_fault_is_counted_apart_and_pauses_longer_each_time(history: History, fault: str) -> None:
    policy = POLICIES[fault]  # type: ignore[index]
    history.submit("j")
    for number in range(policy.most):
        held = history.lease("j")
        late = ask.TimeOutAttempt(job="j", attempt=held.attempt, why="it hangs")
        (event, *_) = events(history.ask(late if fault == "timeout" else fail(held, fault)))
        if number + 1 == policy.most:
            assert isinstance(event, JobFailed)
            assert event.error.kind == fault
        else:
            assert isinstance(event, JobRequeued)
            assert event.not_before_us == history.at_us + round(policy.pause_s * 2**number * 1e6)
            history.wait(policy.pause_s * 2**number)


def test_lost_leases_do_not_use_up_the_tries_of_a_crash(history: History) -> None:
    history.submit("j")
    for _ in range(2):
        history.ask(ask.ExpireLease(job="j", attempt=history.lease("j").attempt))
        history.ask(fail(history.lease("j"), "crash"))
        history.wait(60)
    assert history.state.jobs["j"].faults == {"lost": 2, "crash": 2}
    assert line(history) == ["j"]


def test_a_retry_by_a_person_begins_the_count_anew(history: History) -> None:
    history.submit("j")
    for _ in range(POLICIES["crash"].most):
        history.ask(fail(history.lease("j"), "crash"))
        history.wait(60)
        history.ask(ask.ReleaseWorker(worker="w"))
    history.ask(ask.RetryJob(job="j"))
    assert history.state.jobs["j"].faults == {}


# quarantine


def fails_one_after_another(history: History, jobs: list[str], kind: str) -> list[Any]:
    found = []
    for job in jobs:
        if job not in history.state.jobs:
            history.submit(job)
        found += events(history.ask(fail(history.lease(job), kind)))
        history.wait(60)
    return found


@pytest.mark.parametrize("kind", ["crash", "out-of-memory"])
def test_a_worker_that_takes_down_one_job_after_another_gets_no_more(history: History, kind: str) -> None:
    said = fails_one_after_another(history, ["a", "b", "c"], kind)
    assert said[-1] == WorkerQuarantined(
        worker="w", jobs=("a", "b", "c"), why="3 different jobs in a row ended in a crash or out of memory"
    )
    assert QUARANTINE_AFTER == 3
    history.submit("next")
    with pytest.raises(no.NotLeasable, match="worker w is quarantined: 3 different jobs"):
        history.lease("next")
    history.with_worker(boot="b2")
    with pytest.raises(no.NotLeasable, match="quarantined"):
        history.lease("next", boot="b2")
    assert events(history.ask(ask.ReleaseWorker(worker="w"))) == [WorkerReleased(worker="w")]
    history.lease("next", boot="b2")


def test_one_poisonous_job_does_not_quarantine_a_worker_nor_do_failures_with_a_success_between(
    history: History,
) -> None:
    assert not any(isinstance(e, WorkerQuarantined) for e in fails_one_after_another(history, ["a"] * 3, "crash"))
    fails_one_after_another(history, ["b"], "crash")
    history.submit("good")
    history.ask(complete(history.lease("good")))
    fails_one_after_another(history, ["c", "d"], "crash")
    assert history.state.quarantined == {}
    with pytest.raises(no.UnknownWorker):
        history.ask(ask.ReleaseWorker(worker="nobody"))
