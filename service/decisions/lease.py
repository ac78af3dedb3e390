"""Whether a worker may have a job, and what becomes of an attempt that nobody hears of any more."""

from __future__ import annotations

from events.envelope import Draft
from events.jobs import JobError, JobLeased, RequeueReason
from projections.live import LiveState
from projections.live_job import LiveJob
from service.commands import ExpireLease, LeaseJob, TimeOutAttempt
from service.decisions.attempts import POLICIES, again
from service.refusals import FencedBoot, NotLeasable


def lease(state: LiveState, command: LeaseJob) -> list[Draft]:
    """The lease: the next attempt of a job in line, for this worker.

    Refuses a job that is not in line any more, one of a paused queue or of a submitter who has all running that
    it may, a worker in quarantine, and a boot that was replaced.
    """
    worker = state.workers.get(command.worker)
    if worker is None or worker.boot != command.boot:
        raise FencedBoot(command.worker, command.boot)
    job = state.jobs.get(command.job)
    if job is None:
        raise NotLeasable(command.job, "it has ended")
    why_not = _why_not(state, job, command)
    if why_not is not None:
        raise NotLeasable(command.job, why_not)
    event = JobLeased(
        attempt=job.attempt + 1,
        worker=command.worker,
        boot=command.boot,
        lease_s=command.lease_s,
        predicted_s=state.predicted_s(job, worker),
        passed=command.passed,
        eta_s=command.eta_s,
    )
    return [Draft(stream=f"job/{job.id}", event=event)]


def _why_not(state: LiveState, job: LiveJob, command: LeaseJob) -> str | None:
    if job.status != "queued":
        return f"it is {job.status}"
    if state.queues[job.queue].is_paused:
        return f"queue {job.queue} is paused"
    if command.worker in state.quarantined:
        return f"worker {command.worker} is quarantined: {state.quarantined[command.worker]}"
    most = state.limits_of(job.submitter).max_running
    if most is not None and state.running_of(job.submitter) >= most:
        return f"{job.submitter} may have {most} running, and has"
    return None


def expire_lease(state: LiveState, command: ExpireLease, at_us: int) -> list[Draft]:
    """The job back in its queue, if that attempt still has it; nothing otherwise."""
    job = _running(state, command.job, command.attempt)
    return [] if job is None else [lost(job, "lease-expired", at_us)]


def time_out(state: LiveState, command: TimeOutAttempt, at_us: int) -> list[Draft]:
    """The end of an attempt that takes too long, if it still has its job; nothing otherwise."""
    job = _running(state, command.job, command.attempt)
    if job is None:
        return []
    error = JobError(kind="timeout", message=f"{command.why}; look at the worker {job.worker}, then retry it")
    return [again(job, "timeout", error, at_us)]


def lost(job: LiveJob, reason: RequeueReason, at_us: int) -> Draft:
    """What becomes of a running job whose worker vanished: cancelled if that was asked, requeued, or failed."""
    error = JobError(
        kind="lost",
        message=f"{POLICIES['lost'].most} workers vanished while they had this job; look at the workers, "
        "then retry it",
    )
    return again(job, reason, error, at_us)


def _running(state: LiveState, job: str, attempt: int) -> LiveJob | None:
    live = state.jobs.get(job)
    return live if live is not None and live.status == "running" and live.attempt == attempt else None
