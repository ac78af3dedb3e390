"""The agent's journal on disk: numbered messages not yet acknowledged, and results not yet delivered.

A message survives this process when `write` returns, and a power cut when `sync` does, which comes before it is
sent; it stays until the service acknowledges it, over any number of agent processes. What runs is not here: an
attempt that was computing dies with its agent. Files themselves lie in the spool folder; the journal only knows
their names.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from service.protocol import Completed, Failed, Phase, Reported, RunningAttempt, Stopped
from service.worker.frames import SpooledFile

FORMAT = 1

_SCHEMA = """
CREATE TABLE message (number INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, attempt INTEGER NOT NULL,
                      is_last INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE result (job TEXT NOT NULL, attempt INTEGER NOT NULL, body BLOB NOT NULL,
                     PRIMARY KEY (job, attempt));
"""
# a number is never used twice, not even after its row was deleted and the agent restarted: AUTOINCREMENT
_ADD_MESSAGE = "INSERT INTO message (job, attempt, is_last, body) VALUES (?, ?, ?, ?)"
_MESSAGES_AFTER = "SELECT number, body FROM message WHERE number > ? ORDER BY number LIMIT ?"
_MESSAGES_OF = "SELECT number, body FROM message WHERE job = ? AND attempt = ?"
_RESTAMP_MESSAGE = "UPDATE message SET body = ? WHERE number = ?"
_HAS_LAST = "SELECT 1 FROM message WHERE job = ? AND attempt = ? AND is_last"
_ENDED_THROUGH = "SELECT job, attempt FROM message WHERE number <= ? AND is_last"
_FORGET_THROUGH = "DELETE FROM message WHERE number <= ?"
_FORGET_MESSAGES = "DELETE FROM message WHERE job = ? AND attempt = ?"
_PUT_RESULT = "INSERT OR REPLACE INTO result (job, attempt, body) VALUES (?, ?, ?)"
_RESULTS = "SELECT body FROM result ORDER BY rowid"
_RESULT_OF = "SELECT body FROM result WHERE job = ? AND attempt = ?"
_FORGET_RESULT = "DELETE FROM result WHERE job = ? AND attempt = ?"
# after a crash of the agent: what an attempt said before it had an outcome is worth nothing any more
_FORGET_UNFINISHED = """
DELETE FROM message WHERE NOT EXISTS (SELECT 1 FROM message AS last
    WHERE last.job = message.job AND last.attempt = message.attempt AND last.is_last)
  AND NOT EXISTS (SELECT 1 FROM result WHERE result.job = message.job AND result.attempt = message.attempt)
"""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt made, on disk and not yet delivered; `facts` as in protocol.Completed."""

    job: str
    attempt: int
    token: int
    files: tuple[SpooledFile, ...]
    facts: dict[str, Any]


class JournalUnreadable(Exception):
    """The journal's file is none of ours, of another version, or damaged."""


class Journal:
    """The open journal. One process and one thread at a time; the spool's lock sees to that."""

    def __init__(self, path: Path) -> None:
        """Open or create it, forgetting what unfinished attempts of an earlier process said.

        Raises JournalUnreadable.
        """
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            # WAL needs one fsync for a commit (0.4 ms here, TRUNCATE 1.6 ms). With one connection only, the
            # WAL-reset corruption of SQLite before 3.51.3 cannot happen.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={FORMAT}; COMMIT;")
            elif version != FORMAT:
                raise JournalUnreadable(
                    f"{path.name} has format {version}, this worker reads {FORMAT}; give another --spool"
                )
            self._database.execute(_FORGET_UNFINISHED)
            # One full commit has SQLite sync the folder that names the WAL. From here on a commit is a write, and
            # `sync` makes all of them durable at once: three messages of a short job cost one fsync, not three, and
            # an acknowledged one costs none (the service knows a repeat).
            self._database.execute(f"PRAGMA user_version={FORMAT}")
            self._database.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.DatabaseError as error:
            raise JournalUnreadable(
                f"{path.name} cannot be read ({error}); move it away or give another --spool"
            ) from error
        self._wal = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._is_synced = True

    def close(self) -> None:
        """Close the file; nothing is pending."""
        self.sync()
        os.close(self._wal)
        self._database.close()

    def sync(self) -> None:
        """Return when everything written so far is durable. Raises sqlite3.Error when the disk fails, for good."""
        if self._is_synced:
            return
        try:
            os.fdatasync(self._wal)
        except OSError as error:  # no lost session: a second try could pass and mean nothing
            raise sqlite3.OperationalError(f"the journal cannot be synced ({error.strerror})") from error
        self._is_synced = True

    # numbered messages

    def write(self, message: Reported) -> Reported:
        """The message under its own number. The number given in `message` is ignored."""
        is_last = not isinstance(message, Phase)
        body = msgspec.msgpack.encode(message)
        cursor = self._database.execute(_ADD_MESSAGE, (message.job, message.attempt, is_last, body))
        self._is_synced = False
        assert cursor.lastrowid is not None, "an INSERT has a row id"
        return msgspec.structs.replace(message, number=cursor.lastrowid)

    def after(self, number: int, limit: int = 100) -> list[Reported]:
        """The first unacknowledged messages with a number above `number`, in order."""
        rows = self._database.execute(_MESSAGES_AFTER, (number, limit)).fetchall()
        return [_message(*row) for row in rows]

    def acknowledge(self, through: int) -> list[tuple[str, int]]:
        """Forget every message up to `through`; gives the (job, attempt) pairs that are thereby over."""
        ended: list[tuple[str, int]] = self._database.execute(_ENDED_THROUGH, (through,)).fetchall()
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute(_FORGET_THROUGH, (through,))
        return ended

    # attempts

    def held(self) -> list[RunningAttempt]:
        """Every attempt with an outcome that the service has not acknowledged, oldest first."""
        outcomes: list[Result | Reported] = [*self.after(0, limit=-1), *self.results()]
        return list(
            {
                (one.job, one.attempt): RunningAttempt(job=one.job, attempt=one.attempt, token=one.token)
                for one in outcomes
                if not isinstance(one, Phase)
            }.values()
        )

    def has_outcome(self, job: str, attempt: int) -> bool:
        """Whether the last message of the attempt is written and not acknowledged."""
        return self._database.execute(_HAS_LAST, (job, attempt)).fetchone() is not None

    def restamp(self, job: str, attempt: int, token: int) -> None:
        """Put everything kept of the attempt under a new token."""
        with self._database:
            self._database.execute("BEGIN")
            for number, body in self._database.execute(_MESSAGES_OF, (job, attempt)).fetchall():
                message = msgspec.structs.replace(_message(number, body), token=token)
                self._database.execute(_RESTAMP_MESSAGE, (msgspec.msgpack.encode(message), number))
            result = self.result(job, attempt)
            if result is not None:
                self._put(msgspec.structs.replace(result, token=token))
        self._is_synced = False

    def drop(self, job: str, attempt: int) -> tuple[SpooledFile, ...]:
        """Forget the attempt altogether; gives the files it leaves behind."""
        result = self.result(job, attempt)
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute(_FORGET_MESSAGES, (job, attempt))
            self._database.execute(_FORGET_RESULT, (job, attempt))
        return result.files if result is not None else ()

    # results

    def keep(self, result: Result) -> None:
        """Remember a result whose files are on disk, in place of an earlier one. Durable on return."""
        self._put(result)
        self._is_synced = False
        self.sync()

    def _put(self, result: Result) -> None:
        self._database.execute(_PUT_RESULT, (result.job, result.attempt, msgspec.msgpack.encode(result)))

    def result(self, job: str, attempt: int) -> Result | None:
        """What the attempt made, if it is kept."""
        row = self._database.execute(_RESULT_OF, (job, attempt)).fetchone()
        return msgspec.msgpack.decode(row[0], type=Result) if row is not None else None

    def results(self) -> list[Result]:
        """Every kept result, oldest first."""
        rows = self._database.execute(_RESULTS).fetchall()
        return [msgspec.msgpack.decode(body, type=Result) for (body,) in rows]


_reported: msgspec.msgpack.Decoder[Reported] = msgspec.msgpack.Decoder(Phase | Completed | Failed | Stopped)


def _message(number: int, body: bytes) -> Reported:
    return msgspec.structs.replace(_reported.decode(body), number=number)
