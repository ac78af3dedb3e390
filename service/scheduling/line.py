"""The waiting line with the real scheduler on it, as a copy that a forecast may use up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from projections.live import LiveQueue, LiveState, LiveWorker
from projections.live_job import LiveJob
from projections.queue_order import QueueOrder
from service.scheduling import eta
from service.scheduling.pick import in_turn, pick
from service.tasks.catalog import Catalog


class PickLine:
    """A `Line` of service/scheduling/eta.py: the queues of `state` as they are now, and `pick` to hand them out.

    What `pick` looks at and a start changes is copied: lines, clocks, counts, how often a job was passed.
    10,000 waiting jobs are copied in 0.07 ms, of 1,000 submitters in 0.6 ms.
    """

    def __init__(self, state: LiveState, catalog: Catalog) -> None:
        self._catalog = catalog
        self._state = msgspec.structs.replace(
            state,
            jobs=dict(state.jobs),
            queues={name: _copied(queue) for name, queue in state.queues.items()},
        )

    @property
    def lanes(self) -> int:
        """How many lanes `pick` looks at for each start."""
        return sum(len(models) for queue in self._state.queues.values() for models in queue.order.lanes.values())

    def in_turn(self, workers: Sequence[eta.Worker]) -> list[str]:
        """The names of free workers, in the order in which they choose."""
        state = self._state
        told = [self._told(worker, worker.warm) for worker in workers]
        return [live.name for live in in_turn(state, told, (), self._catalog)]

    def take(self, worker: eta.Worker, warm: Sequence[str], at_s: float) -> eta.Job | None:
        """The job that `worker` gets next, gone from the copy."""
        state = self._state
        told = self._told(worker, warm)
        picked = pick(state, told, 1, (), self._catalog)
        if not picked:
            return None
        job = state.jobs[picked[0].job]
        queue = state.queues[job.queue]
        queue.order.remove(job.place, job.submitter, job.model)
        queue.running_of[job.submitter] = queue.running_of.get(job.submitter, 0) + 1
        weight = state.limits_of(job.submitter).weight
        queue.clocks.charge(job.submitter, state.predicted_s(job, told), weight)
        if picked[0].passed is not None:
            first = state.jobs[picked[0].passed]
            state.jobs[first.id] = msgspec.structs.replace(first, passed=first.passed + 1)
        return described(state, job)

    def ended(self, job: str) -> bool:
        """Take note of a free slot; whether somebody's cap has room again."""
        live = self._state.jobs[job]
        running_of = self._state.queues[live.queue].running_of
        running_of[live.submitter] = running_of.get(live.submitter, 1) - 1
        return self._state.limits_of(live.submitter).max_running is not None

    def _told(self, worker: eta.Worker, warm: Sequence[str]) -> LiveWorker:
        """The worker as it will be then."""
        return msgspec.structs.replace(self._state.workers[worker.name], warm=warm[-1] if warm else "")


def described(state: LiveState, job: LiveJob) -> eta.Job:
    """The job as a forecast needs it."""
    return eta.Job(
        id=job.id,
        task=job.task,
        model=job.model,
        tier=job.tier,
        work=job.work,
        is_paused=state.queues[job.queue].is_paused,
    )


def _copied(queue: LiveQueue) -> LiveQueue:
    order = queue.order
    lanes = {name: {model: lane.copy() for model, lane in lanes.items()} for name, lanes in order.lanes.items()}
    return msgspec.structs.replace(
        queue,
        order=QueueOrder(order.places.copy(), lanes),
        running_of=queue.running_of.copy(),
        clocks=msgspec.structs.replace(queue.clocks, clocks=queue.clocks.clocks.copy()),
    )
