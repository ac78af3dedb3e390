"""Decisions as tables: given these events, when this command, then these events or this refusal."""

from __future__ import annotations

import msgspec
import pytest

from events.jobs import (
    JobCancelled,
    JobCancelRequested,
    JobCompleted,
    JobError,
    JobFailed,
    JobLeased,
    JobPhaseEntered,
    JobRequeued,
    JobSubmitted,
)
from events.workers import WorkerLost, WorkerRegistered
from service import commands as ask
from service import refusals as no
from service.decisions.attempts import POLICIES
from tests.history import Held, History, register, submission


@pytest.fixture
def history() -> History:
    return History().with_queue().with_worker()


def events(records):  # type: ignore[no-untyped-def]
    return [r.event for r in records]


def complete(held: Held) -> ask.CompleteJob:
    return ask.CompleteJob(artifacts=(), facts={}, **held.words())


def fail(held: Held, kind: str = "out-of-memory") -> ask.FailAttempt:
    return ask.FailAttempt(error=JobError(kind=kind, message="m"), **held.words())  # type: ignore[arg-type]


def stopped(held: Held) -> ask.ConfirmStop:
    return ask.ConfirmStop(step=5, **held.words())


# submit


def test_a_submission_has_complete_params_and_keeps_the_prompt_apart(history: History) -> None:
    (record,) = history.submit(task=None, params={"prompt": "a fox"})
    assert isinstance(record.event, JobSubmitted)
    size = {"width": 512, "height": 512}
    assert record.event.params == {"seed": 7, "steps": 20, "guidance": 2.0, **size, "format": "png"}
    assert msgspec.json.decode(record.private or b"") == {"prompt": "a fox", "negative_prompt": ""}
    assert "fox" not in str(record.event)


@pytest.mark.parametrize(
    ("fields", "refusal", "says"),
    [
        ({"queue": "nowhere"}, no.UnknownQueue, "'nowhere' is not known; use one of default"),
        ({"task": "text-to-smell"}, no.UnknownTask, "text-to-smell"),
        ({"model": "gpt"}, no.UnknownModel, "'gpt' is not in the catalogue for pretend"),
        ({"model": "demo"}, no.UnknownModel, "'demo' is not in the catalogue for pretend"),
        ({"priority": 101}, no.InvalidField, "priority: 101 is not accepted: use 0 to 100"),
        ({"tags": ("",)}, no.InvalidField, r"tags\[0\]"),
        ({"tags": ("a\nb",)}, no.InvalidField, r"tags\[0\]"),
        ({"tags": ("t",) * 33}, no.InvalidField, "at most 32"),
        ({"params": {"steps": -1}}, no.InvalidField, "params.steps: -1 is not accepted"),
        ({"params": {"stops": 1}}, no.InvalidField, "params.stops: there is no such field; did you mean steps?"),
        ({"task": None, "params": {}}, no.InvalidField, "params.prompt: is required"),
        ({"task": None, "params": {"prompt": "x\0y"}}, no.InvalidField, "holds a NUL"),
        ({"task": None, "params": {"prompt": "\ud800"}}, no.InvalidField, "lone surrogate"),
        ({"task": None, "params": {"prompt": "x", "width": 1000}}, no.InvalidField, "use 512 x 512"),
        ({"task": None, "params": {"prompt": "x", "seed": 2**53}}, no.InvalidField, "params.seed"),
    ],
)
def test_a_bad_submission_is_refused_by_field_value_and_bound(
    history: History, fields: dict[str, object], refusal: type[no.Refusal], says: str
) -> None:
    with pytest.raises(refusal, match=says):
        history.submit(**fields)
    assert history.state.jobs == {}


def test_a_repeated_idempotency_key_submits_nothing_new(history: History) -> None:
    again = {"idempotency_key": "k", "request_digest": "d"}
    assert len(history.submit("j1", **again)) == 1
    assert history.submit("j2", **again) == []
    with pytest.raises(no.IdempotencyConflict, match="used for job j1"):
        history.submit("j3", idempotency_key="k", request_digest="other")
    assert len(history.submit("j4", submitter="bob", **again)) == 1, "a key belongs to its submitter"


