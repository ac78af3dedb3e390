"""Fairness by GPU time: each submitter of a queue has a clock that runs while its jobs compute.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with the seconds of predicted GPU time as the length
of a job: the clock moves by seconds / weight when a job is leased, and is put right when it ends. Whoever has
the smallest clock is next. Who comes back after a pause starts at the smallest clock of those who are active:
nobody saves up a claim by not asking, and nobody is punished for what was used while others did not want it.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

MOST = 10_000
"""Clocks kept. Beyond it those of submitters without jobs are dropped; they would start at the smallest anyway."""


class FairClocks(msgspec.Struct):
    """The clocks of one queue, seconds of GPU time over weight."""

    clocks: dict[str, float] = {}
    floor: float = 0.0  # the smallest clock when anybody was last active: it never falls

    def join(self, submitter: str, active: Collection[str]) -> None:
        """A submitter that had no unfinished job here has one now. `active` are the others that have."""
        self.floor = max(self.floor, min((self.of(other) for other in active), default=self.floor))
        self.clocks[submitter] = max(self.clocks.get(submitter, 0.0), self.floor)
        if len(self.clocks) > MOST:
            kept = {submitter, *active}
            self.clocks = {name: clock for name, clock in self.clocks.items() if name in kept}

    def charge(self, submitter: str, seconds: float, weight: float) -> None:
        """Move the clock on by GPU seconds, or back by what was charged too much."""
        self.clocks[submitter] = max(0.0, self.clocks.get(submitter, self.floor) + seconds / weight)

    def of(self, submitter: str) -> float:
        """Where the submitter's clock stands."""
        return self.clocks.get(submitter, self.floor)
