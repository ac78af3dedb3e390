"""The log on SQLite: one writing connection under a lock, group commit, WAL with synchronous=FULL.

apsw brings its own SQLite (>= 3.51.3): the system's may still have the WAL-reset bug that corrupts a
database when two connections write or checkpoint at once (sqlite.org/wal.html). Exactly one connection
writes and checkpoints; readers are read-only and read in pages, never holding a cursor open.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic

import apsw

from events.entropy import Entropy
from events.envelope import SALT_BYTES, Draft, Record, encode, leaf_hash, private_digest
from events.ids import RANDOM_BYTES, uuid7
from events.log import Asked, Committed, LogBroken, LogClosed, LogError, LogFull, Request, State
from events.sqlite_file import hold_alone, prepare
from events.sqlite_readers import Readers
from events.sqlite_rows import LEAF, LOG_ID, NEWEST, OF_ID, OF_STREAM, PAGE_AFTER, one, record_of

CHECKPOINT_PAGES = 1_000
"""Pages in the WAL at which a checkpoint is due (SQLite's own default)."""

MAX_WAL_PAGES = 10 * CHECKPOINT_PAGES
"""Pages at which a commit makes the checkpoint that nobody asked for in time."""

PAGE = 5_000
"""Records read at once while catching up."""

_NEXT_VERSION = "SELECT coalesce(max(version) + 1, 0) FROM log WHERE stream = ?"
_INSERT = (
    "INSERT INTO log (position, stream, version, event_id, type, schema, at_us, actor, cause, data, "
    "private_digest, leaf) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PRIVATE = "INSERT INTO private (position, salt, body) VALUES (?, ?, ?)"

logger = logging.getLogger("safelight.log")


class SqliteLog(Generic[State]):
    """The log in one SQLite file; see events.log.Log for what it promises.

    `restore` gives state at some position of this log (an empty one will do): it is called at opening with
    the log to read from, and again when a commit has failed and the state in memory has run ahead of the
    disk.
    """

    def __init__(
        self, path: Path, *, restore: Callable[[SqliteLog[State]], State], clock: Callable[[], int]
    ) -> None:
        """Open or create the log. `clock` gives UTC microseconds.

        Raises LogBusy when another process serves the file, LogError on a network file system.
        """
        self._hold = hold_alone(path)
        prepare(path)
        self._path = path
        self._clock = clock
        self._restore = restore
        self._writer = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        for pragma in ("synchronous = FULL", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            self._writer.execute(f"PRAGMA {pragma}")
        self._wal_pages = 0
        self._writer.set_wal_hook(self._on_wal)
        self._readers = Readers(path)
        self.log_id: str = one(self._writer, LOG_ID)[0]
        newest: tuple[int, int] = one(self._writer, NEWEST) or (0, 0)
        self._head, self._last_at_us = newest
        self._durable = self._head
        self._entropy = Entropy()
        self._pending = _Pending(self._writer)
        self._newest_leaf: tuple[int, bytes] = (0, b"")  # position and leaf of the newest durable record
        self.state: State = self._caught_up()
        """State at the head. It belongs to whoever commits: others look at it only while nobody does."""
        self._lock = threading.Lock()
        self._refusal: LogError | None = None

    def commit(self, asked: Sequence[Asked[State]]) -> Committed:
        """Run the decisions under the lock and append what they return (events.log.Log)."""
        with self._lock:
            if self._refusal is not None:
                return Committed([], [self._refusal] * len(asked))
            head, last_at_us = self._head, self._last_at_us
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                outcomes = [self._outcome(each) for each in asked]
                self._pending.write()
                self._writer.execute("COMMIT")
                records = self._pending.forget()
            except Exception as error:  # the disk's, or an event that does not fold: the log must live on
                self._head, self._last_at_us = head, last_at_us
                self._pending.forget()
                return Committed([], [self._undone(error)] * len(asked))
            if records:
                self._durable = self._head
                self._newest_leaf = (records[-1].position, self._pending.newest_leaf)
            return Committed(records, outcomes)

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the WAL has grown enough to be worth copying into the database file."""
        return self._wal_pages >= CHECKPOINT_PAGES

    def checkpoint(self) -> None:
        """Copy the WAL into the database file, some milliseconds, during which nobody can commit.

        Whoever commits asks for it once it is due, at a time when few wait; no commit has to. What is committed
        is durable without it: a failure is logged and the next call tries again.
        """
        with self._lock:
            self._checkpoint()

    def head(self) -> int:
        """The position of the newest durable record, 0 for an empty log."""
        return self._durable

    def read(self, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with a position above `after`, in order."""
        return [record_of(row) for row in self._readers.get().execute(PAGE_AFTER, (after, limit)).fetchall()]

    def read_stream(self, name: str) -> list[Record]:
        """Every durable record of one stream, oldest first."""
        return [record_of(row) for row in self._readers.get().execute(OF_STREAM, (name,)).fetchall()]

    def leaf(self, position: int) -> bytes | None:
        """The leaf hash of the record at `position`; None when there is no such record."""
        newest, leaf = self._newest_leaf
        if position == newest:  # what views ask after each commit
            return leaf
        row = one(self._readers.get(), LEAF, position)
        return bytes(row[0]) if row else None

    def close(self) -> None:
        """Let go of the files, once the commit that runs has ended. Later decisions are refused."""
        with self._lock:
            self._refusal = LogClosed("the log is closed; the service is shutting down, ask again later")
            self._readers.close()
            self._writer.close()
            os.close(self._hold)

    # under the lock

    def _outcome(self, asked: Asked[State]) -> list[Record] | Exception:
        """One decision's records, appended and folded; or what it raised, with nothing appended."""
        at_us = max(self._last_at_us, self._clock())
        try:
            drafts = asked.decision(_SqliteTransaction(self.state, at_us, self._pending))
        except apsw.Error:
            raise
        except Exception as error:  # a refusal, or a fault of that one decision: the others go on
            return error
        return [self._append(draft, asked.request, at_us) for draft in drafts]

    def _append(self, draft: Draft, request: Request, at_us: int) -> Record:
        if draft.event_id is not None:
            self._pending.write()
            known = one(self._writer, OF_ID, draft.event_id)
            if known is not None:
                return record_of(known)
        salt = self._entropy.take(SALT_BYTES)
        record = self._recorded(draft, request, at_us, salt)
        data = encode(draft.event)
        columns = (
            record.position, record.stream, record.version, record.event_id, draft.event.type,
            draft.event.SCHEMA, at_us, record.actor, record.cause, data, record.private_digest,
        )  # fmt: skip
        self._pending.add(record, columns, salt)
        self._head, self._last_at_us = record.position, at_us
        self.state.apply(record)
        return record

    def _recorded(self, draft: Draft, request: Request, at_us: int, salt: bytes) -> Record:
        return Record(
            position=self._head + 1,
            stream=draft.stream,
            version=self._pending.next_version(draft.stream, begins=draft.begins),
            event_id=draft.event_id or uuid7(at_us, self._entropy.take(RANDOM_BYTES)),
            at_us=at_us,
            actor=request.actor,
            cause=request.cause,
            event=draft.event,
            private=draft.private,
            private_digest=None if draft.private is None else private_digest(salt, draft.private),
        )

    def _undone(self, error: Exception) -> LogError:
        """After a failed commit: the disk is the truth, state in memory has run ahead of it. Gives what to say."""
        if self._writer.in_transaction:  # SQLite rolls back by itself on a full disk
            self._writer.execute("ROLLBACK")
        if isinstance(error, apsw.FullError):
            refusal: LogError = LogFull(f"the log at {self._path.name} cannot grow ({error}); free disk space")
        elif not isinstance(error, apsw.Error) or _is_of_the_decision(error):
            refusal = LogError(f"a decision could not be appended ({error!r}); nothing of its commit was kept")
            logger.error("%s", refusal, exc_info=error)
        else:
            refusal = LogBroken(f"the log at {self._path.name} failed to append ({error}); check the disk, restart")
            self._refusal = refusal
            logger.critical("%s", refusal)
        self.state = self._caught_up()
        return refusal

    def _on_wal(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """Called by SQLite after each commit with the pages that the WAL holds now."""
        self._wal_pages = pages
        if pages >= MAX_WAL_PAGES:
            self._checkpoint()
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        try:
            in_wal, moved = self._writer.wal_checkpoint()
        except apsw.Error as error:
            logger.warning("the WAL of %s could not be copied into it (%s)", self._path.name, error)
        else:
            self._wal_pages = in_wal - moved

    def _caught_up(self) -> State:
        state = self._restore(self)
        while state.position < self._head:
            for row in self._writer.execute(PAGE_AFTER, (state.position, PAGE)).fetchall():
                state.apply(record_of(row))
        return state


def _is_of_the_decision(error: apsw.Error) -> bool:
    """Whether the disk is sound, and a decision began a stream that there was."""
    return isinstance(error, apsw.ConstraintError) and error.extendedresult == apsw.SQLITE_CONSTRAINT_UNIQUE  # type: ignore[attr-defined]


class _Pending:
    """Rows of the open transaction that are appended and not yet written: a whole group goes down in one statement.

    Whoever looks into the table writes them first. The versions of streams touched since the last commit are kept
    here, so that giving the next one does not have to look.
    """

    def __init__(self, writer: apsw.Connection) -> None:
        self.writer = writer
        self.newest_leaf = b""  # of the record added last
        self._rows: list[tuple[Any, ...]] = []
        self._private: list[tuple[int, bytes, bytes]] = []
        self._records: list[Record] = []
        self._versions: dict[str, int] = {}  # stream -> its newest version

    def next_version(self, stream: str, *, begins: bool) -> int:
        """The version that the next record of `stream` gets; it is taken with this."""
        known = self._versions.get(stream)
        version: int = 0 if begins else one(self.writer, _NEXT_VERSION, stream)[0] if known is None else known + 1
        self._versions[stream] = version
        return version

    def add(self, record: Record, columns: tuple[Any, ...], salt: bytes) -> None:
        """Append a record by its columns, and its private part if it has one."""
        self.newest_leaf = leaf_hash(*columns)
        self._rows.append((*columns, self.newest_leaf))
        self._records.append(record)
        if record.private is not None:
            self._private.append((record.position, salt, record.private))

    def write(self) -> None:
        """Put every pending row into the table."""
        if self._rows:
            rows, private, self._rows, self._private = self._rows, self._private, [], []
            self.writer.executemany(_INSERT, rows)
            self.writer.executemany(_INSERT_PRIVATE, private)

    def forget(self) -> list[Record]:
        """The transaction is over; gives the records that were appended in it, in order and each once."""
        records, self._records = self._records, []
        self._rows, self._private, self._versions = [], [], {}
        return records


class _SqliteTransaction(Generic[State]):
    """What one decision sees (events.log.Transaction)."""

    def __init__(self, state: State, at_us: int, pending: _Pending) -> None:
        self.state = state
        self.at_us = at_us
        self._pending = pending

    def stream(self, name: str) -> list[Record]:
        self._pending.write()
        return [record_of(row) for row in self._pending.writer.execute(OF_STREAM, (name,)).fetchall()]
