"""Reading the log's rows: the queries every reader shares, and the record of a row."""

from __future__ import annotations

from typing import Any

import apsw

from events.envelope import Record, decode

NEWEST = "SELECT position, at_us FROM log ORDER BY position DESC LIMIT 1"
LOG_ID = "SELECT value FROM meta WHERE name = 'log_id'"
LEAF = "SELECT leaf FROM log WHERE position = ?"
COLUMNS = (
    "SELECT log.position, stream, version, event_id, type, schema, at_us, actor, cause, data, private_digest, "
    "body FROM log LEFT JOIN private ON private.position = log.position "
)
PAGE_AFTER = COLUMNS + "WHERE log.position > ? ORDER BY log.position LIMIT ?"
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
