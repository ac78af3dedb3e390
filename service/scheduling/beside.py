"""What a busy worker takes beside the jobs it computes: such as can be computed with them, or come before them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from projections.live import LiveState, LiveWorker
from projections.live_job import LiveJob
from service.protocol import Seat
from service.scheduling.pick import Pick, Turn
from service.tasks.catalog import Catalog
from service.tasks.registry import TASKS


class Beside(msgspec.Struct, frozen=True):
    """A job for a busy worker, and by which of its seats it enters."""

    picked: Pick
    seat: Seat


def pick_beside(
    state: LiveState,
    worker: LiveWorker,
    seats: Collection[Seat],
    given: Sequence[str],
    offered: Collection[str],
    catalog: Catalog,
) -> Beside | None:
    """The job that is next in line for `worker`, if it can enter now by one of the worker's free seats.

    Beside: it can share calls with a job that the worker computes or was just given (`given`, by id). Before: its
    model is loaded and its priority higher than that of all of these, which then stand until it is done. Nobody is
    passed over for either: if the next in line can do neither, nobody enters.
    """
    has = [*state.attempts_of(worker.name), *(state.jobs[job] for job in given if job in state.jobs)]
    if not has or worker.name in state.quarantined:
        return None
    first = Turn(state, worker, offered, catalog).first()
    if first is None:
        return None
    if "beside" in seats and any(goes_with(first, job) for job in has):
        return Beside(Pick(first.id), "beside")
    loaded = {job.model for job in has}
    if "before" in seats and first.model in loaded and all(rank(first) > rank(job) for job in has):
        return Beside(Pick(first.id), "before")
    return None


def goes_with(one: LiveJob, other: LiveJob) -> bool:
    """Whether the two can share denoiser calls: the same model, and alike in what their tasks say must be."""
    mine, others = (_together(job) for job in (one, other))
    return one.model == other.model and mine is not None and mine == others


def rank(job: LiveJob) -> int:
    """The priority among all jobs: 0 to 100, and -1 in the background."""
    return -1 if job.is_background else job.priority


def _together(job: LiveJob) -> dict[str, object] | None:
    task = TASKS.get(job.task)
    if task is None or task.TOGETHER is None:
        return None
    return {name: job.params.get(name) for name in task.TOGETHER}
