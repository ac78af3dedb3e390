"""What time alone does to jobs: a scheduled one becomes due, a deadline passes."""

from __future__ import annotations

from itertools import islice

from events.envelope import Draft
from events.jobs import JobBecameDue, JobExpired
from projections.live import LiveState
from projections.live_job import WAITING, LiveJob
from service.commands import Sweep


def sweep(state: LiveState, command: Sweep, at_us: int) -> list[Draft]:
    """One event for each job to which time has done something, those that waited longest first."""
    due = list(islice(state.due(at_us), command.limit))
    return [Draft(stream=f"job/{job.id}", event=_brought(job, at_us)) for job in due]


def _brought(job: LiveJob, at_us: int) -> JobBecameDue | JobExpired:
    """A deadline that has passed is worth more than a start that has come."""
    attempt = job.attempt if job.status == "running" else None
    if job.finish_deadline_us is not None and job.finish_deadline_us <= at_us:
        return JobExpired(deadline="finish", attempt=attempt)
    has_started = job.attempt > 0 or job.status not in WAITING
    if not has_started and job.start_deadline_us is not None and job.start_deadline_us <= at_us:
        return JobExpired(deadline="start")
    return JobBecameDue()
