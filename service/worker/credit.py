"""How much work a worker takes at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service import protocol as say

SLOTS = 1
MAX_UNDELIVERED = 4  # results on disk, beside those of what is computed, beyond which no more work is taken


class Credit(NamedTuple):
    """How many offers are taken, by seat (protocol.Ready)."""

    slots: int = 0
    beside: int = 0
    before: int = 0

    def plus(self, seat: say.Seat, change: int) -> Credit:
        """The credit with so many more by one seat."""
        return self._replace(**{seat: max(0, getattr(self, seat) + change)})


NONE = Credit()


def credit_of(stages: Sequence[str], offers: int, worth: int) -> Credit:
    """The credit of a worker with attempts in these stages and so many offers that it accepted.

    One slot as soon as the device is free: uploads may still go on, but not many. While it computes, beside as many
    as it gains from, and before it one that the others stand back for.
    """
    if stages.count("writing") + stages.count("delivering") >= MAX_UNDELIVERED + worth:
        return NONE
    computing = stages.count("computing")
    taken = computing + stages.count("fetching") + offers
    if computing == 0:
        return Credit(slots=max(0, SLOTS - taken))
    return Credit(beside=max(0, worth - taken), before=int(taken <= worth))
