"""When each job will start and end, kept up to date, and told only when it has moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from events.envelope import Record
from events.jobs import JobEdited, JobHeld, JobMoved, JobPhaseEntered
from events.queues import QueuePaused
from projections.live import LiveState
from projections.live_job import LiveJob
from service import protocol as say
from service.handle import Handler
from service.scheduling.eligible import can_run
from service.scheduling.eta import Eta, Forecast, Running, Worker, forward, moved, rest_s
from service.scheduling.line import PickLine, described

LEAST_S = 0.25
"""Seconds between two forecasts: a burst of events makes one."""

DEPTH = 100
"""Starts that a forecast plays through; the jobs behind are told by the work before them."""

LANES = 30_000
"""Lanes that a forecast may look at, some 5 ms: every start looks at each of them, so that with thousands of
submitters fewer starts are played through."""

STALE_S = 5.0
"""Seconds after which a forecast is made anew though nothing happened but time, while something runs."""

MOST_FIRST = 20_000
"""First estimates remembered until their jobs are leased."""

Tell = Callable[[str, str, Eta, int], None]


class Told(msgspec.Struct, frozen=True):
    """An estimate that was shown, and when (monotonic seconds)."""

    eta: Eta
    at: float


class Planner:
    """Forecasts for the jobs of one service. Everything here runs in the event loop."""

    def __init__(
        self,
        handler: Handler,
        *,
        monotonic: Callable[[], float],
        clock: Callable[[], int],
        progress: Mapping[str, say.Progress],
        connected: Callable[[], Mapping[str, str]],
        tell: Tell = lambda job, queue, eta, at_us: None,
    ) -> None:
        """`clock` gives UTC microseconds. `progress` is the newest of each running job, `connected` the boot of
        every worker that has a session. `tell` is called with the job, its queue, an estimate that moved, and the
        instant (UTC microseconds) it counts from."""
        self._handler = handler
        self._monotonic = monotonic
        self._clock = clock
        self._progress = progress
        self._connected = connected
        self._tell = tell
        self._forecast: Forecast | None = None
        self._made_at = -STALE_S  # monotonic seconds
        self._made_at_us = 0
        self._made_through = 0  # the newest position that the forecast knows of
        self._has_changed = True
        self._changed: set[str] = set()  # jobs that something happened to since the newest forecast
        self._first: dict[str, float | None] = {}  # job -> seconds from submission to end as first told
        self._told: dict[str, Told] = {}
        handler.listen(self._on_records)

    def tick(self) -> None:
        """Make a forecast if it is time for one. Call it every half second or so."""
        age_s = self._monotonic() - self._made_at
        if (self._has_changed and age_s >= LEAST_S) or (self._handler.state.running and age_s >= STALE_S):
            self._plan()

    def eta(self, job: LiveJob) -> tuple[Eta, int] | None:
        """The newest estimate for a job that is in line or runs, and the instant (UTC us) that it counts from.

        None also for what came into the line after the newest forecast.
        """
        if self._forecast is None or job.status not in ("queued", "running"):
            return None
        # A submission is answered before this is told of it: its position tells that it is too new.
        is_new = job.submitted > self._made_through or job.id in self._changed
        if is_new and job.id not in self._forecast.etas:
            return None
        state, forecast = self._handler.state, self._forecast
        behind = max(0, state.queues[job.queue].order.index(job.place) - forecast.starts)
        eta = forecast.eta(described(state, job), behind, behind * forecast.mean_run_s)
        return eta, self._made_at_us

    def first_s(self, job: str) -> float | None:
        """Seconds from the submission of the job to its end, as first told; None when nothing was, or when a
        person has changed since then what it rests on."""
        if job not in self._first:
            self.tick()
        return self._first.get(job)

    def _plan(self) -> None:
        state = self._handler.state
        at_us = self._clock()
        workers = [worker for worker in map(self._worker, state.workers) if worker is not None]
        line = PickLine(state, self._handler.catalog)
        depth = max(1, min(DEPTH, LANES // max(1, line.lanes)))
        self._forecast = forward(workers, line, state.costs, state.accuracy, at_us, depth)
        self._made_at, self._made_at_us, self._has_changed = self._monotonic(), at_us, False
        self._made_through = state.position
        self._changed.clear()
        for job, eta in self._forecast.etas.items():
            self._note(state.jobs[job], eta, at_us)
        # What was told of a job that has left the line holds no longer: it is told anew when it is back.
        self._told = {job: told for job, told in self._told.items() if job in self._forecast.etas}
        self._first = {job: first for job, first in self._first.items() if job in state.jobs}

    def _note(self, job: LiveJob, eta: Eta, at_us: int) -> None:
        """Remember the first estimate of a job, and tell one that has moved."""
        is_first = job.id not in self._first and job.attempt == 0 and len(self._first) < MOST_FIRST
        if is_first and eta.done_s is not None:
            self._first[job.id] = (at_us - job.submitted_at_us) / 1e6 + eta.done_s
        told = self._told.get(job.id)
        if moved(told.eta if told else None, eta, self._made_at - told.at if told else 0.0):
            self._told[job.id] = Told(eta, self._made_at)
            self._tell(job.id, job.queue, eta, at_us)

    def _worker(self, name: str) -> Worker | None:
        """A worker that takes jobs now."""
        state = self._handler.state
        live = state.workers[name]
        if name in state.quarantined or self._connected().get(name) != live.boot:
            return None
        return Worker(
            name=name,
            worker_class=live.device,
            models=live.models,
            slots=live.slots,
            running=tuple(
                self._running(state, job)
                for job in state.attempts_of(name)
                if can_run(live, job, self._handler.catalog)
            ),
            warm=(live.warm,) if live.warm else (),
        )

    def _running(self, state: LiveState, job: LiveJob) -> Running:
        now_us = self._clock()
        elapsed_s = (now_us - job.leased_at_us) / 1e6
        progress = self._progress.get(job.id)
        step, steps = (progress.step, progress.steps) if progress is not None else (0, 0)
        # since the phase began and not since the lease: loading a model says nothing of the pace
        step_s = (now_us - job.phase_at_us) / 1e6 / step if step else 0.0
        return Running(described(state, job), rest_s(job.predicted_s, elapsed_s, step, steps, step_s))

    def _on_records(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.category == "job":
                self._changed.add(record.subject)
            match record.event:
                case JobPhaseEntered():
                    continue
                case JobHeld() | JobMoved() | JobEdited():
                    self._first[record.subject] = None
                case QueuePaused(name=name):
                    waiting = self._handler.state.queues[name].order
                    self._first |= dict.fromkeys(waiting, None)
            self._has_changed = True
