"""Who runs next: the scheduler as a pure function of live state and one worker."""

from __future__ import annotations

import heapq
from collections.abc import Collection

from projections.live import LiveJob, LiveState, LiveWorker


def pick(state: LiveState, worker: LiveWorker, slots: int, offered: Collection[str]) -> list[str]:
    """Up to `slots` job ids for `worker`, best first: by priority, then first come, over all running queues.

    Jobs that are offered to somebody already, and jobs this worker cannot run, are passed over without
    holding up the line behind them.
    """
    chosen: list[str] = []
    lines = [queue.order.places for queue in state.queues.values() if not queue.is_paused]
    for _, _, job in heapq.merge(*lines):
        if len(chosen) == slots:
            break
        if job not in offered and can_run(worker, state.jobs[job]):
            chosen.append(job)
    return chosen


def can_run(worker: LiveWorker, job: LiveJob) -> bool:
    """Whether the worker said it has the job's model for the job's task."""
    return job.model in worker.models.get(job.task, ())