def test_an_idempotency_key_is_forgotten_after_a_day(history: History) -> None:
    history.submit("j1", idempotency_key="k", request_digest="d")
    history.at_us += 24 * 3600 * 1_000_000
    history.submit("j2")
    assert len(history.submit("j3", idempotency_key="k", request_digest="d")) == 1


# lease


def test_a_waiting_job_is_leased_under_a_growing_token(history: History) -> None:
    history.submit("j")
    first = history.lease("j")
    history.ask(fail(first, "crash"))
    history.wait(POLICIES["crash"].pause_s)
    second = history.lease("j")
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.token > first.token


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda h, held: None, "it is running"),
        (lambda h, held: h.ask(complete(held)), "it has ended"),
        (
            lambda h, held: (h.ask(stopped(held)), h.ask(ask.PauseQueue(queue="default"))),
            "queue default is paused",
        ),
    ],
)
def test_a_job_that_does_not_wait_is_not_leased(history: History, given, says: str) -> None:  # type: ignore[no-untyped-def]
    history.submit("j")
    given(history, history.lease("j"))
    with pytest.raises(no.NotLeasable, match=says):
        history.lease("j")


def test_a_replaced_boot_gets_no_lease(history: History) -> None:
    history.submit("j")
    history.with_worker(boot="b2")
    with pytest.raises(no.FencedBoot):
        history.lease("j", boot="b1")


def test_an_expired_lease_sends_the_job_back_to_its_place(history: History) -> None:
    history.submit("j1")
    history.submit("j2")
    held = history.lease("j1")
    expired = ask.ExpireLease(job="j1", attempt=held.attempt)
    assert events(history.ask(expired)) == [JobRequeued(attempt=1, reason="lease-expired")]
    assert list(history.state.queues["default"].order) == ["j1", "j2"]
    assert history.ask(expired) == [], "an expiry that comes twice changes nothing"


def test_a_job_whose_workers_always_vanish_ends_failed(history: History) -> None:
    history.submit("j")
    for _ in range(POLICIES["lost"].most - 1):
        held = history.lease("j")
        history.ask(ask.ExpireLease(job="j", attempt=held.attempt))
    held = history.lease("j")
    (event,) = events(history.ask(ask.ExpireLease(job="j", attempt=held.attempt)))
    assert isinstance(event, JobFailed)
    assert event.error.kind == "lost"
    assert "j" not in history.state.jobs


# reports


def test_a_phase_is_recorded_once(history: History) -> None:
    history.submit("j")
    held = history.lease("j")
    report = ask.ReportPhase(phase="denoising", **held.words())
    assert events(history.ask(report)) == [JobPhaseEntered(attempt=1, phase="denoising")]
    assert history.ask(report) == []


def test_a_result_ends_the_job_and_its_repeat_changes_nothing(history: History) -> None:
    history.submit("j")
    held = history.lease("j")
    assert events(history.ask(complete(held))) == [JobCompleted(attempt=1, artifacts=(), facts={})]
    assert history.ask(complete(held)) == []


@pytest.mark.parametrize("report", [complete, fail])
def test_a_stale_attempt_cannot_end_a_job(history: History, report) -> None:  # type: ignore[no-untyped-def]
    history.submit("j")
    old = history.lease("j")
    history.ask(ask.ExpireLease(job="j", attempt=old.attempt))
    with pytest.raises(no.StaleAttempt, match="waits again"):
        history.ask(report(old))
    new = history.lease("j")
    with pytest.raises(no.StaleAttempt, match="attempt 2 has it"):
        history.ask(report(old))
    history.ask(complete(new))
    with pytest.raises(no.StaleAttempt, match="has ended"):
        history.ask(report(old))


def test_a_token_of_another_job_opens_nothing(history: History) -> None:
    history.submit("j1")
    history.submit("j2")
    first, second = history.lease("j1"), history.lease("j2")
    with pytest.raises(no.StaleAttempt):
        history.ask(complete(Held("j1", 1, second.token)))
    history.ask(complete(first))


