"""Attempts that take too long: no step for ten times as long as a step should take, or longer than any job may."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from events.envelope import Record
from projections.costs import steps_of
from projections.live import LiveState
from projections.live_job import LiveJob
from service import commands as ask
from service import protocol as say
from service.handle import Handler
from service.tasks.registry import TASKS
from service.tasks.task import Params

STALLED_STEPS = 10
"""Predicted steps without a step after which an attempt is taken to hang."""

MIN_STALL_S = 60.0
"""But not sooner: the first steps of a model compile kernels, and a busy machine stutters."""


LEARNING_STALL_S = 600.0
"""But not sooner than this while the model is new to the device: then the predicted step is a guess, and one of a
large model on a processor may take minutes."""


class Watched(msgspec.Struct):
    """A running attempt; instants are monotonic seconds."""

    token: int
    began_at: float
    moved_at: float
    at: tuple[str, int] = ("", 0)  # phase and step; of an adopted attempt only its progress tells the phase


class Watchdog:
    """When each running attempt began and last came a step further. After a restart both count from then."""

    def __init__(self, handler: Handler, monotonic: Callable[[], float]) -> None:
        self._handler = handler
        self._monotonic = monotonic
        self._watched: dict[str, Watched] = {}

    def moved(self, said: Record | say.Progress) -> None:
        """A running job was leased, or came somewhere."""
        job = said.job if isinstance(said, say.Progress) else said.subject
        watched = self._watch(self._handler.state.jobs[job])
        at = (said.phase, said.step) if isinstance(said, say.Progress) else (said.event.type, said.position)
        if at != watched.at:
            watched.at, watched.moved_at = at, self._monotonic()

    def ended(self, job: str) -> None:
        """The job does not run any more."""
        self._watched.pop(job, None)

    def overdue(self) -> Iterator[ask.TimeOutAttempt]:
        """What to ask for now."""
        now, state = self._monotonic(), self._handler.state
        for job in [state.jobs[name] for name in state.running]:
            watched = self._watch(job)
            run_s, still_s = now - watched.began_at, now - watched.moved_at
            kind = TASKS.get(job.task, Params)  # one whose package is gone has the limits of any task
            if run_s > (most_s := kind.RUN_TIMEOUT_S):
                why = f"attempt {job.attempt} ran for {run_s:.0f} s, and {job.task} may take {most_s:.0f}"
                yield ask.TimeOutAttempt(job=job.id, attempt=job.attempt, why=why)
            elif kind.STEPPING in (job.phase, watched.at[0]) and still_s > (patience_s := _patience_s(state, job)):
                why = f"attempt {job.attempt} made no step for {still_s:.0f} s, and {patience_s:.0f} s are waited"
                yield ask.TimeOutAttempt(job=job.id, attempt=job.attempt, why=why)

    def _watch(self, job: LiveJob) -> Watched:
        """What is known of the attempt that the job runs under."""
        watched = self._watched.get(job.id)
        if watched is None or watched.token != job.token:
            now = self._monotonic()
            watched = self._watched[job.id] = Watched(job.token, now, now)
        return watched


def _patience_s(state: LiveState, job: LiveJob) -> float:
    """Seconds without a step after which the attempt is taken to hang."""
    worker = state.workers.get(job.worker)
    told = state.costs.predict(job.model, worker.device, job.work) if worker is not None else None
    least_s = LEARNING_STALL_S if told is None or told.is_learning else MIN_STALL_S
    return max(least_s, STALLED_STEPS * job.predicted_s / max(1.0, steps_of(job.params)))
