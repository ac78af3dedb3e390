"""The log's schema, by forward-only steps that sqlite-utils records in the file.

sqlite-utils uses the standard library's SQLite, and two copies of SQLite must not have one file open in one
process (events/sqlite_readers.py): the file is opened, migrated and closed here, before apsw opens it.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import sqlite_utils
from sqlite_utils import Migrations

migrations = Migrations("safelight-log")


@migrations()  # type: ignore[untyped-decorator]
def m001_log(db: sqlite_utils.Database) -> None:
    """The log, its private side rows, and the rules that keep it append-only."""
    db.executescript(
        """
        CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE log (
            position INTEGER PRIMARY KEY,  -- given by us: dense, in commit order
            stream TEXT NOT NULL,
            version INTEGER NOT NULL,
            event_id TEXT NOT NULL UNIQUE,
            type TEXT NOT NULL,
            schema INTEGER NOT NULL,
            at_us INTEGER NOT NULL,
            actor TEXT NOT NULL,
            cause TEXT NOT NULL,
            data BLOB NOT NULL,            -- JSON
            private_digest BLOB,           -- SHA-256 of salt and body in `private`
            leaf BLOB NOT NULL,            -- RFC 6962 leaf hash of the columns above
            UNIQUE (stream, version)
        );
        CREATE TABLE private (position INTEGER PRIMARY KEY REFERENCES log, salt BLOB NOT NULL, body BLOB NOT NULL);
        CREATE TRIGGER log_is_never_changed BEFORE UPDATE ON log
            BEGIN SELECT raise(ABORT, 'the log is append-only: a record is never changed'); END;
        CREATE TRIGGER log_is_never_cut BEFORE DELETE ON log
            BEGIN SELECT raise(ABORT, 'the log is append-only: a record is never deleted'); END;
        CREATE TRIGGER log_has_no_gap BEFORE INSERT ON log
            WHEN new.position != (SELECT coalesce(max(position), 0) + 1 FROM log)
            BEGIN SELECT raise(ABORT, 'the log is dense: the next position is the head + 1'); END;
        """
    )
    db.execute("INSERT INTO meta VALUES ('log_id', ?)", (str(uuid.uuid4()),))


def migrate(path: Path) -> None:
    """Apply the steps that the file does not record yet, each in its own transaction."""
    database = sqlite_utils.Database(path)
    try:
        database.enable_wal()
        migrations.apply(database)
    finally:
        database.close()
