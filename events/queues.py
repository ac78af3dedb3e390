"""What can happen to a queue. Stream: `queue/<name>`."""

from __future__ import annotations

from events.event import Event


class QueueCreated(Event, frozen=True, kw_only=True):
    """A named line of jobs exists; `default` is created at the first start. Since 0.1."""

    name: str


class QueuePaused(Event, frozen=True, kw_only=True):
    """An operator stopped leasing from the queue; what runs goes on. Survives restarts. Since 0.1."""

    name: str


class QueueResumed(Event, frozen=True, kw_only=True):
    """An operator let the queue be leased from again. Since 0.1."""

    name: str


QueueEvent = QueueCreated | QueuePaused | QueueResumed