def test_a_crash_is_tried_again_and_the_third_ends_the_job(history: History) -> None:
    history.submit("j")
    pauses_s = []
    for _ in range(POLICIES["crash"].most - 1):
        (event,) = events(history.ask(fail(history.lease("j"), "crash")))
        assert isinstance(event, JobRequeued)
        assert event.reason == "crash"
        assert event.not_before_us is not None
        pauses_s.append((event.not_before_us - history.at_us) / 1e6)
        assert history.state.jobs["j"].status == "scheduled"
        history.wait(pauses_s[-1])
    (event,) = events(history.ask(fail(history.lease("j"), "crash")))
    assert isinstance(event, JobFailed)
    assert pauses_s == [1.0, 2.0], "each pause is twice the one before"


@pytest.mark.parametrize("kind", ["out-of-memory", "model-missing", "invalid-input"])
def test_what_would_only_happen_again_ends_the_job_at_once(history: History, kind: str) -> None:
    history.submit("j")
    (event,) = events(history.ask(fail(history.lease("j"), kind)))
    assert isinstance(event, JobFailed)
    assert event.error.kind == kind


# cancel and retry


def test_a_waiting_job_is_cancelled_at_once(history: History) -> None:
    history.submit("j")
    assert events(history.ask(ask.CancelJob(job="j"))) == [JobCancelled()]
    assert history.ask(ask.CancelJob(job="j")) == [], "cancelling twice is fine"


def test_a_running_job_is_asked_to_stop_and_ends_when_it_has(history: History) -> None:
    history.submit("j")
    held = history.lease("j")
    assert events(history.ask(ask.CancelJob(job="j"))) == [JobCancelRequested(attempt=1)]
    assert history.ask(ask.CancelJob(job="j")) == []
    assert events(history.ask(stopped(held))) == [JobCancelled(attempt=1, step=5)]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (complete, JobCompleted(attempt=1, artifacts=(), facts={})),
        (fail, JobCancelled(attempt=1)),
        (lambda held: fail(held, "crash"), JobCancelled(attempt=1)),
        (lambda held: ask.ExpireLease(job="j", attempt=1), JobCancelled(attempt=1)),
    ],
)
def test_however_a_cancelled_attempt_ends_the_job_does_not_run_again(history: History, ending, expected) -> None:  # type: ignore[no-untyped-def]
    history.submit("j")
    held = history.lease("j")
    history.ask(ask.CancelJob(job="j"))
    assert events(history.ask(ending(held))) == [expected]
    assert "j" not in history.state.jobs


def test_what_cannot_be_cancelled_or_retried_says_both_statuses(history: History) -> None:
    history.submit("j")
    with pytest.raises(no.IllegalTransition, match="is queued and cannot become queued; only a job that is failed"):
        history.ask(ask.RetryJob(job="j"))
    history.ask(complete(history.lease("j")))
    with pytest.raises(no.IllegalTransition, match="is completed and cannot become cancelled"):
        history.ask(ask.CancelJob(job="j"))
    with pytest.raises(no.UnknownJob):
        history.ask(ask.CancelJob(job="nobody"))


def test_a_retried_job_keeps_its_place_and_counts_its_attempts_on(history: History) -> None:
    history.submit("j1")
    history.submit("j2")
    history.ask(fail(history.lease("j1")))
    history.ask(ask.RetryJob(job="j1"))
    assert list(history.state.queues["default"].order) == ["j1", "j2"]
    assert history.lease("j1").attempt == 2


# queues


def test_pausing_twice_is_one_event(history: History) -> None:
    assert len(history.ask(ask.PauseQueue(queue="default"))) == 1
    assert history.ask(ask.PauseQueue(queue="default")) == []
    assert len(history.ask(ask.ResumeQueue(queue="default"))) == 1
    assert history.ask(ask.ResumeQueue(queue="default")) == []
    with pytest.raises(no.UnknownQueue):
        history.ask(ask.PauseQueue(queue="other"))


# workers


def test_a_reconnect_of_the_same_process_is_no_news(history: History) -> None:
    history.submit("j")
    held = history.lease("j")
    assert history.ask(register(held=(ask.HeldAttempt(**held.words()),))) == []


