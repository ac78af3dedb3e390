"""How much work a worker takes at a moment."""

from __future__ import annotations

from typing import NamedTuple

from service import protocol as say


class Credit(NamedTuple):
    """How many offers are taken, by seat (protocol.Ready)."""

    slots: int = 0
    beside: int = 0
    before: int = 0

    def plus(self, seat: say.Seat, change: int) -> Credit:
        """The credit with so many more by one seat."""
        return self._replace(**{seat: max(0, getattr(self, seat) + change)})


NONE = Credit()
