"""Which workers can run a job, and why none can: the reason that a waiting job shows."""

from __future__ import annotations

from projections.live import LiveState, LiveWorker
from projections.live_job import LiveJob
from service.tasks.catalog import Catalog


def can_run(worker: LiveWorker, job: LiveJob, catalog: Catalog) -> bool:
    """Whether the worker said it has the job's model for the job's task, and its device has the memory for it."""
    return job.model in worker.models.get(job.task, ()) and _has_memory(worker, job.model, catalog)


def why_nobody(state: LiveState, job: LiveJob, catalog: Catalog) -> str | None:
    """Why no worker can run the job now, for people; None when one can, be it busy."""
    able = [name for name, worker in state.workers.items() if can_run(worker, job, catalog)]
    if any(name not in state.quarantined for name in able):
        return None
    if not state.workers:
        return "no worker is connected; start one with `safelight worker`"
    if able:
        return "every worker that has it is quarantined; look at them, then release one"
    of_task = [worker for worker in state.workers.values() if worker.models.get(job.task)]
    if not of_task:
        return f"no worker can run task {job.task}; start one that can"
    with_model = [worker for worker in of_task if job.model in worker.models[job.task]]
    if not with_model:
        return f"no worker has model {job.model}; install it on one, or edit the job to use another"
    most = max(worker.memory_bytes for worker in with_model)
    return (
        f"model {job.model} needs {catalog[job.model].memory_bytes / 2**30:.1f} GiB of device memory and the "
        f"largest worker that has it has {most / 2**30:.1f}; use a smaller model or a larger device"
    )


def _has_memory(worker: LiveWorker, model: str, catalog: Catalog) -> bool:
    """A device that does not tell its memory, and a model of unknown need, are given the chance."""
    needed = catalog[model].memory_bytes if model in catalog else 0
    return worker.memory_bytes == 0 or worker.memory_bytes >= needed
