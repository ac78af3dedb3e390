"""Reading the log's rows: the queries every reader shares, and the record of a row."""

from __future__ import annotations

from typing import Any

import apsw

from events.envelope import Record, decode

NEWEST = "SELECT position, at_us FROM log ORDER BY position DESC LIMIT 1"
LOG_ID = "SELECT value FROM meta WHERE name = 'log_id'"
LEAF = "SELECT leaf FROM log WHERE position = ?"
# most records have no private part: looking only for those that have one reads a page in 7/8 of a join's time
COLUMNS = (
    "SELECT position, stream, version, event_id, type, schema, at_us, actor, cause, data, private_digest, "
    "CASE WHEN private_digest IS NOT NULL THEN "
    "(SELECT body FROM private WHERE private.position = log.position) END "
    "FROM log "
)
PAGE_AFTER = COLUMNS + "WHERE position > ? ORDER BY position LIMIT ?"
OF_STREAM = COLUMNS + "WHERE stream = ? ORDER BY version"
OF_ID = COLUMNS + "WHERE event_id = ?"


def one(connection: apsw.Connection, sql: str, *values: Any) -> Any:
    """The first row, None when there is none."""
    return connection.execute(sql, values).fetchone()


def record_of(row: tuple[Any, ...]) -> Record:
    """The record of a row that a query above gave."""
    position, stream, version, event_id, type_name, schema, at_us, actor, cause, data, digest, body = row
    return Record(
        position=position,
        stream=stream,
        version=version,
        event_id=event_id,
        at_us=at_us,
        actor=actor,
        cause=cause,
        event=decode(type_name, schema, data),
        private=body,
        private_digest=digest,
    )
