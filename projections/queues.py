"""The queue view: every queue with its flag. Its counts stand in the job view."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from events.envelope import Record
from events.queues import (
    PauseReason,
    QueueConfigured,
    QueueCreated,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    Rules,
)

_PUT = "INSERT OR REPLACE INTO queues (name, body) VALUES (?, ?)"
_ONE = "SELECT body FROM queues WHERE name = ?"
_ALL = "SELECT body FROM queues ORDER BY name"


class QueueView(msgspec.Struct, kw_only=True):
    """What a reader is shown of a queue. A drained queue takes no new jobs."""

    name: str
    created_at_us: int
    rules: Rules = Rules()
    is_paused: bool = False
    pause_reason: PauseReason | None = None
    is_drained: bool = False


_decoder = msgspec.json.Decoder(QueueView)


class QueuesProjection:
    """Folds queue streams into `queues`."""

    name = "queues"
    version = 2
    schema = "CREATE TABLE queues (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;"
    indexes = ""

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold the queue records among `records`."""
        for record in records:
            if record.category == "queue":
                view = _folded(_view(connection, record.subject), record)
                connection.execute(_PUT, (view.name, msgspec.json.encode(view)))

    def forget(self) -> None:
        """Nothing is cached."""


def all_queues(connection: apsw.Connection) -> list[QueueView]:
    """Every queue by name."""
    return [_decoder.decode(row[0]) for row in connection.execute(_ALL)]


def _view(connection: apsw.Connection, name: str) -> QueueView | None:
    row = connection.execute(_ONE, (name,)).fetchone()
    return _decoder.decode(row[0]) if row else None


def _folded(view: QueueView | None, record: Record) -> QueueView:
    event = record.event
    if view is None:
        assert isinstance(event, QueueCreated), f"{event.type} cannot begin a queue"
        return QueueView(name=event.name, created_at_us=record.at_us)
    match event:
        case QueueConfigured(rules=rules):
            view.rules = rules
        case QueuePaused(reason=reason):
            view.is_paused, view.pause_reason = True, reason
        case QueueDrained():
            view.is_drained = True
        case QueueResumed():
            view.is_paused, view.pause_reason, view.is_drained = False, None, False
    return view
