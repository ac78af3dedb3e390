"""Jobs as they develop, in the terminal: a line for each, or one for all where they are too many."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from web.client import Client, ClientError
from web.follow import follow
from web.job_words import clock, eta_words, waits
from web.resources import EtaResource, JobResource

ENDINGS = {"job-completed", "job-failed", "job-cancelled", "job-expired"}
MOST_LINES = 12
"""More jobs than that are one line: how many have ended."""


def follow_jobs(client: Client, jobs: Sequence[JobResource], *, quiet: bool = False) -> list[JobResource]:
    """Show the progress of jobs until all have ended; gives them as they then are. Ctrl-C leaves them running."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.fields[phase]:>14}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:g}/{task.total:g}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        lines = Lines(progress, jobs) if len(jobs) <= MOST_LINES else OneLine(progress, jobs)
        open_jobs = {job.id for job in jobs if job.finished_at is None}
        only = jobs[0].id if len(jobs) == 1 else None
        try:
            if open_jobs:
                _follow(client, lines, open_jobs, min(job.position for job in jobs) - 1, only)
        except KeyboardInterrupt:
            raise ClientError(_goes_on(jobs)) from None
    return [client.job(job.id) for job in jobs]


class Lines:
    """A line for each job."""

    def __init__(self, progress: Progress, jobs: Sequence[JobResource]) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        for job in jobs:
            steps = int(job.params.get("steps", 1) or 1)
            self._tasks[job.id] = progress.add_task("", total=steps, phase=job.status, note=waits(job))

    def step(self, job: str, phase: str, step: int, steps: int) -> None:
        """A running job came somewhere."""
        self._progress.update(self._tasks[job], completed=step, total=steps or 1, phase=phase, note="")

    def estimate(self, job: str, eta: EtaResource) -> None:
        """Somebody thinks to know when the job will be done."""
        self._progress.update(self._tasks[job], note=eta_words(eta))

    def event(self, job: str, phase: str, *, is_end: bool) -> None:
        """Something happened to a job."""
        total = self._progress.tasks[self._tasks[job]].total
        done = {"completed": total} if is_end else {}
        self._progress.update(self._tasks[job], phase=phase, note="", **done)  # type: ignore[arg-type]


class OneLine:
    """One line for all jobs: how many have ended, and when the last one will."""

    def __init__(self, progress: Progress, jobs: Sequence[JobResource]) -> None:
        self._progress = progress
        self._done_at = {job.id: job.eta.done_at or "" for job in jobs if job.eta is not None}
        ended = sum(job.finished_at is not None for job in jobs)
        self._task = progress.add_task("", total=len(jobs), completed=ended, phase="jobs", note="")

    def step(self, job: str, phase: str, step: int, steps: int) -> None:
        """A running job came somewhere: too little for one line."""

    def estimate(self, job: str, eta: EtaResource) -> None:
        """Somebody thinks to know when the job will be done."""
        self._done_at[job] = eta.done_at or ""
        last = max(self._done_at.values())
        self._progress.update(self._task, note=f"all about {clock(last)}" if last else "")

    def event(self, job: str, phase: str, *, is_end: bool) -> None:
        """Something happened to a job."""
        if is_end:
            self._progress.advance(self._task)


def _follow(client: Client, lines: Lines | OneLine, open_jobs: set[str], after: int, only: str | None) -> None:
    for message in follow(client, after=after, job=only):
        job = message.get("job") if message["op"] == "eph" else message.get("stream", "").removeprefix("job/")
        if job not in open_jobs:
            continue
        if message["op"] == "event":
            is_end = message["type"] in ENDINGS
            lines.event(job, _phase(message), is_end=is_end)
            open_jobs -= {job} if is_end else set()
        elif message["kind"] == "eta":
            lines.estimate(job, msgspec.convert(message["data"], EtaResource))
        else:
            said = message["data"]
            lines.step(job, said["phase"], said["step"], said["steps"])
        if not open_jobs:
            return


def _phase(message: dict[str, dict[str, str]]) -> str:
    names = {
        "job-submitted": "queued", "job-leased": "starting", "job-requeued": "queued again",
        "job-became-due": "queued", "job-released": "queued", "job-moved": "queued", "job-edited": "changed",
    }  # fmt: skip
    kind = str(message["type"])
    return str(message["data"].get("phase") or names.get(kind, kind.removeprefix("job-")))


def _goes_on(jobs: Sequence[JobResource]) -> str:
    if len(jobs) == 1:
        job = jobs[0].id
        return f"job {job} goes on; see it with `safelight watch {job}`, end it with `safelight cancel {job}`"
    batch = jobs[0].batch
    return (
        f"batch {batch} goes on; see it with `safelight jobs --batch {batch}`, "
        f"end it with `safelight cancel --all --batch {batch}`"
    )
