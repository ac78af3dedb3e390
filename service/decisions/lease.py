"""Whether a worker may have a job, and what becomes of a lease that lapsed."""

from __future__ import annotations

from events.envelope import Draft
from events.jobs import JobCancelled, JobError, JobFailed, JobLeased, JobRequeued, RequeueReason
from projections.live import LiveJob, LiveState
from service.commands import ExpireLease, LeaseJob
from service.refusals import FencedBoot, NotLeasable

MAX_LOSSES = 5
"""Attempts whose worker vanished: not the job's fault, but a job that meets it this often ends failed."""


def lease(state: LiveState, command: LeaseJob) -> list[Draft]:
    """The lease: the next attempt of a waiting job, for this worker.

    Refuses a job that does not wait any more, one of a paused queue, and a boot that was replaced.
    """
    worker = state.workers.get(command.worker)
    if worker is None or worker.boot != command.boot:
        raise FencedBoot(command.worker, command.boot)
    job = state.jobs.get(command.job)
    if job is None:
        raise NotLeasable(command.job, "it has ended")
    if job.status != "queued":
        raise NotLeasable(command.job, f"it is {job.status}")
    if state.queues[job.queue].is_paused:
        raise NotLeasable(command.job, f"queue {job.queue} is paused")
    event = JobLeased(attempt=job.attempt + 1, worker=command.worker, boot=command.boot, lease_s=command.lease_s)
    return [Draft(stream=f"job/{job.id}", event=event)]


def expire_lease(state: LiveState, command: ExpireLease) -> list[Draft]:
    """The job back in its queue, if that attempt still has it; nothing otherwise."""
    job = state.jobs.get(command.job)
    if job is None or job.status != "running" or job.attempt != command.attempt:
        return []
    return [lost(job, "lease-expired")]


def lost(job: LiveJob, reason: RequeueReason) -> Draft:
    """What becomes of a running job whose worker vanished: cancelled if that was asked, requeued, or failed."""
    stream = f"job/{job.id}"
    if job.cancel_requested:
        return Draft(stream=stream, event=JobCancelled(attempt=job.attempt))
    if job.losses + 1 < MAX_LOSSES:
        return Draft(stream=stream, event=JobRequeued(attempt=job.attempt, reason=reason))
    error = JobError(
        kind="lost",
        message=f"{MAX_LOSSES} workers vanished while they had this job; look at the workers, then retry it",
    )
    return Draft(stream=stream, event=JobFailed(attempt=job.attempt, error=error))
