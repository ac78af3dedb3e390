"""The rules for attempts, over real processes: cancel, stale, crashes, credit."""

from __future__ import annotations

import os
import signal
import time

from service import protocol as say
from tests.service.worker.conftest import StartWorker
from tests.service.worker.peer import Peer


def reported(talk_received: list[object]) -> set[str]:
    return {message.job for message in talk_received if isinstance(message, say.Reported)}


def test_progress_tells_phase_step_and_steps(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", token=8, steps=4, step_s=0.1)
    talk.expect(say.Completed)
    seen = talk.all(say.Progress)
    assert {(progress.job, progress.token, progress.phase, progress.steps) for progress in seen} == {
        ("j1", 8, "denoising", 4)
    }
    assert [progress.step for progress in seen] == sorted({progress.step for progress in seen})
    assert len(seen) >= 3


def test_cancel_stops_a_running_job_in_the_middle_of_a_step(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", token=8, steps=100, step_s=60)
    talk.expect(say.Phase)
    asked_at = time.monotonic()
    talk.send(say.Cancel(job="j1", attempt=1, token=8))
    stopped = talk.expect(say.Stopped)
    assert (stopped.job, stopped.attempt, stopped.token, stopped.step) == ("j1", 1, 8, 0)
    assert time.monotonic() - asked_at < 9  # a step takes 60 s, the killing of the child would take 10 s


def test_the_next_job_runs_after_a_cancelled_one(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=100, step_s=60)
    talk.expect(say.Phase)
    child = worker.child().pid
    talk.send(say.Cancel(job="j1", attempt=1, token=10))
    talk.expect(say.Stopped)
    talk.begin("j2")
    assert talk.expect(say.Completed).job == "j2"
    assert worker.child().pid == child


def test_a_cancel_that_crosses_the_result_is_not_answered(peer: Peer, start_worker: StartWorker) -> None:
    peer.is_acknowledging = False
    start_worker()
    talk = peer.talk()
    talk.begin("j1")
    talk.expect(say.Completed)
    talk.send(say.Cancel(job="j1", attempt=1, token=10))
    talk.begin("j2")
    talk.expect(say.Completed)
    assert talk.all(say.Stopped) == []


def test_a_cancel_of_an_unknown_attempt_is_answered(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.send(say.Cancel(job="j9", attempt=3, token=40))
    stopped = talk.expect(say.Stopped)
    assert (stopped.job, stopped.attempt, stopped.token) == ("j9", 3, 40)


def test_a_child_that_ignores_a_cancel_is_killed(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=100, step_s=60)
    talk.expect(say.Phase)
    child = worker.child()
    os.kill(child.pid, signal.SIGSTOP)
    talk.send(say.Cancel(job="j1", attempt=1, token=10))
    assert talk.expect(say.Stopped).job == "j1"
    assert talk.all(say.Failed) == []
    talk.begin("j2")
    assert talk.expect(say.Completed).job == "j2"


def test_a_stale_job_is_stopped_and_never_reported(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=100, step_s=60)
    talk.expect(say.Phase)
    before = len(talk.received)
    talk.send(say.Stale(job="j1", attempt=1, why="attempt 2 has it"))
    talk.begin("j2")
    talk.expect(say.Completed)
    assert reported(talk.received[before:]) == {"j2"}


def test_a_job_that_kills_its_process_fails_as_a_crash(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", token=9, outcome="crash")
    failed = talk.expect(say.Failed)
    assert (failed.job, failed.token, failed.kind) == ("j1", 9, "crash")
    assert failed.message == "the process running the job was killed by signal 9 (SIGKILL)"


def test_the_job_after_a_crash_runs_in_a_new_child(peer: Peer, start_worker: StartWorker) -> None:
    worker = start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=1, step_s=60)
    talk.expect(say.Phase)
    first = worker.child()
    first.kill()
    assert talk.expect(say.Failed).kind == "crash"
    talk.begin("j2")
    assert talk.expect(say.Completed).job == "j2"
    assert worker.child().pid != first.pid
    assert len(peer.talks) == 1  # the session never noticed


def test_a_failing_job_tells_its_kind_and_where(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", outcome="failed")
    failed = talk.expect(say.Failed)
    assert failed.kind == "internal"
    assert failed.message == "the pipeline raised ToldToFail in phase denoising; see the detail"
    assert failed.detail is not None
    assert "pipelines/pretend.py" in failed.detail


def test_params_of_another_version_fail_as_invalid_input(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", invented=1)
    failed = talk.expect(say.Failed)
    assert failed.kind == "invalid-input"
    assert "invented" in failed.message


def test_a_model_the_worker_does_not_have_is_declined(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.expect(say.Ready)
    talk.send(say.Offer(offer="o", within_s=5, job="j", task="text-to-image", model="demo", params={}))
    assert "demo" in talk.expect(say.Decline).why


def test_an_offer_beyond_the_credit_is_declined(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=1, step_s=60)
    talk.expect(say.Phase)
    for name in ("first", "second"):  # it would let the one that runs stand for one more, for no second one
        offer = say.Offer(offer=name, within_s=5, job=name, task="pretend", model="pretend", params={}, priority=90)
        talk.send(offer)
    declined = talk.expect(say.Decline)
    assert (declined.offer, declined.why) == ("second", "this worker has no free slot")


def test_while_it_computes_a_job_may_come_before(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("slow", steps=100, step_s=0.02)
    talk.expect(say.Ready, lambda ready: ready.before == 1)
    talk.offer_again("urgent", "pretend", "pretend", 1, 11, {"steps": 2, "step_s": 0.02}, 90, "before")
    first, second = talk.expect(say.Completed), talk.expect(say.Completed)
    assert (first.job, second.job) == ("urgent", "slow")


def test_who_stands_for_long_says_so(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("slow", steps=3, step_s=0.2)
    talk.expect(say.Ready, lambda ready: ready.before == 1)
    talk.offer_again("urgent", "pretend", "pretend", 1, 11, {"steps": 9, "step_s": 0.2}, 90, "before")
    talk.expect(say.Completed, lambda message: message.job == "slow")
    phases = [message.phase for message in talk.all(say.Phase) if message.job == "slow"]
    assert phases == ["denoising", "parked", "denoising"]


def test_no_credit_is_given_after_the_service_asked_to_drain(peer: Peer, start_worker: StartWorker) -> None:
    start_worker()
    talk = peer.talk()
    talk.begin("j1", steps=10, step_s=0.05)
    talk.expect(say.Phase)
    talk.send(say.Drain())
    talk.expect(say.Completed)
    talk.send(say.Cancel(job="x", attempt=1, token=1))  # its answer is sent after any Ready
    talk.expect(say.Stopped)
    first, *later = talk.all(say.Ready)
    assert first.slots == 1
    assert [ready.slots for ready in later] == [0] * len(later)
    assert later[-1] == say.Ready(slots=0)
