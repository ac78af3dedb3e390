"""The step engine against the stock pipeline, in one process: the embedded model, one torch thread, no service.

Several pictures at once, jobs that arrive at random, a cancel, a job that comes before another. Random arrivals are
replayed from one seed in three ways: one job after the other, batches that are formed from who waits and end
together (given their best case: step counts may differ and nobody is padded), and jobs that join at every step.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Bar, Row, against, figure, in_turn
from service.tasks.catalog import EMBEDDED, complete
from service.worker.engine.engine import Engine, Member
from service.worker.engine.learning import Learned
from service.worker.run import Cancelled, Run

MODEL = EMBEDDED["demo"]
PROMPT = "a large red circle on a blue background"
LOAD = 1.3
"""Arrivals a second over what one job after the other gets done. Nobody can get more done than arrives, so
throughput is counted over the seconds in which there was a job."""

STEPS = (8, 20, 50)
MOST = 8
"""Jobs in a static batch."""


class Arrival(NamedTuple):
    """A job that comes `at_s` after the beginning."""

    at_s: float
    seed: int
    steps: int


class Machine:
    """The loaded model, and what is known of it."""

    def __init__(self) -> None:
        import torch

        from service.worker.pipelines import text_to_image

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self.loaded = text_to_image.load(MODEL, "cpu", 1)
        self.learned = Learned()
        self.compute: Callable[[Run, Any], Any] = text_to_image.compute

    def run(self, seed: int, steps: int = 20) -> Run:
        """A run as the child has it, whose words go nowhere."""
        params = complete("text-to-image", MODEL, {"prompt": PROMPT, "seed": seed, "steps": steps}, seed)
        return Run(str(seed), 1, MODEL, params, Path(), lambda frame: None, lambda: False)

    def join(self, engine: Engine, run: Run, priority: int = 50) -> Member:
        """The run as a member of the engine."""
        return engine.join(partial(self.compute, run, self.loaded), run.job, priority, run.park)

    def stock(self, seeds: range, steps: int = 20) -> None:
        """One stock call of the pipeline for all seeds."""
        import torch

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        side = MODEL.defaults["width"] // MODEL.enlarge
        self.loaded.pipe(
            [PROMPT] * len(seeds),
            num_inference_steps=steps,
            guidance_scale=MODEL.defaults["guidance"],
            width=side,
            height=side,
            generator=generators,
            output_type="np",
        )


def rows(quick: bool) -> list[Row]:
    """Every bar of the engine."""
    machine = Machine()
    for _ in range(3):
        _together(machine, 8)
        machine.stock(range(8))
    rounds = 3 if quick else 9
    return [
        *_eight(machine, rounds),
        *_arrivals(machine, 12 if quick else 40, 1 if quick else 3),
        *_turns(machine, rounds),
    ]


def _row(name: str, unit: str, values: list[float], bar: Bar) -> Row:
    return Row(name=name, unit=unit, ours=figure(values), bar=bar)


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _median_s(times: int, act: Callable[[], object]) -> float:
    return statistics.median(_seconds(act) for _ in range(times))


def _finish(engine: Engine) -> None:
    while len(engine):
        engine.tick()


def _together(machine: Machine, jobs: int, steps: int = 20) -> None:
    engine = Engine(machine.learned)
    members = [machine.join(engine, machine.run(seed, steps)) for seed in range(jobs)]
    _finish(engine)
    assert all(member.error is None for member in members), members[0].error


def _one_after_another(machine: Machine) -> None:
    for seed in range(8):
        machine.stock(range(seed, seed + 1))


def _eight(machine: Machine, rounds: int) -> list[Row]:
    ours, singles, batched = in_turn(
        rounds,
        [
            lambda: _seconds(lambda: _together(machine, 8)),
            lambda: _seconds(partial(_one_after_another, machine)),
            lambda: _seconds(lambda: machine.stock(range(8))),
        ],
    )
    return [
        against("8 pictures together", "s", ours, singles, "8 stock calls", bar=Bar(0.60, is_of_ratio=True)),
        against("8 pictures together", "s", ours, batched, "one stock call of 8", bar=Bar(1.05, is_of_ratio=True)),
    ]


# arrivals


def _arrivals(machine: Machine, jobs: int, rounds: int) -> list[Row]:
    alone_s = {steps: _median_s(3, partial(_together, machine, 1, steps)) for steps in STEPS}
    throughput: list[float] = []
    mean: list[float] = []
    of_static: list[float] = []
    for number in range(rounds):
        arrivals = _draw(random.Random(number), jobs, alone_s)
        spent = [way(machine, arrivals) for way in (_one_by_one, _static, _continuous)]
        one, static, ours = spent
        throughput.append(one[0] / ours[0])
        mean.append(ours[1] / one[1])
        of_static.append(ours[1] / static[1])
    what = f"{jobs} arrivals at {LOAD}x the capacity, 8, 20 or 50 steps"
    return [
        _row(f"{what}: throughput over one by one", "x", throughput, Bar(1.5, is_floor=True)),
        _row("  mean latency over one by one", "x", mean, Bar(0.35)),
        _row("  mean latency over static batches", "x", of_static, Bar(0.8)),
    ]


def _draw(chance: random.Random, jobs: int, alone_s: dict[int, float]) -> list[Arrival]:
    steps = [chance.choice(STEPS) for _ in range(jobs)]
    gap_s = statistics.mean(alone_s[count] for count in steps) / LOAD
    at_s = 0.0
    found = []
    for seed, count in enumerate(steps):
        at_s += chance.expovariate(1 / gap_s)
        found.append(Arrival(at_s, seed, count))
    return found


def _one_by_one(machine: Machine, arrivals: list[Arrival]) -> tuple[float, float]:
    return _served(arrivals, lambda waiting: _alone(machine, [waiting.popleft()]))


def _static(machine: Machine, arrivals: list[Arrival]) -> tuple[float, float]:
    return _served(
        arrivals, lambda waiting: _alone(machine, [waiting.popleft() for _ in range(min(MOST, len(waiting)))])
    )


def _alone(machine: Machine, batch: list[Arrival]) -> list[Arrival]:
    """Compute a batch that nobody joins; all of it is done at its end."""
    engine = Engine(machine.learned)
    for arrival in batch:
        machine.join(engine, machine.run(arrival.seed, arrival.steps))
    _finish(engine)
    return batch


def _served(arrivals: list[Arrival], serve: Callable[[deque[Arrival]], list[Arrival]]) -> tuple[float, float]:
    """Seconds in which there was a job, and the mean from arrival to end."""
    coming, waiting = deque(arrivals), deque[Arrival]()
    took: list[float] = []
    idle_s = 0.0
    began = time.perf_counter()
    while coming or waiting:
        while coming and coming[0].at_s <= time.perf_counter() - began:
            waiting.append(coming.popleft())
        if not waiting:
            idle_s += _sleep_until(began + coming[0].at_s)
            continue
        done = serve(waiting)
        took += [time.perf_counter() - began - arrival.at_s for arrival in done]
    return time.perf_counter() - began - idle_s, statistics.mean(took)


def _sleep_until(instant: float) -> float:
    seconds = max(0.0, instant - time.perf_counter())
    time.sleep(seconds)
    return seconds


def _continuous(machine: Machine, arrivals: list[Arrival]) -> tuple[float, float]:
    coming = deque(arrivals)
    engine = Engine(machine.learned)
    members: dict[Member, Arrival] = {}
    took: list[float] = []
    idle_s = 0.0
    began = time.perf_counter()
    while coming or len(engine):
        while coming and coming[0].at_s <= time.perf_counter() - began:
            arrival = coming.popleft()
            members[machine.join(engine, machine.run(arrival.seed, arrival.steps))] = arrival
        if not len(engine):
            idle_s += _sleep_until(began + coming[0].at_s)
            continue
        took += [time.perf_counter() - began - members.pop(member).at_s for member in engine.tick()]
    return time.perf_counter() - began - idle_s, statistics.mean(took)


# turns


def _turns(machine: Machine, rounds: int) -> list[Row]:
    other = Machine()  # the same weights once more: its jobs cannot share calls with the first one's
    step_s = _median_s(rounds, partial(_together, machine, 1, 50)) / 50
    return [
        _row("a cancel, of one job or one of four, until it is obeyed",
            "steps",
            [_cancel_steps(machine, jobs) for _ in range(rounds) for jobs in (1, 4)],
            Bar(0.5),
        ),
        _row(
            "what it costs a job to be parked for another", "steps",
            [_parked_steps(machine, other, step_s) for _ in range(rounds)], Bar(2.0),
        ),
        _row(
            "a job of high priority on a busy device, until its first step", "steps",
            [_urgent_steps(machine, other, step_s) for _ in range(rounds)], Bar(2.0),
        ),
    ]  # fmt: skip


def _cancel_steps(machine: Machine, jobs: int) -> float:
    """From a halt by another thread, at any time within a step, until the member is over; in steps of that call."""
    engine = Engine(machine.learned)
    runs = [machine.run(seed, 150) for seed in range(jobs)]
    members = [machine.join(engine, run) for run in runs]
    for _ in range(30):
        engine.tick()
    ticks = [_seconds(engine.tick) for _ in range(20)]
    step_s = statistics.median(ticks)
    told_at: list[float] = []

    def halt() -> None:
        told_at.append(time.perf_counter())
        runs[0].halt()

    threading.Timer(random.uniform(1.0, 2.0) * step_s, halt).start()
    while not members[0].dead:
        if runs[0].is_halted:
            members[0].halt_with = Cancelled()
        engine.tick()
    return (time.perf_counter() - told_at[0]) / step_s


def _parked_steps(machine: Machine, other: Machine, step_s: float) -> float:
    """Two jobs of which one stands while the other computes, over the two one after the other."""

    def both() -> None:
        engine = Engine(machine.learned)
        machine.join(engine, machine.run(1, 40))
        for _ in range(15):
            engine.tick()
        urgent = other.join(engine, other.run(2, 20), priority=90)
        while not urgent.dead:
            engine.tick()
        _finish(engine)

    def one_after_the_other() -> None:
        _together(machine, 1, 40)
        _together(other, 1, 20)

    together_s, apart_s = in_turn(3, [lambda: _seconds(both), lambda: _seconds(one_after_the_other)])
    return (statistics.median(together_s) - statistics.median(apart_s)) / step_s


def _urgent_steps(machine: Machine, other: Machine, step_s: float) -> float:
    """From joining a busy engine until its first step is done, in steps of a job alone."""
    engine = Engine(machine.learned)
    machine.join(engine, machine.run(1, 40))
    for _ in range(10):
        engine.tick()
    urgent = other.run(2, 20)
    began = time.perf_counter()
    other.join(engine, urgent, priority=90)
    while urgent.step < 1:
        engine.tick()
    return (time.perf_counter() - began) / step_s
