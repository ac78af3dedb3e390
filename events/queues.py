"""What can happen to a queue. Stream: `queue/<name>`."""

from __future__ import annotations

from typing import Literal

import msgspec

from events.event import Event

Policy = Literal["fifo", "fair"]
"""Who is next among jobs of one priority: who came first, or whose submitter had the least GPU time."""

PauseReason = Literal["operator", "crash"]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a queue is run. None is no bound. Finished jobs leave the views after `keep_s`, or beyond `keep_jobs`."""

    policy: Policy = "fifo"
    capacity: int | None = None  # jobs that may wait
    keep_s: float | None = None
    keep_jobs: int | None = None


class QueueCreated(Event, frozen=True, kw_only=True):
    """A named line of jobs exists; `default` is created at the first start. Since 0.1."""

    name: str


class QueueConfigured(Event, frozen=True, kw_only=True):
    """An operator changed how the queue is run: all of its rules, as they are now. Since 0.1."""

    name: str
    rules: Rules


class QueuePaused(Event, frozen=True, kw_only=True):
    """Nothing is leased from the queue any more; what runs goes on. Survives restarts. Since 0.1."""

    name: str
    reason: PauseReason = "operator"


class QueueDrained(Event, frozen=True, kw_only=True):
    """An operator closed the queue for new jobs; those that wait are still run. Since 0.1."""

    name: str


class QueueResumed(Event, frozen=True, kw_only=True):
    """An operator let the queue be leased from, and submitted to, again. Since 0.1."""

    name: str


class QueuePruned(Event, frozen=True, kw_only=True):
    """Jobs that ended at position `through` or before leave the views; the log keeps them. Since 0.1."""

    name: str
    through: int


QueueEvent = QueueCreated | QueueConfigured | QueuePaused | QueueDrained | QueueResumed | QueuePruned
