"""Who runs next: the scheduler as a pure function of live state and one worker."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from projections.live import LiveQueue, LiveState, LiveWorker
from projections.live_job import LiveJob
from projections.queue_order import Place
from service.scheduling.eligible import can_run

LOOK_AHEAD = 16
"""How far behind the first a job may stand that is taken before it because its model is loaded."""

MAX_PASSED = 4
"""How often a job may be passed over for that: then it is its turn, whatever is loaded."""


class Pick(msgspec.Struct, frozen=True):
    """A job for a worker; `passed` is the one that stood first, when this one's loaded model went before it."""

    job: str
    passed: str | None = None


def pick(state: LiveState, worker: LiveWorker, slots: int, offered: Collection[str]) -> list[Pick]:
    """Up to `slots` jobs for `worker`, best first, over all queues that are not paused.

    Background jobs come last; then the higher priority; then, by the queue's policy, who came first or whose
    submitter had the least GPU time; where queues compete, who was submitted first. What is offered to somebody
    already, what this worker cannot run, and whose submitter has all running that it may, is passed over without
    holding up the line behind it. Offered jobs count as running.
    """
    if worker.name in state.quarantined:
        return []
    turn = _Turn(state, worker, offered)
    chosen: list[Pick] = []
    while len(chosen) < slots and (found := turn.next()) is not None:
        chosen.append(found)
    return chosen


class _Turn:
    """One worker's turn: what has been taken, and what that does to clocks and caps, before the log says so."""

    def __init__(self, state: LiveState, worker: LiveWorker, offered: Collection[str]) -> None:
        self._state = state
        self._worker = worker
        self._taken: set[str] = set()
        self._charged: dict[tuple[str, str], float] = {}  # (queue, submitter) -> seconds over weight
        self._running: dict[str, int] = {}  # submitter -> jobs taken
        self._can_run: dict[str, bool] = {}  # model -> whether this worker can
        self._capped = {
            submitter for key in state.keys if self._is_capped(submitter := f"key/{key}")
        }  # who has all running that it may
        for job in offered:
            if job in state.jobs:
                self._take(state.jobs[job])

    def next(self) -> Pick | None:
        """The best job that is left."""
        best: tuple[tuple[bool, int, int], LiveJob] | None = None
        for queue in self._state.queues.values():
            first = None if queue.is_paused else self._first(queue)
            if first is not None:
                key = (first.is_background, -first.priority, first.submitted)
                if best is None or key < best[0]:
                    best = (key, first)
        if best is None:
            return None
        first = best[1]
        warm = self._warm_before(first)
        self._take(warm or first)
        return Pick(first.id) if warm is None else Pick(warm.id, passed=first.id)

    def _first(self, queue: LiveQueue) -> LiveJob | None:
        """The queue's own choice. The loop is written out: a thousand submitters have thousands of lanes."""
        is_fair = queue.rules.policy == "fair"
        best: tuple[tuple[bool, int, float, str, int], Place] | None = None
        for submitter, lanes in queue.order.lanes.items():
            if submitter in self._capped:
                continue
            clock = self._clock(queue, submitter) if is_fair else 0.0
            for model, lane in lanes.items():
                if not (self._can_run.get(model) or self._runnable(model, lane)):
                    continue
                place = lane[0] if lane[0][4] not in self._taken else self._head(lane)
                if place is None:
                    continue
                key = (place[0], place[1], clock, place[2], place[3])
                if best is None or key < best[0]:
                    best = (key, place)
        return self._state.jobs[best[1][4]] if best is not None else None

    def _warm_before(self, first: LiveJob) -> LiveJob | None:
        """The nearest job behind `first` that needs no loading, if one is near enough and `first` can bear it."""
        warm = self._worker.warm
        if not warm or first.model == warm or first.passed >= MAX_PASSED:
            return None
        queue = self._state.queues[first.queue]
        submitters = [first.submitter] if queue.rules.policy == "fair" else list(queue.order.lanes)
        heads = [
            place
            for submitter in submitters
            if submitter not in self._capped and (lane := queue.order.lanes[submitter].get(warm))
            if self._runnable(warm, lane) and (place := self._head(lane)) is not None
        ]
        nearest = min((place for place in heads if place[:2] == first.place[:2]), default=None)
        if nearest is None or queue.order.index(nearest) - queue.order.index(first.place) > LOOK_AHEAD:
            return None
        return self._state.jobs[nearest[4]]

    def _take(self, job: LiveJob) -> None:
        self._taken.add(job.id)
        self._running[job.submitter] = self._running.get(job.submitter, 0) + 1
        if self._is_capped(job.submitter):
            self._capped.add(job.submitter)
        key = (job.queue, job.submitter)
        seconds = self._state.predicted_s(job, self._worker) / self._state.limits_of(job.submitter).weight
        self._charged[key] = self._charged.get(key, 0.0) + seconds

    def _head(self, lane: list[Place]) -> Place | None:
        return next((place for place in lane if place[4] not in self._taken), None)

    def _clock(self, queue: LiveQueue, submitter: str) -> float:
        return queue.clocks.of(submitter) + self._charged.get((queue.name, submitter), 0.0)

    def _runnable(self, model: str, lane: list[Place]) -> bool:
        if model not in self._can_run:
            self._can_run[model] = can_run(self._worker, self._state.jobs[lane[0][4]])
        return self._can_run[model]

    def _is_capped(self, submitter: str) -> bool:
        most = self._state.limits_of(submitter).max_running
        return most is not None and self._state.running_of(submitter) + self._running.get(submitter, 0) >= most
