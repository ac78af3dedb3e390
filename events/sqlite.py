"""The log on SQLite: one writer thread, group commit, WAL with synchronous=FULL.

apsw brings its own SQLite (>= 3.51.3): the system's may still have the WAL-reset bug that corrupts a
database when two connections write or checkpoint at once (sqlite.org/wal.html). Exactly one connection
writes and checkpoints; readers are read-only and read in pages, never holding a cursor open.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic

import apsw
import msgspec

from events.entropy import Entropy
from events.envelope import SALT_BYTES, Draft, Record, encode, leaf_hash, private_digest
from events.ids import RANDOM_BYTES, uuid7
from events.log import Decision, Listener, LogBroken, LogClosed, LogError, LogFull, Request, State
from events.sqlite_file import hold_alone, prepare
from events.sqlite_readers import Readers
from events.sqlite_rows import LEAF, LOG_ID, NEWEST, OF_ID, OF_STREAM, PAGE_AFTER, one, record_of

MAX_GROUP = 256
"""Decisions in one commit: beyond it the loss of latency outgrows the fsync saved (docs/performance.md)."""

PAGE = 5_000
"""Records read at once while catching up."""

_NEXT_VERSION = "SELECT coalesce(max(version) + 1, 0) FROM log WHERE stream = ?"
_INSERT = (
    "INSERT INTO log (position, stream, version, event_id, type, schema, at_us, actor, cause, data, "
    "private_digest, leaf) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PRIVATE = "INSERT INTO private (position, salt, body) VALUES (?, ?, ?)"

logger = logging.getLogger("safelight.log")


class _Waiting(msgspec.Struct, Generic[State]):
    """A decision in line for the lock."""

    decision: Decision[State]
    request: Request
    future: Future[list[Record]]


class SqliteLog(Generic[State]):
    """The log in one SQLite file; see events.log.Log for what it promises.

    `restore` gives state at some position of this log (an empty one will do): it is called at opening with
    the log to read from, and again when a commit has failed and the state in memory has run ahead of the
    disk. `on_commit` is called in the writer thread with the records of each commit, before its futures resolve.
    """

    def __init__(
        self,
        path: Path,
        *,
        restore: Callable[[SqliteLog[State]], State],
        clock: Callable[[], int],
        on_commit: Listener = lambda records: None,
    ) -> None:
        """Open or create the log and start its writer.

        `clock` gives UTC microseconds. Raises LogBusy when another process serves the file, LogError on a
        network file system.
        """
        self._hold = hold_alone(path)
        prepare(path)
        self._path = path
        self._clock = clock
        self._restore = restore
        self._on_commit = on_commit
        self._writer = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        for pragma in ("synchronous = FULL", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            self._writer.execute(f"PRAGMA {pragma}")
        self._readers = Readers(path)
        self.log_id: str = one(self._writer, LOG_ID)[0]
        newest: tuple[int, int] = one(self._writer, NEWEST) or (0, 0)
        self._head, self._last_at_us = newest
        self._durable = self._head
        self._entropy = Entropy()
        self._pending = _Pending(self._writer)
        self._newest_leaf: tuple[int, bytes] = (0, b"")  # position and leaf of the newest durable record
        self.state: State = self._caught_up()
        """State at the head. It belongs to the writer thread: others read it only before they ask anything."""
        self._waiting: queue.SimpleQueue[_Waiting[State] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._refusal: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="safelight-log", daemon=True)
        self._thread.start()

    # asking

    def decide(self, decision: Decision[State], request: Request) -> Future[list[Record]]:
        """Run `decision` under the lock and append what it returns (events.log.Log)."""
        waiting = _Waiting(decision, request, Future())
        with self._closing:
            if self._refusal is None:
                self._waiting.put(waiting)
            else:
                waiting.future.set_exception(self._refusal)
        return waiting.future

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
        """Finish the decisions that wait, then let go of the files."""
        with self._closing:
            if self._refusal is None:
                self._refusal = LogClosed("the log is closed; the service is shutting down, ask again later")
            self._waiting.put(None)
        self._thread.join()
        self._readers.close()
        self._writer.close()
        os.close(self._hold)

    # the writer thread

    def _write(self) -> None:
        while (group := self._next_group()) is not None:
            if self._refusal is not None and not isinstance(self._refusal, LogClosed):
                _fail(group, self._refusal)
                continue
            self._commit(group)

    def _next_group(self) -> list[_Waiting[State]] | None:
        """Everybody who waits now, up to MAX_GROUP: they share the next commit. None at the end."""
        first = self._waiting.get()
        if first is None:
            return None
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                following = self._waiting.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._waiting.put(None)  # the end comes after this group
                break
            group.append(following)
        return group

    def _commit(self, group: list[_Waiting[State]]) -> None:
        head, last_at_us = self._head, self._last_at_us
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            outcomes = [(waiting, self._decideone(waiting)) for waiting in group]
            self._pending.write()
            self._writer.execute("COMMIT")
            records = self._pending.forget()
        except Exception as error:  # the disk's, or an event that does not fold: the writer must live on
            self._head, self._last_at_us = head, last_at_us
            self._pending.forget()
            self._undo(group, error)
            return
        if records:
            self._durable = self._head
            self._newest_leaf = (records[-1].position, self._pending.newest_leaf)
            self._on_commit(records)
        for waiting, outcome in outcomes:
            if isinstance(outcome, Exception):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)

    def _decideone(self, waiting: _Waiting[State]) -> list[Record] | Exception:
        """One decision's records, appended and folded; or what it raised, with nothing appended."""
        at_us = max(self._last_at_us, self._clock())
        try:
            drafts = waiting.decision(_SqliteTransaction(self.state, at_us, self._pending))
        except apsw.Error:
            raise
        except Exception as error:  # a refusal, or a fault of that one decision: the others go on
            return error
        return [self._append(draft, waiting.request, at_us) for draft in drafts]

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
            version=self._pending.next_version(draft.stream),
            event_id=draft.event_id or uuid7(at_us, self._entropy.take(RANDOM_BYTES)),
            at_us=at_us,
            actor=request.actor,
            cause=request.cause,
            event=draft.event,
            private=draft.private,
            private_digest=None if draft.private is None else private_digest(salt, draft.private),
        )

    def _undo(self, group: list[_Waiting[State]], error: Exception) -> None:
        """After a failed commit: the disk is the truth, the state in memory has run ahead of it."""
        if self._writer.in_transaction:  # SQLite rolls back by itself on a full disk
            self._writer.execute("ROLLBACK")
        if isinstance(error, apsw.FullError):
            refusal: Exception = LogFull(f"the log at {self._path.name} cannot grow ({error}); free disk space")
        elif not isinstance(error, apsw.Error):
            refusal = LogError(f"a decision could not be appended ({error!r}); nothing of its commit was kept")
            logger.error("%s", refusal, exc_info=error)
        else:
            refusal = LogBroken(f"the log at {self._path.name} failed to append ({error}); check the disk, restart")
            with self._closing:
                self._refusal = refusal
            logger.critical("%s", refusal)
        self.state = self._caught_up()
        _fail(group, refusal)

    def _caught_up(self) -> State:
        state = self._restore(self)
        while state.position < self._head:
            for row in self._writer.execute(PAGE_AFTER, (state.position, PAGE)).fetchall():
                state.apply(record_of(row))
        return state


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

    def next_version(self, stream: str) -> int:
        """The version that the next record of `stream` gets; it is taken with this."""
        known = self._versions.get(stream)
        version: int = one(self.writer, _NEXT_VERSION, stream)[0] if known is None else known + 1
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


def _fail(group: Sequence[_Waiting[State]], error: Exception) -> None:
    for waiting in group:
        waiting.future.set_exception(error)
