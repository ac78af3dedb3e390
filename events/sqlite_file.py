"""The log's SQLite file before anybody appends: its lock, its place on disk, its schema.

The schema is made by forward-only migrations (sqlite-utils), each recorded in the file. sqlite-utils uses the
standard library's SQLite, so the file is opened, migrated and closed here, before apsw opens it.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

import sqlite_utils
from sqlite_utils import Migrations

from events.log import LogBusy, LogError

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
"""WAL needs shared memory on one host, and these do not keep POSIX locks honestly."""

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


def hold_alone(path: Path) -> int:
    """Take the lock that lets one process serve the log; gives its open file descriptor.

    Raises LogBusy naming the holder's pid. The kernel frees the lock when the process ends, however it ends.
    """
    refuse_network(path)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode().strip() or "unknown"
        os.close(descriptor)
        raise LogBusy(
            f"the log {path} is served by process {holder}; stop it, or choose another --data folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def refuse_network(path: Path, mounts: Path = Path("/proc/mounts")) -> None:
    """Raise LogError when `path` lies on a network file system; says nothing where mounts cannot be read."""
    if not mounts.exists():
        return
    resolved = str(path.resolve())
    best = ("", "")
    for line in mounts.read_text().splitlines():
        _, point, kind, *_ = line.split()
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    if best[1] in NETWORK_FILE_SYSTEMS:
        raise LogError(f"the log {path} lies on {best[1]} ({best[0]}); put it on a local disk")


def prepare(path: Path) -> None:
    """Create the file or bring it to today's schema; WAL is set once and stays in the file."""
    database = sqlite_utils.Database(path)
    try:
        database.enable_wal()
        migrations.apply(database)
    finally:
        database.close()
