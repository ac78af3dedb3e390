"""What a worker's hello and its end become."""

from __future__ import annotations

from events.envelope import Draft
from events.jobs import JobLeased
from events.workers import WorkerLost, WorkerRegistered, WorkerReleased
from projections.live import LiveState
from projections.live_job import LiveJob
from service.commands import HeldAttempt, LoseWorker, RegisterWorker, ReleaseWorker
from service.decisions.lease import lost
from service.refusals import UnknownWorker


def register(state: LiveState, command: RegisterWorker, at_us: int) -> list[Draft]:
    """The hello, and what it means for every attempt of this worker.

    An attempt it still holds goes on: as it is, or adopted when its lease had lapsed and nobody else has the
    job. A running job it no longer holds is lost and waits again. Another boot of the same name is fenced.
    """
    drafts = [_registration(state, command)] if _is_news(state, command) else []
    held = {attempt.job: attempt for attempt in command.held}
    drafts += [
        lost(job, "worker-restarted", at_us)
        for job in state.attempts_of(command.worker)
        if not keeps(job, held.get(job.id))
    ]
    drafts += [
        _adoption(state.jobs[attempt.job], command)
        for attempt in command.held
        if may_adopt(state.jobs.get(attempt.job), attempt)
    ]
    return drafts


def keeps(job: LiveJob | None, held: HeldAttempt | None) -> bool:
    """Whether the attempt that a worker holds is the one the job runs under.

    Under an older token too: only an adoption gives an attempt another one, which its worker may not have heard of.
    """
    if job is None or held is None or job.status != "running":
        return False
    return job.attempt == held.attempt and job.token >= held.token


def may_adopt(job: LiveJob | None, held: HeldAttempt) -> bool:
    """Whether a job that waits again after its lease lapsed can go back to the attempt that had it."""
    if job is None or job.status != "queued":
        return False
    return (job.attempt, job.token) == (held.attempt, held.token)


def lose(state: LiveState, command: LoseWorker) -> list[Draft]:
    """The end of a worker process; nothing when another boot has its name by now. Its leases run on."""
    worker = state.workers.get(command.worker)
    if worker is None or worker.boot != command.boot:
        return []
    event = WorkerLost(worker=command.worker, boot=command.boot, reason=command.reason)
    return [Draft(stream=f"worker/{command.worker}", event=event)]


def release_worker(state: LiveState, command: ReleaseWorker) -> list[Draft]:
    """The end of a worker's quarantine; nothing when it is in none. Refuses a worker that is not known."""
    name = command.worker
    if name in state.quarantined:
        return [Draft(stream=f"worker/{name}", event=WorkerReleased(worker=name))]
    if name not in state.workers:
        raise UnknownWorker(name)
    return []


def _is_news(state: LiveState, command: RegisterWorker) -> bool:
    """A reconnect of the same boot with the same abilities is no news for the log."""
    known = state.workers.get(command.worker)
    return known is None or (known.boot, known.models, known.slots) != (
        command.boot,
        command.models,
        command.slots,
    )


def _registration(state: LiveState, command: RegisterWorker) -> Draft:
    event = WorkerRegistered(
        worker=command.worker,
        boot=command.boot,
        models=command.models,
        device=command.device,
        slots=command.slots,
        versions=command.versions,
    )
    return Draft(stream=f"worker/{command.worker}", event=event)


def _adoption(job: LiveJob, command: RegisterWorker) -> Draft:
    event = JobLeased(
        attempt=job.attempt,
        worker=command.worker,
        boot=command.boot,
        lease_s=command.lease_s,
        adopted=True,
        predicted_s=job.predicted_s,
    )
    return Draft(stream=f"job/{job.id}", event=event)
