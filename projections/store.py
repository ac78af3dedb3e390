"""Where views stand: one SQLite file, each projection with a checkpoint in the transaction of its rows.

The file may be deleted at any time. A checkpoint names the log, a position and the leaf hash there; when the
log does not have that record (restored from an older backup, another log), or a projection's version has
changed, the file is built anew beside the old one and swapped in.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from events.envelope import Record
from events.log import LogReader
from events.sqlite_readers import Readers
from projections.artifacts import ArtifactsProjection
from projections.jobs import JobsProjection
from projections.projection import Projection
from projections.queues import QueuesProjection
from projections.workers import WorkersProjection

PAGE = 1_000
"""Records folded at once by a rebuild. From 500 to 2,000 a page of them stays in the processor's cache
from decoding to freeing; 5,000 take a quarter more CPU (benchmarks/replay.py)."""

_CHECKPOINTS = """
    CREATE TABLE checkpoints (
        projection TEXT PRIMARY KEY, version INTEGER NOT NULL, log_id TEXT NOT NULL,
        position INTEGER NOT NULL, leaf BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE snapshots (
        name TEXT PRIMARY KEY, position INTEGER NOT NULL, leaf BLOB NOT NULL, state BLOB NOT NULL
    );
"""
_BUILDING = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536", "locking_mode = EXCLUSIVE")
"""How a new file is written: it is thrown away if that does not come to its end."""
_POSITION = "SELECT min(position) FROM checkpoints"
_READ_CHECKPOINTS = "SELECT projection, version, log_id, position, leaf FROM checkpoints"
_BEGIN_CHECKPOINT = "INSERT INTO checkpoints VALUES (?, ?, ?, 0, x'')"
_MOVE_CHECKPOINTS = "UPDATE checkpoints SET position = ?, leaf = ?"  # they move together, in one transaction
_READ_SNAPSHOT = "SELECT position, leaf, state FROM snapshots WHERE name = 'live'"
_WRITE_SNAPSHOT = "INSERT OR REPLACE INTO snapshots VALUES ('live', ?, ?, ?)"

logger = logging.getLogger("safelight.views")


def all_projections() -> list[Projection]:
    """Every view the service keeps, fresh."""
    return [JobsProjection(), QueuesProjection(), WorkersProjection(), ArtifactsProjection()]


class Snapshot(msgspec.Struct, frozen=True):
    """Live state as of a position, encoded: what a start folds from instead of from the first record."""

    position: int
    state: bytes


class ViewStore:
    """The views' file: one writer, any number of readers (one connection a thread)."""

    def __init__(self, path: Path, log: LogReader, projections: Sequence[Projection] | None = None) -> None:
        """Open the views of `log`, rebuilt if they do not fit it, caught up to its head."""
        self._path = path
        self._projections = list(projections) if projections is not None else all_projections()
        self._readers = Readers(path)
        if not _fits(path, log, self._projections):
            logger.info("building views from the log, %d records", log.head())
            _build(path, log, self._projections)
        self._writer = _open_writer(path)
        self.position = self.position_in(self._writer)
        self.catch_up(log)

    def catch_up(self, log: LogReader) -> None:
        """Fold whatever the log has beyond these views."""
        while records := log.read(self.position, PAGE):
            self.apply(log, records)

    def apply(self, log: LogReader, records: Sequence[Record], snapshot: Snapshot | None = None) -> None:
        """Fold durable records that follow `position`, and keep `snapshot`, in one transaction."""
        assert records[0].position == self.position + 1, f"records from {records[0].position} after {self.position}"
        _apply(self._writer, log, self._projections, records, snapshot)
        self.position = records[-1].position

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """A transaction of the folding thread, for what it keeps beside what is folded."""
        with self._writer:
            yield self._writer

    def reader(self) -> apsw.Connection:
        """This thread's own read-only connection."""
        return self._readers.get()

    def position_in(self, connection: apsw.Connection) -> int:
        """The position that the views show to whoever reads by `connection`."""
        position: int = connection.execute(_POSITION).fetchall()[0][0]  # type: ignore[assignment]
        return position

    def close(self) -> None:
        """Let go of the file."""
        self._readers.close()
        self._writer.close()


def read_snapshot(path: Path, log: LogReader) -> Snapshot | None:
    """The newest snapshot of live state beside the views of this very log, if there is one that can be read."""
    if not path.exists():
        return None
    try:
        row = _read_all(path, _READ_SNAPSHOT)
    except apsw.Error as error:
        logger.warning("no snapshot can be read from %s (%s); folding the log instead", path.name, error)
        return None
    return Snapshot(row[0][0], row[0][2]) if row and log.leaf(row[0][0]) == row[0][1] else None


def _apply(
    writer: apsw.Connection,
    log: LogReader,
    projections: Sequence[Projection],
    records: Sequence[Record],
    snapshot: Snapshot | None = None,
) -> None:
    position = records[-1].position
    leaf = log.leaf(position)
    writer.execute("BEGIN IMMEDIATE")
    try:
        for projection in projections:
            projection.apply(writer, records)
        writer.execute(_MOVE_CHECKPOINTS, (position, leaf))
        if snapshot is not None:
            writer.execute(_WRITE_SNAPSHOT, (snapshot.position, log.leaf(snapshot.position), snapshot.state))
        writer.execute("COMMIT")
    except BaseException:
        if writer.in_transaction:
            writer.execute("ROLLBACK")
        for projection in projections:
            projection.forget()
        raise


def _fits(path: Path, log: LogReader, projections: Sequence[Projection]) -> bool:
    """Whether the file holds these projections, of this very log."""
    if not path.exists():
        return False
    try:
        rows = _read_all(path, _READ_CHECKPOINTS)
    except apsw.Error as error:
        logger.warning("%s is no readable views file (%s)", path.name, error)
        return False
    wanted = {(p.name, p.version) for p in projections}
    return {(name, version) for name, version, *_ in rows} == wanted and all(
        log_id == log.log_id and (position == 0 or log.leaf(position) == leaf)
        for _, _, log_id, position, leaf in rows
    )


def _read_all(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a views file that nobody has open yet; opened for writing so that its WAL can be recovered."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def _build(path: Path, log: LogReader, projections: Sequence[Projection]) -> None:
    """Fold the whole log into a new file, then put it in the place of the old one."""
    fresh = path.with_name(path.name + ".new")
    _unlink(fresh)
    writer = apsw.Connection(str(fresh))
    for pragma in _BUILDING:
        writer.execute(f"PRAGMA {pragma}")
    writer.execute(_CHECKPOINTS)
    for projection in projections:
        projection.forget()
        writer.execute(projection.schema)
        writer.execute(_BEGIN_CHECKPOINT, (projection.name, projection.version, log.log_id))
    _fold_all(writer, log, projections)
    for projection in projections:
        writer.execute(projection.indexes)
    writer.close()
    _unlink(path)
    os.replace(fresh, path)


def _fold_all(writer: apsw.Connection, log: LogReader, projections: Sequence[Projection]) -> None:
    """In one transaction: a file that is only kept whole need not be whole after every page."""
    position = 0
    writer.execute("BEGIN IMMEDIATE")
    with _no_collections():
        while records := log.read(position, PAGE):
            for projection in projections:
                projection.apply(writer, records)
            position = records[-1].position
    if position:
        writer.execute(_MOVE_CHECKPOINTS, (position, log.leaf(position)))
    writer.execute("COMMIT")


@contextmanager
def _no_collections() -> Iterator[None]:
    """Rest Python's cycle collector: records and rows make no cycles, and looking through each page of them for
    some took two fifths of a rebuild's time (benchmarks/replay.py)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _open_writer(path: Path) -> apsw.Connection:
    writer = apsw.Connection(str(path))
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "mmap_size = 0", "trusted_schema = OFF"):
        writer.execute(f"PRAGMA {pragma}")
    return writer


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
