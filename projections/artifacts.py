"""The artifact view: every stored file that a completed job links. A file nobody links is never served."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from events.envelope import Record
from events.jobs import JobCompleted

_LINK = (
    "INSERT OR IGNORE INTO artifacts (digest, job, attempt, media_type, bytes, width, height, position) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_ONE = (
    "SELECT digest, job, attempt, media_type, bytes, width, height, position FROM artifacts "
    "WHERE digest = ? ORDER BY position LIMIT 1"
)


class ArtifactView(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader is shown of a stored file."""

    digest: str
    job: str
    attempt: int
    media_type: str
    bytes: int
    width: int | None  # px
    height: int | None  # px
    position: int


class ArtifactsProjection:
    """Folds completed jobs into `artifacts`. Two jobs may link the same bytes."""

    name = "artifacts"
    version = 1
    schema = """
        CREATE TABLE artifacts (
            digest TEXT NOT NULL, job TEXT NOT NULL, attempt INTEGER NOT NULL, media_type TEXT NOT NULL,
            bytes INTEGER NOT NULL, width INTEGER, height INTEGER, position INTEGER NOT NULL,
            PRIMARY KEY (digest, job)
        ) WITHOUT ROWID;
    """
    indexes = ""

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold the completions among `records`."""
        connection.executemany(
            _LINK,
            [
                (a.digest, r.subject, r.event.attempt, a.media_type, a.bytes, a.width, a.height, r.position)
                for r in records
                if isinstance(r.event, JobCompleted)
                for a in r.event.artifacts
            ],
        )

    def forget(self) -> None:
        """Nothing is cached."""


def find_artifact(connection: apsw.Connection, digest: str) -> ArtifactView | None:
    """The stored file with this digest, as the first job that links it has it."""
    row = connection.execute(_ONE, (digest,)).fetchone()
    return ArtifactView(**dict(zip(ArtifactView.__struct_fields__, row, strict=True))) if row else None
