"""A state small enough to see through: how many records, and which jobs, have been folded."""

from __future__ import annotations

from dataclasses import dataclass, field

from events.envelope import Draft, Record
from events.jobs import JobSubmitted
from events.log import Asked, Decision, Log, Request

ASKED = Request(actor="tester", cause="test")


@dataclass
class Counting:
    """Folds by counting; decisions in the tests look at `streams`."""

    position: int = 0
    streams: list[str] = field(default_factory=list)

    def apply(self, record: Record) -> None:
        assert record.position == self.position + 1
        self.position = record.position
        self.streams.append(record.stream)


def submitted(
    number: int, *, private: bytes | None = None, event_id: str | None = None, begins: bool = False
) -> Draft:
    """A draft of a submission on the stream `job/<number>`."""
    event = JobSubmitted(
        queue="default", task="pretend", model="pretend", params={"n": number}, priority=50, submitter="tester"
    )
    return Draft(stream=f"job/{number}", event=event, private=private, event_id=event_id, begins=begins)


def asked(*what: Draft | Decision[Counting]) -> Asked[Counting]:
    """A decision, or one that appends the drafts given."""
    if len(what) == 1 and not isinstance(what[0], Draft):
        return Asked(what[0], ASKED)
    drafts = [draft for draft in what if isinstance(draft, Draft)]
    return Asked(lambda tx: drafts, ASKED)


def append(log: Log[Counting], *numbers: int) -> list[Record]:
    """Submissions in one commit; gives their records."""
    (records,) = log.commit([asked(*map(submitted, numbers))]).outcomes
    assert isinstance(records, list), records
    return records
