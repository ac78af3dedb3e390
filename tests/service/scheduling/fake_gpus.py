"""A simulated machine room: jobs arrive, wait, load, run with noise, and each was promised an ETA at submit.

The scheduler is a short one of the same kind as the real one: tier, then a warm model, then first come.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from msgspec.structs import replace

from projections.accuracy import Accuracy
from projections.costs import Costs, Spent, Work, work_of
from service.scheduling.eta import Job, Running, Worker, forward, rest_s

MEAN_RUN_S = 11.5  # of the four models below
LOOK_AHEAD, MAX_PASSED = 16, 4
TASK = "text-to-image"
MODELS = {  # load s, and the true law: s, s per step*MP, s per step*MP^2
    "small": (4.0, (0.3, 0.02, 0.005)),
    "middle": (10.0, (0.6, 0.10, 0.03)),
    "large": (20.0, (1.0, 0.25, 0.10)),
    "huge": (30.0, (2.0, 0.40, 0.20)),
}


class Tiers:
    """A line: the highest tier first, in it a warm model first, if it is near and was not preferred too often."""

    def __init__(
        self, jobs: Sequence[Job], passed: Mapping[str, int] | None = None, look_ahead: int = LOOK_AHEAD
    ) -> None:
        self.jobs = list(jobs)  # by tier, then first come
        self.passed = dict(passed or {})  # job id -> how often a warm one went before it
        self.look_ahead = look_ahead  # 1 for strictly first come first served

    def in_turn(self, workers: Sequence[Worker]) -> list[str]:
        """As they stand."""
        return [worker.name for worker in workers]

    def take(self, worker: Worker, warm: Sequence[str], at_s: float) -> Job | None:
        """The next job for `worker`, removed."""
        able = (job for job in self.jobs if worker.can_run(job) and not job.is_paused)
        near = list(islice(able, self.look_ahead))
        if not near:
            return None
        chosen = near[0]
        if self.passed.get(chosen.id, 0) < MAX_PASSED:
            same = (job for job in near if job.tier == chosen.tier and job.model in warm)
            chosen = next(same, chosen)
        if chosen is not near[0]:
            self.passed[near[0].id] = self.passed.get(near[0].id, 0) + 1
        self.jobs.remove(chosen)
        return chosen

    def copy(self) -> Tiers:
        """The same line, to be used up."""
        return Tiers(self.jobs, self.passed, self.look_ahead)

    def ended(self, job: str) -> bool:
        """Nothing is ever held back for want of a cap."""
        return False


@dataclass
class Gpu:
    """One device: what it has, since when, until when."""

    worker: Worker
    job: Job | None = None
    predicted_s: float = 0.0
    began_at: float = 0.0
    ends_at: float = 0.0
    spent: Spent | None = None

    def seen(self, at: float) -> Worker:
        """The worker as the service sees it: a running job by its steps, once they say something."""
        if self.job is None or self.spent is None:
            return self.worker
        run_s, ran_s = self.spent.compute_s, max(0.0, at - self.began_at - (self.spent.load_s or 0.0))
        left_s = rest_s(self.predicted_s, at - self.began_at, int(20 * ran_s / run_s), 20, run_s / 20)
        return replace(self.worker, running=(Running(self.job, left_s),))


class Room:
    """Some devices and a line; `promised` are (predicted, actual) seconds from submit to end, job by job."""

    def __init__(self, gpus: int, noise: float, high: float, load: float, look_ahead: int, seed: int) -> None:
        """`high` is the share of jobs in tier 1, `load` the work that arrives as a share of the devices' time,
        loads not counted: with them 0.4 keeps the devices busy for 75 %."""
        self.noise, self.high, self.dice = noise, high, random.Random(seed)
        self.gpus = [Gpu(Worker(f"w{n}", "gpu", {TASK: tuple(MODELS)})) for n in range(gpus)]
        self.gap_s = MEAN_RUN_S / load / gpus
        self.line = Tiers([], look_ahead=look_ahead)
        self.costs, self.accuracy = Costs(), Accuracy()
        self.submitted: dict[str, tuple[float, float]] = {}  # job id -> (at, promised s)
        self.promised: list[tuple[float, float]] = []

    def run(self, jobs: int) -> None:
        """Submit `jobs` jobs and wait for all of them."""
        gaps = (self.dice.expovariate(1 / self.gap_s) for _ in range(jobs))
        events = [(at, 0, number) for number, at in enumerate(accumulate(gaps))]  # sorted, so a heap
        while events:
            at, kind, number = heapq.heappop(events)
            if kind == 0:
                self._submit(number, at)
            else:
                self._end(self.gpus[number], at)
            for index, gpu in enumerate(self.gpus):
                if gpu.job is None and (job := self._next(gpu)) is not None:
                    self._begin(gpu, job, at)
                    heapq.heappush(events, (gpu.ends_at, 1, index))

    def _submit(self, number: int, at: float) -> None:
        job = Job(
            f"{number}", TASK, self.dice.choice(list(MODELS)), int(self.dice.random() < self.high), self._work()
        )
        index = next((i for i, other in enumerate(self.line.jobs) if other.tier < job.tier), None)
        self.line.jobs.insert(len(self.line.jobs) if index is None else index, job)
        workers = [gpu.seen(at) for gpu in self.gpus]
        seen = forward(workers, self.line.copy(), self.costs, self.accuracy, int(at * 1e6))
        done_s = seen.eta(job).done_s
        assert done_s is not None
        self.submitted[job.id] = (at, done_s)
        told = self.costs.predict(job.model, "gpu", job.work)
        self.accuracy.arrived(job.tier, told.run_s, int(at * 1e6))

    def _work(self) -> Work:
        side = self.dice.choice([512, 768, 1024, 1280, 1536])
        return work_of({"steps": self.dice.randint(4, 50), "width": side, "height": side})

    def _next(self, gpu: Gpu) -> Job | None:
        return self.line.take(gpu.worker, gpu.worker.warm, 0.0)

    def _begin(self, gpu: Gpu, job: Job, at: float) -> None:
        load_s, law = MODELS[job.model]
        cold_s = None if job.model in gpu.worker.warm else load_s * math.exp(0.1 * self.dice.gauss(0, 1))
        told = self.costs.predict(job.model, "gpu", job.work)
        run_s = sum(c * x for c, x in zip(law, job.work.features, strict=True))
        run_s *= math.exp(self.noise * self.dice.gauss(0, 1))
        gpu.worker = replace(gpu.worker, warm=(job.model,))
        gpu.job, gpu.began_at, gpu.ends_at = job, at, at + run_s + (cold_s or 0.0)
        gpu.predicted_s = told.run_s + (0.0 if cold_s is None else told.load_s)
        gpu.spent = Spent(run_s, cold_s, 0.0)

    def _end(self, gpu: Gpu, at: float) -> None:
        assert gpu.job is not None
        assert gpu.spent is not None
        submitted_at, promised_s = self.submitted.pop(gpu.job.id)
        self.promised.append((promised_s, at - submitted_at))
        self.costs.learn(gpu.job.model, "gpu", gpu.job.work, gpu.spent)
        self.accuracy.learn(gpu.job.tier, promised_s, at - submitted_at)
        gpu.job = None
