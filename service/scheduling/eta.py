"""When a job will start and end: the real scheduler, run forward on a copy with predicted costs.

What a job costs is projections/costs.py, how far predictions are off projections/accuracy.py, who goes next
is whatever the caller's `Line` says. Nothing here knows the time: all instants are seconds from now.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from projections.accuracy import Accuracy
from projections.costs import Costs, Work

DEPTH = 200  # starts that are played through; what comes later is work ahead divided by throughput
TOLD_BY_STEPS = 0.1  # from this share of its steps on a job's own pace says more than the prediction
LEAST_REST = 0.05  # of the whole: a late job is never said to end this instant
MOVED_SHARE, MOVED_S = 0.1, 2.0

Blocked = Literal["paused", "no-worker", "withheld"]
"""Why there is no instant: its queue is paused, no worker here can run it, or the scheduler gives it to nobody
as things stand (a cap, a start time)."""


class Job(msgspec.Struct, frozen=True):
    """A job as a forecast needs it; `tier` as in projections/accuracy.py."""

    id: str
    task: str
    model: str
    tier: int
    work: Work
    is_paused: bool = False


class Running(msgspec.Struct, frozen=True):
    """A job that a worker has now, and the seconds until its device is free of it (see `rest_s`)."""

    job: Job
    rest_s: float


class Worker(msgspec.Struct, frozen=True):
    """A worker that takes jobs. `models` maps a task to model ids; `slots` is how many jobs it computes at once.

    `warm` are the models in its memory, least recently used first, of which it keeps the last `keeps` (>= 1).
    """

    name: str
    worker_class: str
    models: Mapping[str, tuple[str, ...]]
    slots: int = 1
    running: tuple[Running, ...] = ()
    warm: tuple[str, ...] = ()
    keeps: int = 1

    def can_run(self, job: Job) -> bool:
        """Whether it has the job's model for the job's task."""
        return job.model in self.models.get(job.task, ())


class Line(Protocol):
    """A copy of the waiting jobs with the scheduler that hands them out. The real line never notices."""

    def in_turn(self, workers: Sequence[Worker]) -> Sequence[str]:
        """The names of workers that are free at the beginning, in the order in which they choose."""

    def take(self, worker: Worker, warm: Sequence[str], at_s: float) -> Job | None:
        """The job that `worker` gets for a free slot at `at_s`, gone from the copy; None when it gets none.

        `warm` as in Worker, but as it will be then.
        """

    def ended(self, job: str) -> bool:
        """Take note that a job's slot is free again; whether a worker that got None before may get one now."""


class Why(msgspec.Struct, frozen=True):
    """What an ETA rests on: jobs that start before it on workers that could run it, and its wait for weights."""

    jobs_ahead: int = 0
    cold_load_s: float = 0.0
    is_learning: bool = False
    blocked: Blocked | None = None


class Eta(msgspec.Struct, frozen=True):
    """When a job starts and is done, seconds from now; None when `why.blocked` says so.

    Nine jobs in ten are done by `done_p90_s`.
    """

    start_s: float | None
    done_s: float | None
    done_p90_s: float | None
    why: Why


class Doubt(msgspec.Struct, frozen=True):
    """What turns the played-through instants into an Eta: how predictions fared, as of `at_us` (UTC)."""

    accuracy: Accuracy
    at_us: int
    workers: int

    def eta(self, job: Job, start_s: float, takes_s: float, why: Why) -> Eta:
        """The wait grows by what will overtake the job, and the whole by what nine in ten stay below."""
        start_s /= 1.0 - self.accuracy.overtaking(job.tier, self.at_us, self.workers)
        done_s = start_s + takes_s
        return Eta(start_s, done_s, done_s * self.accuracy.p90_factor(job.tier, done_s), why)


class Forecast(msgspec.Struct, frozen=True):
    """What a forward run saw: `etas` of the running jobs and of the first 200 that start.

    `mean_run_s` and `throughput` (device seconds of jobs done in a second) extend it to the jobs behind.
    """

    etas: dict[str, Eta]
    workers: Sequence[Worker]
    costs: Costs
    doubt: Doubt
    is_complete: bool  # every waiting job that can start has started
    starts: int
    last_start_s: float
    mean_run_s: float
    throughput: float

    def eta(self, job: Job, jobs_between: int = 0, work_between_s: float = 0.0) -> Eta:
        """The ETA of a waiting or running job that the run's line knew.

        For a job behind the run, `jobs_between` wait between the run's last and it, and will take
        `work_between_s` of a device (`mean_run_s` times their number when that is not known).
        """
        if (known := self.etas.get(job.id)) is not None:
            return known
        if job.is_paused:
            return _never("paused")
        able = next((worker for worker in self.workers if worker.can_run(job)), None)
        if able is None:
            return _never("no-worker")
        if self.is_complete:
            return _never("withheld")
        told = self.costs.predict(job.model, able.worker_class, job.work)
        start_s = self.last_start_s + (self.mean_run_s + work_between_s) / self.throughput
        why = Why(jobs_ahead=self.starts + jobs_between, is_learning=told.is_learning)
        return self.doubt.eta(job, start_s, told.run_s + told.export_s, why)


def forward(
    workers: Sequence[Worker], line: Line, costs: Costs, accuracy: Accuracy, at_us: int, depth: int = DEPTH
) -> Forecast:
    """Hand out the jobs of `line` until it is empty or `depth` have started, each taking what `costs` predicts.

    Jobs of paused queues must not come out of the line. `line` is used up. 100 waiting jobs on 4 workers take
    0.3 ms beside what the line itself takes.
    """
    run = _Run(workers, line, costs, Doubt(accuracy, at_us, len(workers)), depth)
    run.play()
    return run.forecast()


