"""Three users and one worker for a day: A floods it with pictures, C with videos, B asks for one now and then."""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path

import msgspec

from events.jobs import JobLeased, JobSubmitted
from events.queues import Policy
from tests.simulation.clock import clock, play
from tests.simulation.machine import spools
from tests.simulation.room import Room

KEPT = {"A": 200, "C": 20}
"""How many jobs a flooding user keeps in line."""

GAP_S = (60.0, 120.0)  # between two pictures that B asks for: 90 s in the mean


class Fairness(msgspec.Struct, frozen=True):
    """Shares of the GPU's busy time by user, and B's waits from submission to the first lease."""

    shares: dict[str, float]
    waits_s: list[float]
    busy: float  # share of the time that the device worked

    @property
    def wait_p50_s(self) -> float:
        """The median of B's waits."""
        return statistics.median(self.waits_s)

    @property
    def wait_p95_s(self) -> float:
        """What 95 in 100 of B's waits stay below."""
        return sorted(self.waits_s)[int(0.95 * len(self.waits_s))]


def fairness(policy: Policy, hours: float, seed: int = 1, noise: float = 0.1, keeps: int = 2) -> Fairness:
    """What a queue with this policy gives to whom. With `keeps` 2 both models stay on the device."""
    with spools() as folder:
        return play(_day(Path(folder), policy, hours * 3600, seed, noise, keeps), seed)


async def _day(folder: Path, policy: Policy, seconds: float, seed: int, noise: float, keeps: int) -> Fairness:
    def again(_job: str, submitter: str) -> None:
        if submitter in KEPT:
            ask_for(submitter)

    def ask_for(submitter: str) -> None:
        if submitter == "C":
            room.submit("C", "video", steps=50)
        else:
            room.submit(submitter, "picture", steps=20)

    room = Room(folder, seed, noise=noise, keeps=keeps, policy=policy, done=again)
    for submitter, jobs in KEPT.items():
        for _ in range(jobs):
            ask_for(submitter)
    while clock().time() < seconds:
        await asyncio.sleep(room.dice.uniform(*GAP_S))
        ask_for("B")
    assert not room.violations, room.violations[:3]
    return _seen(room, clock().time())


def _seen(room: Room, seconds: float) -> Fairness:
    busy_s = dict.fromkeys("ABC", 0.0)
    for (job, _), used_s in room.meter.busy_s.items():
        busy_s[room.submitter_of[job]] += used_s
    total_s = sum(busy_s.values())
    asked_at: dict[str, int] = {}
    waits_s: list[float] = []
    for record in room.ledger.records:
        if isinstance(record.event, JobSubmitted) and record.event.submitter == "B":
            asked_at[record.subject] = record.at_us
        elif isinstance(record.event, JobLeased) and record.event.attempt == 1 and record.subject in asked_at:
            waits_s.append((record.at_us - asked_at.pop(record.subject)) / 1e6)
    waits_s += [seconds - (at_us - room.ledger.records[0].at_us) / 1e6 for at_us in asked_at.values()]
    return Fairness({name: s / total_s for name, s in busy_s.items()}, waits_s, total_s / seconds)
