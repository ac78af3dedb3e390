"""What can happen to a batch: jobs that one request asked for. Stream: `batch/<id>`."""

from __future__ import annotations

from events.event import Event


class BatchSubmitted(Event, frozen=True, kw_only=True):
    """A client asked for several jobs at once; each JobSubmitted names this batch. Since 0.1."""

    batch: str
    jobs: tuple[str, ...]
    queue: str
    submitter: str


BatchEvent = BatchSubmitted
