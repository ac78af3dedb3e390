"""The outbox: what is owed to webhooks, what is due, how each attempt went. One thread writes, others may read.

The rows and their fold are in projections/outbox.py. An attempt and what follows from it (done, tried again, given
up) are one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import apsw
import msgspec

from events.envelope import Record
from events.jobs import JobSubmitted
from events.log import LogReader
from projections.outbox import Endpoint, OutboxProjection
from projections.store import ViewStore
from service.commands import DeliveryOutcome
from service.webhooks.payload import body_of, job_at

_LANES = "SELECT DISTINCT lane FROM deliveries WHERE outcome IS NULL"
_DUE = (
    "SELECT id, endpoint, lane, url, type, stream, version, position, round, tries, attempts, first_at_us "
    "FROM deliveries WHERE outcome IS NULL AND lane = ? AND next_at_us <= ? ORDER BY next_at_us, position LIMIT ?"
)
_NEXT = "SELECT min(next_at_us) FROM deliveries WHERE outcome IS NULL AND next_at_us > ?"
_TRIED = (
    "UPDATE deliveries SET attempts = attempts + 1, tries = tries + 1, next_at_us = ?, outcome = ?, to_tell = ?, "
    "first_at_us = coalesce(first_at_us, ?) WHERE id = ? AND round = ? AND outcome IS NULL"
)
_COUNT_ATTEMPT = "UPDATE deliveries SET attempts = attempts + 1 WHERE id = ?"  # its round is over already
_ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)"
_TO_TELL = "SELECT id, endpoint, round, attempts, to_tell FROM deliveries WHERE to_tell IS NOT NULL LIMIT ?"
_TOLD = "UPDATE deliveries SET to_tell = NULL WHERE id = ? AND round = ?"
_PRUNE = (
    "DELETE FROM attempts WHERE delivery IN "
    "(SELECT id FROM deliveries WHERE made_at_us < ? AND outcome IS NOT NULL)",
    "DELETE FROM deliveries WHERE made_at_us < ? AND outcome IS NOT NULL",
)
_SHOWN = (
    "SELECT id, type, stream, url, position, made_at_us, round, attempts, next_at_us, outcome FROM deliveries "
    "WHERE endpoint = ?"
)
_NEWER = f"{_SHOWN} AND position > ? ORDER BY position LIMIT ?"
_OLDER = f"{_SHOWN} AND position < ? ORDER BY position DESC LIMIT ?"
_ONE = f"{_SHOWN} AND id = ?"
_ATTEMPTS = "SELECT attempt, at_us, duration_ms, status, error FROM attempts WHERE delivery = ? ORDER BY attempt"

LAST_POSITION = 1 << 62

DeliveryStatus = Literal["pending", "delivered", "gave-up", "dropped"]


class Due(msgspec.Struct, frozen=True):
    """A delivery whose time has come."""

    id: str
    endpoint: str
    lane: str
    url: str | None
    type: str
    stream: str
    version: int
    position: int
    round: int
    tries: int
    attempts: int
    first_at_us: int | None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request: when it began (UTC microseconds), how long it took, the status it got or what went wrong."""

    at_us: int
    duration_ms: int
    status: int | None = None
    error: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What follows from an attempt: the end of the round, or the instant of the next try."""

    outcome: DeliveryOutcome | None
    next_at_us: int = 0


class ToTell(msgspec.Struct, frozen=True):
    """An outcome that the log does not have yet."""

    id: str
    endpoint: str
    round: int
    attempts: int
    outcome: DeliveryOutcome


class AttemptView(msgspec.Struct, frozen=True):
    """An attempt as a reader is shown it."""

    attempt: int
    at_us: int
    duration_ms: int
    status: int | None
    error: str | None


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as a reader is shown it. `url` is that of a callback."""

    id: str
    type: str
    stream: str
    url: str | None
    position: int
    made_at_us: int
    round: int
    status: DeliveryStatus
    next_at_us: int | None
    attempts: list[AttemptView]


