"""Attempts that take too long: no step for ten times as long as a step should take, or longer than any job may."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from events.envelope import Record
from projections.live_job import LiveJob
from service import commands as ask
from service import protocol as say
from service.handle import Handler
from service.tasks.catalog import TASKS

STALLED_STEPS = 10
"""Predicted steps without a step after which an attempt is taken to hang."""

MIN_STALL_S = 60.0
"""But not sooner: the first steps of a model compile kernels, and a busy machine stutters."""


class Watched(msgspec.Struct):
    """A running attempt; instants are monotonic seconds."""

    token: int
    began_at: float
    moved_at: float
    at: tuple[str, int] = ("", 0)  # phase and step


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
            most_s = TASKS[job.task].RUN_TIMEOUT_S if job.task in TASKS else None
            if most_s is not None and run_s > most_s:
                why = f"attempt {job.attempt} ran for {run_s:.0f} s, and {job.task} may take {most_s:.0f}"
                yield ask.TimeOutAttempt(job=job.id, attempt=job.attempt, why=why)
            elif job.phase == "denoising" and still_s > _stall_s(job):
                why = f"attempt {job.attempt} made no step for {still_s:.0f} s, which is ten steps' time"
                yield ask.TimeOutAttempt(job=job.id, attempt=job.attempt, why=why)

    def _watch(self, job: LiveJob) -> Watched:
        """What is known of the attempt that the job runs under."""
        watched = self._watched.get(job.id)
        if watched is None or watched.token != job.token:
            now = self._monotonic()
            watched = self._watched[job.id] = Watched(job.token, now, now)
        return watched


def _stall_s(job: LiveJob) -> float:
    steps = job.params.get("steps") or 1
    return max(MIN_STALL_S, STALLED_STEPS * job.predicted_s / steps)
