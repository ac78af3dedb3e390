"""What people decide about one job: cancel, retry, hold, release, move."""

from __future__ import annotations

from bisect import bisect_left

from events.envelope import Draft
from events.jobs import JobCancelled, JobCancelRequested, JobHeld, JobMoved, JobReleased, JobRetried
from projections.live import LiveState
from projections.live_job import LiveJob
from projections.queue_order import Place
from projections.rank import between
from service.commands import CancelJob, HoldJob, MoveJob, ReleaseJob, RetryJob
from service.decisions.submit import check_room
from service.decisions.transitions import check
from service.refusals import CannotMove, UnknownJob


def cancel(job: LiveJob | None, command: CancelJob) -> list[Draft]:
    """The end of a waiting job, or the wish to end a running one; nothing when that was wished before.

    Refuses a job that has ended otherwise; cancelling a cancelled job again changes nothing and is fine.
    """
    if job is None:
        raise UnknownJob(command.job)
    if job.status == "cancelled" or (job.cancel_requested and job.status == "running"):
        return []
    check(job, "cancel")
    if job.status == "running":
        return [Draft(stream=f"job/{job.id}", event=JobCancelRequested(attempt=job.attempt))]
    return [Draft(stream=f"job/{job.id}", event=JobCancelled())]


def hold(job: LiveJob | None, command: HoldJob) -> list[Draft]:
    """The job out of line; nothing when it is held already."""
    if job is None:
        raise UnknownJob(command.job)
    if job.status == "held":
        return []
    check(job, "hold")
    return [Draft(stream=f"job/{job.id}", event=JobHeld())]


def release(job: LiveJob | None, command: ReleaseJob) -> list[Draft]:
    """The held job back at its place; nothing when it waits without being held."""
    if job is None:
        raise UnknownJob(command.job)
    if job.status in ("queued", "scheduled"):
        return []
    check(job, "release")
    return [Draft(stream=f"job/{job.id}", event=JobReleased())]


def retry(state: LiveState, job: LiveJob | None, command: RetryJob) -> list[Draft]:
    """A failed, cancelled or expired job back in its queue.

    Refuses any other status, a queue that takes no more, and more than the submitter's key may have.
    """
    if job is None or is_pruned(state, job):
        raise UnknownJob(command.job)
    check(job, "retry")
    check_room(state, job.queue, job.submitter, 1)
    return [Draft(stream=f"job/{job.id}", event=retried(job))]


def is_pruned(state: LiveState, job: LiveJob) -> bool:
    """Whether the job has left the views: it is history."""
    return 0 < job.ended <= state.queues[job.queue].pruned_through


def retried(job: LiveJob) -> JobRetried:
    """The event that sends a finished job back."""
    return JobRetried(
        queue=job.queue,
        task=job.task,
        model=job.model,
        priority=job.priority,
        submitter=job.submitter,
        submitted=job.submitted,
        attempt=job.attempt,
        params=job.params,
        rank=job.rank,
        batch=job.batch,
        is_background=job.is_background,
        described=job.described,
    )


def move(state: LiveState, command: MoveJob) -> list[Draft]:
    """The job at another place in its line; nothing when it stands there already.

    It takes the tier and the priority of its new neighbour, without which it would not stand there. Refuses a job
    that is not in line, another one that is not in the same line, and in a fair queue a neighbour of another
    submitter: whose turn it is follows from GPU time there.
    """
    job = _in_line(state, command.job)
    line = _line_without(state, job)
    if not line:
        return []
    index, anchor = _wanted(state, job, command, line)
    before = line[index - 1] if index else None
    behind = line[index] if index < len(line) else None
    if (before is None or before < job.place) and (behind is None or job.place < behind):
        return []
    tier = anchor[:2]
    rank = between(
        before[2] if before is not None and before[:2] == tier else "",
        behind[2] if behind is not None and behind[:2] == tier else None,
    )
    event = JobMoved(is_background=tier[0], priority=-tier[1], rank=rank)
    return [Draft(stream=f"job/{job.id}", event=event)]


def _in_line(state: LiveState, job: str) -> LiveJob:
    live = state.jobs.get(job)
    if live is None:
        raise UnknownJob(job)
    if live.status != "queued":
        raise CannotMove(job, f"it is {live.status}; only a job that is queued stands in line")
    return live


def _line_without(state: LiveState, job: LiveJob) -> list[Place]:
    """The line that the job can be moved in: of its queue, or of its submitter where the queue is fair."""
    queue = state.queues[job.queue]
    if queue.rules.policy == "fair":
        lanes = queue.order.lanes[job.submitter].values()
        return sorted(place for lane in lanes for place in lane if place[4] != job.id)
    line = list(queue.order.places)
    del line[bisect_left(line, job.place)]
    return line


def _wanted(state: LiveState, job: LiveJob, command: MoveJob, line: list[Place]) -> tuple[int, Place]:
    """The index in `line` that the job shall have, and the neighbour whose tier and priority it takes."""
    if command.where == "top":
        return 0, line[0]
    if command.where == "bottom":
        return len(line), line[-1]
    other = state.jobs.get(command.other or "")
    index = bisect_left(line, other.place) if other is not None else len(line)
    if other is None or index == len(line) or line[index] != other.place:
        raise CannotMove(job.id, _why_no_neighbour(state, job, command.other or ""))
    return index + (command.where == "after"), other.place


def _why_no_neighbour(state: LiveState, job: LiveJob, other: str) -> str:
    known = state.jobs.get(other)
    if known is None or known.status != "queued" or known.queue != job.queue:
        return f"job {other} is not in line in queue {job.queue}; name one that is"
    if known.id == job.id:
        return "it cannot stand beside itself; name another job"
    return (
        f"queue {job.queue} is fair, and job {other} is of another submitter: whose turn it is follows from GPU "
        "time; raise the priority instead"
    )