class Outbox:
    """The open file. All but `reader` belongs to the thread that opened it."""

    def __init__(
        self, path: Path, log: LogReader, callback_of: Callable[[Record, JobSubmitted], str | None]
    ) -> None:
        """Open the outbox of `log`, caught up to its head; `callback_of` as in OutboxProjection."""
        self._log = log
        self._projection = OutboxProjection(self._queue_of, callback_of)
        self._store = ViewStore(path, log, [self._projection])

    @property
    def position(self) -> int:
        """The place in the log that is taken in."""
        return self._store.position

    def take_in(self, records: Sequence[Record]) -> None:
        """Fold committed records; what is missing before them is read from the log."""
        fresh = [record for record in records if record.position > self.position]
        if fresh and fresh[0].position == self.position + 1:
            self._store.apply(self._log, fresh)
        else:
            self.catch_up()

    def catch_up(self) -> None:
        """Fold what the log has beyond this outbox."""
        self._store.catch_up(self._log)

    def due(self, now_us: int, busy: Collection[str], per_lane: int) -> list[Due]:
        """What may be tried now: the first of each lane, at most `per_lane` with those that are `busy` already.

        Of one job and endpoint never two at a time, so that first attempts begin in the order of the log. A lane
        with less on its way comes first.
        """
        found: list[tuple[int, Due]] = []
        for (lane,) in self._execute(_LANES).fetchall():
            first = [Due(*row) for row in self._execute(_DUE, (lane, now_us, 2 * per_lane))]
            taken = [due for due in first if due.id in busy]
            streams = {due.stream for due in taken}
            for due in first:
                if len(taken) < per_lane and due.stream not in streams:
                    streams.add(due.stream)
                    found.append((len(taken), due))
                    taken.append(due)
        return [due for _, due in sorted(found, key=lambda place: place[0])]

    def next_at_us(self, now_us: int) -> int | None:
        """When something more will be due, as far as is known now."""
        ((at_us,),) = self._execute(_NEXT, (now_us,)).fetchall()
        return at_us  # type: ignore[return-value]

    def endpoint(self, due: Due) -> Endpoint | None:
        """Where it goes and what signs it; None when the webhook was removed meanwhile."""
        found = self._projection.endpoints(self._store.reader()).get(due.endpoint)
        return msgspec.structs.replace(found, url=due.url) if found is not None and due.url is not None else found

    def body(self, due: Due) -> bytes:
        """What is sent, the same at every attempt."""
        return body_of(self._log.read_stream(due.stream)[: due.version + 1])

    def record(self, due: Due, attempt: Attempt, verdict: Verdict) -> None:
        """Keep how an attempt went and what follows from it. A round that ended meanwhile stays as it ended."""
        outcome = "gave-up" if verdict.outcome == "gone" else verdict.outcome
        number = due.attempts + 1
        with self._store.writing() as connection:
            values = (verdict.next_at_us, outcome, verdict.outcome, attempt.at_us, due.id, due.round)
            connection.execute(_TRIED, values)
            if not connection.changes():
                connection.execute(_COUNT_ATTEMPT, (due.id,))
            if connection.changes():  # else the webhook was removed meanwhile
                row = (due.id, number, attempt.at_us, attempt.duration_ms, attempt.status, attempt.error)
                connection.execute(_ATTEMPT, row)

    def to_tell(self, limit: int) -> list[ToTell]:
        """Outcomes that the log does not have yet."""
        return [ToTell(*row) for row in self._execute(_TO_TELL, (limit,))]

    def told(self, told: ToTell) -> None:
        """The log has this outcome."""
        with self._store.writing() as connection:
            connection.execute(_TOLD, (told.id, told.round))

    def prune(self, before_us: int) -> None:
        """Forget what ended and was made before an instant."""
        with self._store.writing() as connection:
            for statement in _PRUNE:
                connection.execute(statement, (before_us,))

    def reader(self) -> apsw.Connection:
        """This thread's own read-only connection."""
        return self._store.reader()

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> apsw.Cursor:
        return self._store.reader().execute(sql, values)

    def _queue_of(self, record: Record) -> str:
        return job_at(self._log.read_stream(record.stream)[: record.version + 1]).queue


def find_delivery(connection: apsw.Connection, webhook: str, delivery: str) -> DeliveryView | None:
    """The delivery of that webhook with this id."""
    row = connection.execute(_ONE, (webhook, delivery)).fetchone()
    return _view(connection, row) if row else None


def list_deliveries(
    connection: apsw.Connection, webhook: str, *, limit: int, after: int | None = None, before: int | None = None
) -> tuple[list[DeliveryView], int | None, int | None]:
    """A page of a webhook's deliveries, newest first, and the cursors to the next and the previous page.

    `after` goes on behind that cursor, `before` gives the page just in front of it; a cursor is None where the
    list ends.
    """
    if before is not None:
        rows = connection.execute(_NEWER, (webhook, before, limit + 1)).fetchall()
        more, rows = len(rows) > limit, rows[:limit][::-1]
        has_next, has_previous = True, more
    else:
        rows = connection.execute(_OLDER, (webhook, after or LAST_POSITION, limit + 1)).fetchall()
        more, rows = len(rows) > limit, rows[:limit]
        has_next, has_previous = more, after is not None
    page = [_view(connection, row) for row in rows]
    if not page:
        return [], None, None
    return page, page[-1].position if has_next else None, page[0].position if has_previous else None


def _view(connection: apsw.Connection, row: tuple[Any, ...]) -> DeliveryView:
    name, kind, stream, url, position, made_at_us, number, _, next_at_us, outcome = row
    return DeliveryView(
        id=name,
        type=kind,
        stream=stream,
        url=url,
        position=position,
        made_at_us=made_at_us,
        round=number,
        status=outcome or "pending",
        next_at_us=None if outcome else max(next_at_us, made_at_us),
        attempts=[AttemptView(*tried) for tried in connection.execute(_ATTEMPTS, (name,))],
    )
