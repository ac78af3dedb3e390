"""The queue view: every queue with its flag. Its counts stand in the job view."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from events.envelope import Record
from events.queues import QueueCreated, QueuePaused, QueueResumed

_CREATE = "INSERT INTO queues (name, is_paused, created_at_us) VALUES (?, 0, ?)"
_FLAG = "UPDATE queues SET is_paused = ? WHERE name = ?"
_ALL = "SELECT name, is_paused, created_at_us FROM queues ORDER BY name"


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader is shown of a queue."""

    name: str
    is_paused: bool
    created_at_us: int


class QueuesProjection:
    """Folds queue streams into `queues`."""

    name = "queues"
    version = 1
    schema = """
        CREATE TABLE queues (
            name TEXT PRIMARY KEY, is_paused INTEGER NOT NULL, created_at_us INTEGER NOT NULL
        ) WITHOUT ROWID;
    """
    indexes = ""

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold the queue records among `records`."""
        for record in records:
            match record.event:
                case QueueCreated(name=name):
                    connection.execute(_CREATE, (name, record.at_us))
                case QueuePaused(name=name):
                    connection.execute(_FLAG, (1, name))
                case QueueResumed(name=name):
                    connection.execute(_FLAG, (0, name))

    def forget(self) -> None:
        """Nothing is cached."""


def all_queues(connection: apsw.Connection) -> list[QueueView]:
    """Every queue by name."""
    return [
        QueueView(name=name, is_paused=bool(paused), created_at_us=at_us)
        for name, paused, at_us in connection.execute(_ALL)
    ]
