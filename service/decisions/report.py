"""What a worker's report about an attempt becomes: conditional on the attempt still holding its job."""

from __future__ import annotations

from collections.abc import Sequence

from events.envelope import Draft, Record
from events.jobs import JobCancelled, JobCompleted, JobFailed, JobLeased, JobPhaseEntered, JobRequeued
from projections.live import LiveState
from projections.live_job import LiveJob
from service.commands import CompleteJob, ConfirmStop, FailAttempt, ReportPhase
from service.decisions.attempts import again, quarantine
from service.refusals import StaleAttempt


def holding(state: LiveState, job: str, attempt: int, token: int) -> LiveJob:
    """The running job that (attempt, token) holds. Refuses any other as stale."""
    live = state.jobs.get(job)
    if live is None:
        raise StaleAttempt(job, attempt, token, "the job has ended")
    if live.status != "running":
        raise StaleAttempt(job, attempt, token, "the job waits again")
    if (live.attempt, live.token) != (attempt, token):
        raise StaleAttempt(job, attempt, token, f"attempt {live.attempt} has it")
    return live


def is_repeat(records: Sequence[Record], attempt: int, token: int) -> bool:
    """Whether the very attempt that reports has ended the job already: its answer was lost on the way back."""
    leases = [(r.event.attempt, r.position) for r in records if isinstance(r.event, JobLeased)]
    if not leases or leases[-1] != (attempt, token):
        return False
    last = records[-1].event
    return isinstance(last, JobCompleted | JobFailed | JobCancelled) and last.attempt == attempt


def report_phase(state: LiveState, command: ReportPhase, at_us: int) -> list[Draft]:
    """The phase, once: a repeated report of the phase the job is in adds nothing."""
    job = holding(state, command.job, command.attempt, command.token)
    if job.phase == command.phase:
        return []
    event = JobPhaseEntered(attempt=command.attempt, phase=command.phase)
    return [Draft(stream=f"job/{job.id}", event=event)]


def complete_job(state: LiveState, command: CompleteJob, at_us: int) -> list[Draft]:
    """The result. It wins over a cancel that was still on its way to the worker."""
    job = holding(state, command.job, command.attempt, command.token)
    event = JobCompleted(attempt=command.attempt, artifacts=command.artifacts, facts=command.facts)
    return [Draft(stream=f"job/{job.id}", event=event)]


def fail_attempt(state: LiveState, command: FailAttempt, at_us: int) -> list[Draft]:
    """The end of the attempt: requeued while its job may try again, else failed; cancelled if asked.

    With it the quarantine of a worker that takes down one job after another.
    """
    job = holding(state, command.job, command.attempt, command.token)
    kind = command.error.kind
    if kind == "crash" or kind == "internal":
        ended = again(job, kind, command.error, at_us)
    elif job.cancel_requested:
        ended = Draft(stream=f"job/{job.id}", event=JobCancelled(attempt=command.attempt))
    else:
        ended = Draft(stream=f"job/{job.id}", event=JobFailed(attempt=command.attempt, error=command.error))
    return [ended, *quarantine(state, job, kind)]


def confirm_stop(state: LiveState, command: ConfirmStop, at_us: int) -> list[Draft]:
    """The end of a cancelled attempt; a worker that stopped without being asked hands its job back."""
    job = holding(state, command.job, command.attempt, command.token)
    stream = f"job/{job.id}"
    if job.cancel_requested:
        return [Draft(stream=stream, event=JobCancelled(attempt=command.attempt, step=command.step))]
    return [Draft(stream=stream, event=JobRequeued(attempt=command.attempt, reason="released"))]
