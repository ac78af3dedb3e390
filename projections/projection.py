"""How a view is folded: tables of its own, a version, and one batch of records at a time.

A projection writes inside a transaction that also holds its checkpoint (projections/store.py), so it is
never torn and never ahead of what it says. Change what it writes and raise its version: it is rebuilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import apsw

from events.envelope import Record


class Projection(Protocol):
    """One disposable view of the log."""

    name: str
    version: int
    schema: str
    """DDL that makes the tables in an empty file, with what folding itself looks up by."""
    indexes: str
    """DDL of what only readers look up by: made once the whole log is folded, in a third of the time."""

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold records, in order, each exactly once, into the tables."""

    def forget(self) -> None:
        """Drop what is cached of the tables: the transaction was rolled back."""
