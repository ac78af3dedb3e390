"""What becomes of a job whose attempt ended without a result: another try after a pause, or the end."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from events.envelope import Draft
from events.jobs import JobCancelled, JobError, JobFailed, JobRequeued, RequeueReason
from events.workers import WorkerQuarantined
from projections.live import TAKES_DOWN, LiveState
from projections.live_job import FAULT_OF, Fault, LiveJob


class Policy(msgspec.Struct, frozen=True):
    """How often a job may meet a fault, and the pause before its next try: it doubles each time."""

    most: int
    pause_s: float


POLICIES: Mapping[Fault, Policy] = {
    "lost": Policy(5, 0.0),  # not the job's fault, but one that meets it this often ends failed
    "crash": Policy(3, 1.0),  # a poisonous job cannot loop for ever
    "timeout": Policy(2, 5.0),
    "internal": Policy(2, 1.0),
}
"""Since the last retry by a person. Failures of other kinds (bad input, a missing model, out of memory) would only
happen again: they end the job at once."""

MAX_PAUSE_S = 300.0
QUARANTINE_AFTER = 3
"""Different jobs that a worker takes down in a row before it gets no more."""


def again(job: LiveJob, reason: RequeueReason, error: JobError, at_us: int) -> Draft:
    """The next try of a running job that met the fault `reason`, or its end by `error` when it met it too often.

    A job that somebody wants cancelled is cancelled instead.
    """
    stream = f"job/{job.id}"
    if job.cancel_requested:
        return Draft(stream=stream, event=JobCancelled(attempt=job.attempt))
    policy = POLICIES[FAULT_OF[reason]]
    met = job.faults.get(FAULT_OF[reason], 0) + 1
    if met >= policy.most:
        return Draft(stream=stream, event=JobFailed(attempt=job.attempt, error=error))
    pause_s = min(policy.pause_s * 2 ** (met - 1), MAX_PAUSE_S)
    not_before_us = at_us + round(pause_s * 1e6) if pause_s else None
    detail = None if error.kind == "lost" else error.message
    event = JobRequeued(attempt=job.attempt, reason=reason, detail=detail, not_before_us=not_before_us)
    return Draft(stream=stream, event=event)


def quarantine(state: LiveState, job: LiveJob, kind: str) -> list[Draft]:
    """The worker's quarantine, when this failure of `job` is one too many in a row from different jobs."""
    if kind not in TAKES_DOWN or job.worker in state.quarantined:
        return []
    known = state.failing.get(job.worker, ())
    jobs = known if job.id in known else (*known, job.id)
    if len(jobs) < QUARANTINE_AFTER:
        return []
    why = f"{len(jobs)} different jobs in a row ended in a crash or out of memory"
    event = WorkerQuarantined(worker=job.worker, jobs=jobs, why=why)
    return [Draft(stream=f"worker/{job.worker}", event=event)]
