"""A day in which workers crash, wires break and the service is killed: its cost, and what must never happen."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from events.jobs import JobFailed, JobLeased
from tests.simulation.clock import clock, play
from tests.simulation.machine import Machine, spools
from tests.simulation.room import Room

HOUR_S = 3600.0
CRASH_EVERY_S = 12 * HOUR_S  # each worker: half of them the child alone, half the whole machine
CUT_EVERY_S = 1 * HOUR_S  # each worker
RESTART_EVERY_S = 6 * HOUR_S
CUT_MEDIAN_S, CUT_SIGMA = 8.0, math.log(120 / 8) / 1.645  # p95 is 2 min
CHILD_DOWN_S, MACHINE_DOWN_S, SERVICE_DOWN_S = (5.0, 20.0), (30.0, 300.0), (2.0, 60.0)
VIDEOS = 0.4  # of the jobs; with them a crash costs 69 s of work in the mean, as in the study of leases
VIDEO_STEPS = (20, 90)  # 54 to 208 s
MEAN_S = 0.6 * 6.0 + VIDEOS * 131.0
LOAD = 0.75


class Outages(msgspec.Struct, frozen=True):
    """What a run saw; `wasted_s` are seconds of devices spent on attempts that brought no result."""

    jobs: int
    completed: int
    failed: int
    busy_s: float
    wasted_s: float
    second_runs: int
    adopted: int
    crashes: int
    cuts: int
    restarts: int
    violations: tuple[str, ...]

    @property
    def waste(self) -> float:
        """The share of the devices' time that was wasted."""
        return self.wasted_s / self.busy_s


def outages(hours: float, *, machines: int = 8, seed: int = 1) -> Outages:
    """So many hours of work and faults, then until the last job has ended."""
    with spools() as folder:
        return play(_run(Path(folder), hours * HOUR_S, machines, seed), seed)


class _Faults:
    """What goes wrong, each kind in its own time."""

    def __init__(self, room: Room, seed: int) -> None:
        self._room = room
        self._dice = random.Random(seed)
        self.crashes = self.cuts = self.restarts = 0
        kinds = [(RESTART_EVERY_S, self._restart)]
        for machine in room.machines:
            kinds.append((CUT_EVERY_S, self._of(self._cut, machine)))
            kinds.append((CRASH_EVERY_S, self._of(self._crash, machine)))
        self._tasks = [asyncio.create_task(self._again(every_s, happen)) for every_s, happen in kinds]
        self._is_over = False

    async def end(self) -> None:
        """Let what is broken be mended, and break nothing more."""
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _again(self, every_s: float, happen: Callable[[], Awaitable[None]]) -> None:
        next_s = self._dice.expovariate(1 / every_s)
        while not self._is_over:
            await asyncio.sleep(min(next_s, 60.0))  # to see soon that it is over
            next_s -= 60.0
            if next_s <= 0:
                await happen()
                next_s = self._dice.expovariate(1 / every_s)

    @staticmethod
    def _of(happen: Callable[[Machine], Awaitable[None]], machine: Machine) -> Callable[[], Awaitable[None]]:
        return lambda: happen(machine)

    async def _restart(self) -> None:
        self.restarts += 1
        self._room.stop()
        await asyncio.sleep(self._dice.uniform(*SERVICE_DOWN_S))
        self._room.start()

    async def _cut(self, machine: Machine) -> None:
        self.cuts += 1
        machine.cut(is_noticed=self._dice.random() < 0.5)
        await asyncio.sleep(CUT_MEDIAN_S * math.exp(CUT_SIGMA * self._dice.gauss(0, 1)))
        machine.mend()

    async def _crash(self, machine: Machine) -> None:
        self.crashes += 1
        if self._dice.random() < 0.5:
            machine.kill_child()
            await asyncio.sleep(self._dice.uniform(*CHILD_DOWN_S))
            machine.start_child()
        else:
            await machine.kill()
            await asyncio.sleep(self._dice.uniform(*MACHINE_DOWN_S))
            machine.start()


async def _run(folder: Path, seconds: float, machines: int, seed: int) -> Outages:
    room = Room(folder, seed, machines=machines, keeps=2)
    faults = _Faults(room, seed)
    dice, jobs, at_s = room.dice, 0, 0.0
    while (at_s := at_s + dice.expovariate(LOAD * machines / MEAN_S)) < seconds:
        await asyncio.sleep(max(0.0, at_s - clock().time()))
        is_video = dice.random() < VIDEOS
        room.submit("u", "video" if is_video else "picture", dice.randint(*VIDEO_STEPS) if is_video else 20)
        jobs += 1
    await faults.end()
    while room.ledger.state.jobs:  # noqa: ASYNC110 - what is waited for is the service's own state
        await asyncio.sleep(1.0)
    return _seen(room, faults, jobs)


def _seen(room: Room, faults: _Faults, jobs: int) -> Outages:
    events = [record.event for record in room.ledger.records]
    busy_s = room.meter.busy_s
    return Outages(
        jobs=jobs,
        completed=len(room.completed),
        failed=sum(isinstance(event, JobFailed) for event in events),
        busy_s=sum(busy_s.values()),
        wasted_s=sum(s for (job, attempt), s in busy_s.items() if room.completed.get(job) != attempt),
        second_runs=sum(isinstance(e, JobLeased) and not e.adopted and e.attempt > 1 for e in events),
        adopted=sum(isinstance(event, JobLeased) and event.adopted for event in events),
        crashes=faults.crashes,
        cuts=faults.cuts,
        restarts=faults.restarts,
        violations=tuple(room.violations),
    )