def rest_s(predicted_s: float, elapsed_s: float, step: int = 0, steps: int = 0, step_s: float = 0.0) -> float:
    """Seconds until a running job's device is free.

    After a tenth of its `steps` by its own pace, `step_s` being their mean so far; before, what is left of
    `predicted_s` (its load included when the model was cold) after `elapsed_s` since the lease.
    """
    if steps > 0 and step >= TOLD_BY_STEPS * steps:
        return max((steps - step) * step_s, LEAST_REST * steps * step_s)
    return max(predicted_s - elapsed_s, LEAST_REST * predicted_s)


def moved(old: Eta | None, new: Eta, elapsed_s: float) -> bool:
    """Whether `new` is worth telling somebody who was told `old` (None: nothing) `elapsed_s` ago.

    It is when the end moved by more than 10 % of what is left or by more than 2 s, or became known or unknown.
    """
    if old is None or old.why.blocked != new.why.blocked:
        return True
    if old.done_s is None or new.done_s is None:
        return False
    change_s = abs(new.done_s - (old.done_s - elapsed_s))
    return change_s > MOVED_S or change_s > MOVED_SHARE * new.done_s


def _never(blocked: Blocked) -> Eta:
    return Eta(None, None, None, Why(blocked=blocked))


class _Bench:
    """A worker while the run goes on."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.warm = list(worker.warm)
        self.free = worker.slots - len(worker.running)
        self.starts = 0

    def warm_up(self, model: str) -> bool:
        """Whether the model was cold; it is the most recently used from now on."""
        is_cold = model not in self.warm
        if not is_cold:
            self.warm.remove(model)
        self.warm.append(model)
        del self.warm[: -self.worker.keeps]
        return is_cold


class _Run:
    """One forward run."""

    def __init__(self, workers: Sequence[Worker], line: Line, costs: Costs, doubt: Doubt, depth: int) -> None:
        self._workers = workers
        self._line = line
        self._costs = costs
        self._doubt = doubt
        self._depth = depth
        self._benches = [_Bench(worker) for worker in workers]
        self._able: dict[tuple[str, str], list[_Bench]] = {}  # (task, model) -> who can run it
        self._etas: dict[str, Eta] = {}
        self._ends: list[tuple[float, int, _Bench, str]] = []  # a heap: when, order of the start, where, job id
        self._starts = 0
        self._last_start_s = 0.0
        self._run_s = 0.0  # of all that started
        self._taken_s = 0.0  # the same with loads

    def play(self) -> None:
        """From now to the last start."""
        for bench in self._benches:
            for running in bench.worker.running:
                self._go_on(bench, running)
        at_s, ready = 0.0, self._in_turn()
        while True:
            for bench in ready:
                self._fill(bench, at_s)
            if self._starts == self._depth or not self._ends:
                return
            at_s, _, freed, job = heapq.heappop(self._ends)
            freed.free += 1
            ready = self._benches if self._line.ended(job) else [freed]

    def forecast(self) -> Forecast:
        """What was seen."""
        # slots that are busy at the end are those that the jobs behind can hope for
        throughput = len(self._ends) * self._run_s / self._taken_s if self._starts else 1.0
        return Forecast(
            etas=self._etas,
            workers=self._workers,
            costs=self._costs,
            doubt=self._doubt,
            is_complete=self._starts < self._depth,
            starts=self._starts,
            last_start_s=self._last_start_s,
            mean_run_s=self._run_s / max(1, self._starts),
            throughput=throughput,
        )

    def _in_turn(self) -> list[_Bench]:
        """Who chooses in which order at the beginning; later slots become free one by one."""
        free = {bench.worker.name: bench for bench in self._benches if bench.free > 0}
        return [free[name] for name in self._line.in_turn([bench.worker for bench in free.values()])]

    def _go_on(self, bench: _Bench, running: Running) -> None:
        told = self._costs.predict(running.job.model, bench.worker.worker_class, running.job.work)
        why = Why(is_learning=told.is_learning)
        self._etas[running.job.id] = self._doubt.eta(running.job, 0.0, running.rest_s + told.export_s, why)
        self._end(bench, running.rest_s, running.job)

    def _fill(self, bench: _Bench, at_s: float) -> None:
        while bench.free > 0 and self._starts < self._depth:
            job = self._line.take(bench.worker, bench.warm, at_s)
            if job is None:
                return
            self._start(bench, job, at_s)

    def _start(self, bench: _Bench, job: Job, at_s: float) -> None:
        told = self._costs.predict(job.model, bench.worker.worker_class, job.work)
        load_s = told.load_s if bench.warm_up(job.model) else 0.0
        why = Why(sum(able.starts for able in self._who_can_run(job)), load_s, told.is_learning)
        self._etas[job.id] = self._doubt.eta(job, at_s, load_s + told.run_s + told.export_s, why)
        self._starts += 1
        self._last_start_s = at_s
        self._run_s += told.run_s
        self._taken_s += load_s + told.run_s
        bench.starts += 1
        bench.free -= 1
        self._end(bench, at_s + load_s + told.run_s, job)

    def _end(self, bench: _Bench, at_s: float, job: Job) -> None:
        heapq.heappush(self._ends, (at_s, len(self._etas), bench, job.id))

    def _who_can_run(self, job: Job) -> list[_Bench]:
        key = (job.task, job.model)
        if key not in self._able:
            self._able[key] = [bench for bench in self._benches if bench.worker.can_run(job)]
        return self._able[key]
