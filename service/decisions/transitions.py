"""Which status a job can have after which: the one table that decisions ask and docs/queue.md is drawn from."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from projections.live_job import LiveJob, Status
from service.refusals import IllegalTransition


class Transition(msgspec.Struct, frozen=True):
    """One thing that can happen: from which statuses, to which one."""

    before: tuple[Status, ...]
    after: Status


TRANSITIONS: Mapping[str, Transition] = {
    "becomes due": Transition(("scheduled",), "queued"),
    "hold": Transition(("scheduled", "queued"), "held"),
    "release": Transition(("held",), "queued"),
    "release before its time": Transition(("held",), "scheduled"),
    "lease": Transition(("queued",), "running"),
    "requeue": Transition(("running",), "queued"),
    "requeue after a pause": Transition(("running",), "scheduled"),
    "complete": Transition(("running",), "completed"),
    "fail": Transition(("running",), "failed"),
    "cancel": Transition(("scheduled", "held", "queued", "running"), "cancelled"),
    "deadline passes": Transition(("scheduled", "held", "queued", "running"), "expired"),
    "retry": Transition(("failed", "cancelled", "expired"), "queued"),
}
"""By the word that docs and refusals use."""


def check(job: LiveJob, action: str) -> None:
    """Refuse `action` for a job whose status does not allow it."""
    transition = TRANSITIONS[action]
    if job.status not in transition.before:
        raise IllegalTransition(job.id, job.status, transition.after, transition.before)
