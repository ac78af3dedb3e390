"""Estimates against what came: jobs of four models arrive at random, each is told at once when it will be done."""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path

import msgspec

from service.scheduling.eta import Eta
from tests.service.scheduling.fake_gpus import MEAN_RUN_S
from tests.service.scheduling.fake_gpus import MODELS as FOUR
from tests.simulation.clock import clock, play
from tests.simulation.machine import spools
from tests.simulation.room import Room

SIDES_PX = (512, 768, 1024, 1280, 1536)  # 0.26 to 2.36 MP
STEPS = (4, 50)
FORECAST_S = (
    0.3  # from a submission to the forecast that first knows of it: the service makes one every half second
)
HIGH = 90
WITHIN = 0.2


class Promise(msgspec.Struct, frozen=True):
    """What a job was first told, and what came: seconds from its submission to its end."""

    done_s: float
    done_p90_s: float
    actual_s: float
    is_high: bool


class Promises(msgspec.Struct, frozen=True):
    """All of one run, in the order of the ends."""

    promises: list[Promise]
    busy: float  # share of the time that a device worked, loads included

    @property
    def share_within(self) -> float:
        """The share that was promised within 20 % of the actual time."""
        return statistics.mean(abs(p.done_s / p.actual_s - 1) <= WITHIN for p in self.promises)

    @property
    def share_below_p90(self) -> float:
        """The share that was done before its p90 bound."""
        return statistics.mean(p.actual_s <= p.done_p90_s for p in self.promises)

    @property
    def error(self) -> float:
        """The median of |promised / actual - 1|."""
        return statistics.median(abs(p.done_s / p.actual_s - 1) for p in self.promises)


def promises(
    jobs: int, *, machines: int, load: float, noise: float = 0.1, high: float = 0.0, seed: int = 1
) -> Promises:
    """`load` is the work that arrives as a share of what the devices can do, model loads not counted; `high` is
    the share of jobs with a high priority."""
    with spools() as folder:
        return play(_run(Path(folder), jobs, machines, load, noise, high, seed), seed)


async def _run(
    folder: Path, jobs: int, machines: int, load: float, noise: float, high: float, seed: int
) -> Promises:
    asked: dict[str, tuple[int, bool]] = {}
    told: dict[str, tuple[float, float]] = {}
    made: list[Promise] = []

    def promise(job: str, eta: Eta, at_us: int) -> None:
        if job not in told and eta.done_s is not None and eta.done_p90_s is not None:
            since_s = (at_us - asked[job][0]) / 1e6
            told[job] = (since_s + eta.done_s, since_s + eta.done_p90_s)

    def done(job: str, submitter: str) -> None:
        at_us, is_high = asked[job]
        if job in told:  # else it was done before the next forecast, within a third of a second
            made.append(Promise(*told[job], (clock().utc_us() - at_us) / 1e6, is_high))

    room = Room(
        folder, seed, machines=machines, noise=noise, done=done,
        tell=lambda job, queue, eta, at_us: promise(job, eta, at_us),
    )  # fmt: skip
    dice, at_s = room.dice, 10.0
    for _ in range(jobs):
        at_s += dice.expovariate(load * machines / MEAN_RUN_S)
        await asyncio.sleep(max(0.0, at_s - clock().time()))
        is_high = dice.random() < high
        job = room.submit(
            "u",
            dice.choice(list(FOUR)),
            dice.randint(*STEPS),
            dice.choice(SIDES_PX),
            priority=HIGH if is_high else 50,
        )
        asked[job] = (clock().utc_us(), is_high)
        await asyncio.sleep(FORECAST_S)
        room.planner.tick()
        waiting = room.ledger.state.jobs.get(job)
        if waiting is not None and (eta := room.planner.eta(waiting)) is not None:
            promise(job, *eta)  # behind the forecast's depth nobody is told by himself
    ended_s = clock().time()
    busy = sum(room.meter.busy_s.values()) / ended_s / machines
    while room.ledger.state.jobs:  # noqa: ASYNC110 - what is waited for is the service's own state
        await asyncio.sleep(1.0)
    assert not room.violations, room.violations[:3]
    assert len(made) >= 0.99 * jobs, f"{jobs - len(made)} of {jobs} jobs were told nothing"
    return Promises(made, busy)
