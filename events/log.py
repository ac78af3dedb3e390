"""The log's promise, kept by every engine and tested by one conformance suite.

A decision runs under the log's write lock, against state that has first caught up to the head. What it
returns is appended with dense positions in commit order; many decisions share one commit, and what that came
to is known once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from events.envelope import Draft, Record


class Fold(Protocol):
    """State that decisions look at: it applies records in order and knows how far it has come."""

    position: int

    def apply(self, record: Record) -> None:
        """Take in the record at `position` + 1."""


State = TypeVar("State", bound=Fold)
State_co = TypeVar("State_co", bound=Fold, covariant=True)


class Transaction(Protocol[State_co]):
    """What a decision may look at while it holds the lock."""

    @property
    def state(self) -> State_co:
        """The state at the head, earlier decisions of the same commit included."""

    @property
    def at_us(self) -> int:
        """The instant, UTC microseconds, that the records of this decision will carry."""

    def stream(self, name: str) -> list[Record]:
        """Every record of one stream, oldest first, those of this transaction included."""


Decision = Callable[[Transaction[State]], Sequence[Draft]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and by which request: both stand in every record the decision causes."""

    actor: str
    cause: str


class Asked(msgspec.Struct, Generic[State], frozen=True):
    """A decision to be run, and for whom. `many` is the most records that it may make."""

    decision: Decision[State]
    request: Request
    many: int = 1


class Committed(msgspec.Struct, frozen=True):
    """What a commit came to."""

    records: list[Record]
    """Those it appended, in order and each once."""
    outcomes: list[list[Record] | Exception]
    """Of each decision in turn: its records (none when it wanted none), or what it raised."""


class LogReader(Protocol):
    """What can be read of a log."""

    log_id: str
    """Random identity of this log; a restored copy that diverged must be given another."""

    def head(self) -> int:
        """The position of the newest durable record, 0 for an empty log."""

    def read(self, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with a position above `after`, in order."""

    def read_stream(self, name: str) -> list[Record]:
        """Every durable record of one stream, oldest first."""

    def leaf(self, position: int) -> bytes | None:
        """The leaf hash of the record at `position`; None when there is no such record."""


class Log(LogReader, Protocol[State]):
    """An append-only sequence of records with dense positions."""

    def commit(self, asked: Sequence[Asked[State]]) -> Committed:
        """Run the decisions one after another under the lock, append what they return, and make it durable.

        Any thread may ask; it blocks until the disk has answered. What a decision raises is its outcome, it
        appends nothing and disturbs no other. When the commit fails, nothing of it is kept and every outcome is
        the LogFull, LogBroken or LogError that says why.
        """

    def close(self) -> None:
        """Let go of the files. Later decisions are refused."""


class LogError(Exception):
    """The log cannot do what was asked; the message says what failed and what to do."""


class LogFull(LogError):
    """The disk has no room: nothing was appended, nothing acknowledged was lost."""


class LogBroken(LogError):
    """The disk failed while appending: what was asked was not kept, and the log takes no more."""


class LogBusy(LogError):
    """Another process serves this log."""


class LogClosed(LogError):
    """The log was closed before the decision could run."""
