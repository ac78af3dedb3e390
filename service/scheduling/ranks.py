"""What waiting jobs are told of their place in line, and of why nobody can run them: many jobs of one moment."""

from __future__ import annotations

from bisect import bisect_left

from projections.live import LiveQueue, LiveState
from projections.live_job import WAITING, LiveJob
from projections.queue_order import Place
from service.scheduling.eligible import why_nobody
from service.tasks.catalog import Catalog


class Ranks:
    """Ranks as of one moment. Make one for each answer: it is no longer true once `state` has moved on."""

    def __init__(self, state: LiveState, catalog: Catalog) -> None:
        self._state = state
        self._catalog = catalog
        self._why: dict[tuple[str, str], str | None] = {}  # by (task, model)
        self._blocked: dict[str, list[Place]] = {}  # queue -> places of jobs that nobody can run, in order

    def why_nobody(self, job: LiveJob) -> str | None:
        """Why no worker can run the waiting job now; None when one can, and for a job that does not wait."""
        if job.status not in WAITING:
            return None
        key = (job.task, job.model)
        if key not in self._why:
            self._why[key] = why_nobody(self._state, job, self._catalog)
        return self._why[key]

    def rank(self, job: LiveJob) -> int | None:
        """1 for the job that is next out of its queue's line, counting only those that a worker can run now.

        In a fair queue it is the place among the submitter's own jobs: whose turn it is follows from GPU time.
        None for a job that is not in line, or that nobody can run.
        """
        if job.status != "queued" or self.why_nobody(job) is not None:
            return None
        queue, place = self._state.queues[job.queue], job.place
        if queue.rules.policy == "fair":
            return 1 + sum(self._before(lane, place) for lane in queue.order.lanes[job.submitter].values())
        return 1 + queue.order.index(place) - bisect_left(self._blocked_in(queue), place)

    def _before(self, lane: list[Place], place: Place) -> int:
        """How many of a lane stand before the place and can run."""
        is_open = self.why_nobody(self._state.jobs[lane[0][4]]) is None
        return bisect_left(lane, place) if is_open else 0

    def _blocked_in(self, queue: LiveQueue) -> list[Place]:
        if queue.name not in self._blocked:
            lanes = (lane for _, _, lane in queue.order.each_lane())
            shut = (lane for lane in lanes if self.why_nobody(self._state.jobs[lane[0][4]]) is not None)
            self._blocked[queue.name] = sorted(place for lane in shut for place in lane)
        return self._blocked[queue.name]
