"""A state small enough to see through: how many records, and which jobs, have been folded."""

from __future__ import annotations

from dataclasses import dataclass, field

from events.envelope import Draft, Record
from events.jobs import JobSubmitted
from events.log import Request

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


def submitted(number: int, *, private: bytes | None = None, event_id: str | None = None) -> Draft:
    """A draft of a submission on the stream `job/<number>`."""
    event = JobSubmitted(
        queue="default", task="pretend", model="pretend", params={"n": number}, priority=50, submitter="tester"
    )
    return Draft(stream=f"job/{number}", event=event, private=private, event_id=event_id)
