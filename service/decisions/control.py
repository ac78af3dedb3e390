"""What people decide about jobs and queues: cancel, retry, pause, resume."""

from __future__ import annotations

from events.envelope import Draft
from events.jobs import JobCancelled, JobCancelRequested, JobRetried
from events.queues import QueueCreated, QueuePaused, QueueResumed
from projections.live import LiveJob, LiveQueue, LiveState
from service.commands import CancelJob, CreateQueue, PauseQueue, ResumeQueue, RetryJob
from service.refusals import IllegalTransition, UnknownJob, UnknownQueue


def cancel(job: LiveJob | None, command: CancelJob) -> list[Draft]:
    """The end of a waiting job, or the wish to end a running one; nothing when that was wished before.

    Refuses a job that has ended otherwise; cancelling a cancelled job again changes nothing and is fine.
    """
    if job is None:
        raise UnknownJob(command.job)
    stream = f"job/{job.id}"
    match job.status:
        case "queued":
            return [Draft(stream=stream, event=JobCancelled())]
        case "running" if not job.cancel_requested:
            return [Draft(stream=stream, event=JobCancelRequested(attempt=job.attempt))]
        case "running" | "cancelled":
            return []
    raise IllegalTransition(job.id, job.status, "cancelled", ["queued", "running"])


def retry(job: LiveJob | None, command: RetryJob) -> list[Draft]:
    """A failed or cancelled job back in its queue. Refuses any other status."""
    if job is None:
        raise UnknownJob(command.job)
    if job.status not in ("failed", "cancelled"):
        raise IllegalTransition(job.id, job.status, "retried", ["failed", "cancelled"])
    event = JobRetried(
        queue=job.queue,
        task=job.task,
        model=job.model,
        priority=job.priority,
        submitter=job.submitter,
        submitted=job.submitted,
        attempt=job.attempt,
    )
    return [Draft(stream=f"job/{job.id}", event=event)]


def create_queue(state: LiveState, command: CreateQueue) -> list[Draft]:
    """The queue, unless it exists."""
    if command.queue in state.queues:
        return []
    return [Draft(stream=f"queue/{command.queue}", event=QueueCreated(name=command.queue))]


def pause_queue(state: LiveState, command: PauseQueue) -> list[Draft]:
    """The pause; nothing when the queue is paused already."""
    queue = _queue(state, command.queue)
    return [] if queue.is_paused else [Draft(stream=f"queue/{queue.name}", event=QueuePaused(name=queue.name))]


def resume_queue(state: LiveState, command: ResumeQueue) -> list[Draft]:
    """The end of the pause; nothing when the queue runs already."""
    queue = _queue(state, command.queue)
    return [Draft(stream=f"queue/{queue.name}", event=QueueResumed(name=queue.name))] if queue.is_paused else []


def _queue(state: LiveState, name: str) -> LiveQueue:
    if name not in state.queues:
        raise UnknownQueue(name, sorted(state.queues))
    return state.queues[name]
