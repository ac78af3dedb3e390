"""Who is told what is never in the log: the newest progress of running attempts, and passing pictures."""

from __future__ import annotations

from typing import Protocol

from service import protocol as say


class Audience(Protocol):
    """Who is told what is never in the log."""

    def progress(self, job: str, queue: str, progress: say.Progress) -> None:
        """A running attempt has come this far."""

    def preview(self, job: str, queue: str, preview: say.Preview) -> None:
        """A passing picture of a running attempt."""
