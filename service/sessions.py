"""A worker's socket as the dispatcher knows it, and who is told what passes through it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from service import protocol as say
from service.group_commit import Answer

Send = Callable[[say.ToWorker], None]


class Audience(Protocol):
    """Who is told what is never in the log."""

    def progress(self, job: str, queue: str, progress: say.Progress) -> None:
        """A running attempt has come this far."""

    def preview(self, job: str, queue: str, preview: say.Preview) -> None:
        """A passing picture of a running attempt."""


class Session(msgspec.Struct, eq=False):
    """One socket of a worker. `send` queues a message; `end` closes the socket after what is queued."""

    id: str
    send: Send
    end: Callable[[], None]
    worker: str = ""
    boot: str = ""
    credit: dict[say.Seat, int] = {}
    offers: dict[str, str] = {}  # offer id -> job id
    reports: deque[tuple[int, Answer, say.Reported]] = msgspec.field(default_factory=deque)
    is_drained: bool = False