def test_a_new_boot_takes_over_and_what_the_old_one_ran_waits_again(history: History) -> None:
    history.submit("j")
    history.lease("j")
    registered, requeued = events(history.ask(register(boot="b2")))
    assert isinstance(registered, WorkerRegistered)
    assert requeued == JobRequeued(attempt=1, reason="worker-restarted")


def test_a_new_boot_that_still_has_the_result_keeps_the_attempt(history: History) -> None:
    history.submit("j")
    held = history.lease("j")
    assert len(history.ask(register(boot="b2", held=(ask.HeldAttempt(**held.words()),)))) == 1
    assert events(history.ask(complete(held))) == [JobCompleted(attempt=1, artifacts=(), facts={})]


def test_a_worker_that_returns_before_anybody_else_has_its_job_is_adopted_back(history: History) -> None:
    history.submit("j")
    held = history.lease("j")
    history.ask(ask.ExpireLease(job="j", attempt=1))
    (adopted,) = history.ask(register(held=(ask.HeldAttempt(**held.words()),)))
    assert isinstance(adopted.event, JobLeased)
    assert (adopted.event.attempt, adopted.event.adopted) == (1, True)
    with pytest.raises(no.StaleAttempt):
        history.ask(complete(held))
    history.ask(complete(Held("j", 1, adopted.position)))


def test_a_worker_that_did_not_hear_of_its_adoption_keeps_the_attempt(history: History) -> None:
    history.submit("j")
    held = history.lease("j")
    history.ask(ask.ExpireLease(job="j", attempt=1))
    again = register(held=(ask.HeldAttempt(**held.words()),))
    (adopted,) = history.ask(again)
    assert history.ask(again) == [], "the same hello once more changes nothing"
    history.ask(complete(Held("j", 1, adopted.position)))


def test_an_adopted_attempt_is_charged_the_time_that_somebody_answered_for_it(history: History) -> None:
    history.submit("j", params={"steps": 10, "step_s": 30.0})
    held = history.lease("j")
    predicted_s = history.state.jobs["j"].predicted_s
    history.at_us += 99_000_000
    history.ask(ask.ExpireLease(job="j", attempt=1))  # a second later, as everything here
    history.at_us += 50_000_000
    (adopted,) = history.ask(register(held=(ask.HeldAttempt(**held.words()),)))
    assert history.state.jobs["j"].predicted_s == predicted_s == pytest.approx(300.0, rel=0.01)
    history.at_us += 199_000_000
    history.ask(complete(Held("j", 1, adopted.position)))
    assert history.state.queues["default"].clocks.of("ann") == pytest.approx(100.0 + 200.0)


def test_a_worker_that_returns_too_late_gets_nothing_back(history: History) -> None:
    history.with_worker("w2", "c1")
    history.submit("j")
    held = history.lease("j")
    history.ask(ask.ExpireLease(job="j", attempt=1))
    history.lease("j", "w2", "c1")
    assert history.ask(register(held=(ask.HeldAttempt(**held.words()),))) == []


def test_only_the_boot_that_is_gone_is_lost(history: History) -> None:
    assert history.ask(ask.LoseWorker(worker="w", boot="b0", reason="disconnected")) == []
    (event,) = events(history.ask(ask.LoseWorker(worker="w", boot="b1", reason="disconnected")))
    assert event == WorkerLost(worker="w", boot="b1", reason="disconnected")
    assert "w" not in history.state.workers


# keys


def test_a_key_is_made_once_and_opens_nothing_once_revoked(history: History) -> None:
    made = ask.CreateKey(key="k", name="n", scopes=("admin",), secret_digest="00")
    assert len(history.ask(made)) == 1
    assert history.ask(made) == []
    history.ask(ask.RevokeKey(key="k"))
    assert history.state.keys == {}
    with pytest.raises(no.UnknownKey):
        history.ask(ask.RevokeKey(key="k"))


def test_a_submission_never_changes_with_the_catalogue_order() -> None:
    history = History().with_queue()
    assert history.ask(submission("a", task=None, model="pretend"))[0].event.task == "pretend"  # type: ignore[union-attr]
