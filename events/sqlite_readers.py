"""Read-only connections to one SQLite file, one a thread, all closed together.

They must be closed before the file is opened by another copy of SQLite in the same process (the standard
library's, for migrations): POSIX locks belong to the process, so neither copy sees the other's, and the
second would throw away a WAL that the first still reads (sqlite.org/howtocorrupt.html, section 2.2.1).
"""

from __future__ import annotations

import threading
from pathlib import Path

import apsw

BUSY_MS = 5_000


class Readers:
    """The reading connections of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()
        self._all: list[apsw.Connection] = []
        self._lock = threading.Lock()

    def get(self) -> apsw.Connection:
        """This thread's own connection."""
        connection: apsw.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(BUSY_MS)
            connection.execute("PRAGMA query_only = ON")
            self._own.connection = connection
            with self._lock:
                self._all.append(connection)
        return connection

    def close(self) -> None:
        """Close every connection; nobody may be reading any more."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._own = threading.local()
