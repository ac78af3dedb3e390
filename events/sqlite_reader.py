"""A SQLite log that is only read: without its lock, also while a service appends to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from events.envelope import Record
from events.log import LogError
from events.sqlite_readers import Readers
from events.sqlite_rows import LEAF, LOG_ID, NEWEST, OF_STREAM, PAGE_AFTER, one, record_of


class SqliteLogReader:
    """The reading half of events.log.Log."""

    def __init__(self, path: Path) -> None:
        """Open the log at `path`. Raises LogError when there is none that can be read."""
        if not path.exists():
            raise LogError(f"there is no log at {path}; name the data folder of a service with --data")
        self._readers = Readers(path)
        try:
            self.log_id: str = one(self._readers.get(), LOG_ID)[0]
        except apsw.Error as error:
            self._readers.close()
            raise LogError(f"{path} is no log that can be read ({error}); is it a Safelight log.db?") from error

    def head(self) -> int:
        """The position of the newest durable record, 0 for an empty log."""
        newest: tuple[int, int] = one(self._readers.get(), NEWEST) or (0, 0)
        return newest[0]

    def read(self, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with a position above `after`, in order."""
        return self._records(PAGE_AFTER, after, limit)

    def read_stream(self, name: str) -> list[Record]:
        """Every record of one stream, oldest first."""
        return self._records(OF_STREAM, name)

    def leaf(self, position: int) -> bytes | None:
        """The leaf hash of the record at `position`; None when there is no such record."""
        row = one(self._readers.get(), LEAF, position)
        return bytes(row[0]) if row else None

    def close(self) -> None:
        """Let go of the file."""
        self._readers.close()

    def _records(self, sql: str, *values: Any) -> list[Record]:
        return [record_of(row) for row in self._readers.get().execute(sql, values).fetchall()]
