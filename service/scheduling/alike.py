"""Which waiting jobs could share one pipeline call: the same model and params, but for prompt and seed."""

from __future__ import annotations

from collections.abc import Collection

from projections.live import LiveState
from projections.live_job import LiveJob

OWN = frozenset({"seed"})
"""Public params that each job of a call may have its own of; private ones are texts, which may differ."""


def alike(state: LiveState, first: LiveJob, most: int, offered: Collection[str]) -> list[str]:
    """Up to `most` jobs in line that could run in one call with `first`, without it, in the order of the line.

    They are of its queue, tier and priority, so that nobody is overtaken by more than the calls' length; in a fair
    queue also of its submitter, and nowhere more than a submitter's cap on running jobs leaves room for.
    """
    queue = state.queues[first.queue]
    wanted = _shared(first)
    submitters = [first.submitter] if queue.rules.policy == "fair" else list(queue.order.lanes)
    lanes = [queue.order.lanes.get(submitter, {}).get(first.model, []) for submitter in submitters]
    places = sorted(place for lane in lanes for place in lane if place[:2] == first.place[:2])
    room = {name: most_of for name in submitters if (most_of := _room(state, name, first)) is not None}
    found: list[str] = []
    for *_, job in places:
        live = state.jobs[job]
        if len(found) == most:
            break
        if job == first.id or job in offered or _shared(live) != wanted or room.get(live.submitter, 1) <= 0:
            continue
        if live.submitter in room:
            room[live.submitter] -= 1
        found.append(job)
    return found


def _shared(job: LiveJob) -> dict[str, object]:
    return {name: value for name, value in job.params.items() if name not in OWN}


def _room(state: LiveState, submitter: str, first: LiveJob) -> int | None:
    """How many more the submitter may have running once `first` runs; None for any number."""
    most = state.limits_of(submitter).max_running
    if most is None:
        return None
    return most - state.running_of(submitter) - (submitter == first.submitter and first.status == "queued")
