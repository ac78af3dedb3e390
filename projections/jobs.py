"""The job view: one row a job with everything a reader is shown, and the counts of each queue.

A row is its filter columns and a JSON body, under the position of its submission: new rows go to the end of the
table, and a body of up to 4 KB lies in one page with its row. Counts are kept as the rows change, so that reading
one never depends on how many jobs there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from events.envelope import Record
from events.jobs import (
    ArtifactRef,
    JobCancelled,
    JobCancelRequested,
    JobCompleted,
    JobError,
    JobFailed,
    JobLeased,
    JobPhaseEntered,
    JobRequeued,
    JobRetried,
    JobSubmitted,
)
from projections.live import Status

CACHE_JOBS = 20_000
"""Unfinished rows kept decoded between batches: about 20 MB, and no read before a write."""

_FETCH = "SELECT body FROM jobs WHERE id = ?"
_UPSERT = (
    "INSERT INTO jobs (submitted, id, queue, status, task, model, submitter, finished, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (submitted) DO UPDATE SET "
    "status = excluded.status, finished = excluded.finished, body = excluded.body"
)
_COUNT = (
    "INSERT INTO job_counts (queue, status, jobs) VALUES (?, ?, ?) "
    "ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + excluded.jobs"
)


class PhaseView(msgspec.Struct, omit_defaults=True):
    """A phase an attempt entered."""

    phase: str
    at_us: int


class AttemptView(msgspec.Struct, omit_defaults=True):
    """One try of a job. `outcome` is how it ended: completed, failed, cancelled, or why it was requeued."""

    attempt: int
    worker: str
    started_at_us: int
    ended_at_us: int | None = None
    outcome: str | None = None
    detail: str | None = None
    phases: list[PhaseView] = []


class JobView(msgspec.Struct, omit_defaults=True):
    """What a reader is shown of a job. Instants are UTC microseconds; `*_position` are places in the log."""

    id: str
    task: str
    model: str
    queue: str
    status: Status
    priority: int
    submitter: str
    tags: tuple[str, ...]
    params: dict[str, Any]  # private ones included until they are erased
    created_at_us: int
    submitted_position: int
    position: int  # of the newest event
    phase: str = ""
    cancel_requested: bool = False
    started_at_us: int | None = None  # of the newest attempt
    finished_at_us: int | None = None
    finished_position: int | None = None
    attempts: list[AttemptView] = []
    error: JobError | None = None
    artifacts: tuple[ArtifactRef, ...] = ()
    facts: dict[str, Any] = {}


class JobsProjection:
    """Folds job streams into `jobs` and `job_counts`."""

    name = "jobs"
    version = 2
    schema = """
        CREATE TABLE jobs (
            submitted INTEGER PRIMARY KEY,  -- position of the submission: creation order
            id TEXT NOT NULL,
            queue TEXT NOT NULL, status TEXT NOT NULL, task TEXT NOT NULL, model TEXT NOT NULL,
            submitter TEXT NOT NULL,
            finished INTEGER,               -- position of the end, NULL while unfinished
            body BLOB NOT NULL              -- JobView as JSON
        );
        CREATE UNIQUE INDEX jobs_id ON jobs (id);
        CREATE TABLE job_counts (
            queue TEXT NOT NULL, status TEXT NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY (queue, status)
        ) WITHOUT ROWID;
    """
    indexes = """
        CREATE INDEX jobs_status ON jobs (status, submitted);
        CREATE INDEX jobs_queue ON jobs (queue, status, submitted);
        CREATE INDEX jobs_finished ON jobs (status, finished) WHERE finished IS NOT NULL;
    """

    def __init__(self) -> None:
        self._cache: dict[str, JobView] = {}

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold the job records among `records`; each touched row is written once."""
        touched: dict[str, JobView] = {}
        before: dict[str, str | None] = {}  # job id -> its status in the table, None for a new one
        for record in records:
            category, _, job = record.stream.partition("/")
            if category != "job":
                continue
            view = touched.get(job)
            if view is None:
                view = self._row(connection, job, record)
                before[job] = view.status if view is not None else None
            touched[job] = fold_view(view, record)
        connection.executemany(_UPSERT, map(_columns, touched.values()))
        connection.executemany(_COUNT, _count_changes(touched, before))
        self._keep(touched)

    def forget(self) -> None:
        """Drop the cached rows."""
        self._cache.clear()

    def _row(self, connection: apsw.Connection, job: str, record: Record) -> JobView | None:
        if isinstance(record.event, JobSubmitted):
            return None
        cached = self._cache.get(job)
        if cached is not None:
            return cached
        row = connection.execute(_FETCH, (job,)).fetchone()
        assert row is not None, f"{record.event.type} at {record.position} of a job that was never submitted"
        return decode_view(row[0])

    def _keep(self, touched: dict[str, JobView]) -> None:
        for job, view in touched.items():
            if view.finished_position is None:
                self._cache[job] = view
            else:
                self._cache.pop(job, None)
        if len(self._cache) > CACHE_JOBS:
            self._cache.clear()


_decoder = msgspec.json.Decoder(JobView)
_encoder = msgspec.json.Encoder(order="deterministic")  # as the log has it: a rebuilt row is the same bytes


def decode_view(body: bytes) -> JobView:
    """The view of a stored row body."""
    return _decoder.decode(body)


def fold_view(view: JobView | None, record: Record) -> JobView:
    """The view after one more record of its job. The given view is changed in place and returned."""
    event = record.event
    if view is None:
        assert isinstance(event, JobSubmitted), f"{event.type} cannot begin a job"
        return _submitted(event, record)
    view.position = record.position
    _FOLDS[type(event)](view, event, record)
    return view


def _submitted(event: JobSubmitted, record: Record) -> JobView:
    private = msgspec.json.decode(record.private) if record.private else {}
    return JobView(
        id=record.subject,
        task=event.task,
        model=event.model,
        queue=event.queue,
        status="queued",
        priority=event.priority,
        submitter=event.submitter,
        tags=event.tags,
        params={**event.params, **private},
        created_at_us=record.at_us,
        submitted_position=record.position,
        position=record.position,
    )


def _leased(view: JobView, event: JobLeased, record: Record) -> None:
    view.status = "running"
    if event.adopted:
        attempt = view.attempts[-1]
        attempt.ended_at_us = attempt.outcome = attempt.detail = None
        view.phase = attempt.phases[-1].phase if attempt.phases else ""
        return
    view.phase = ""
    view.started_at_us = record.at_us
    view.attempts.append(AttemptView(event.attempt, event.worker, record.at_us))


def _entered(view: JobView, event: JobPhaseEntered, record: Record) -> None:
    view.phase = event.phase
    view.attempts[-1].phases.append(PhaseView(event.phase, record.at_us))


def _requeued(view: JobView, event: JobRequeued, record: Record) -> None:
    _end_attempt(view, record, event.reason, event.detail)
    view.status, view.phase, view.cancel_requested = "queued", "", False


def _cancel_requested(view: JobView, event: JobCancelRequested, record: Record) -> None:
    view.cancel_requested = True


def _completed(view: JobView, event: JobCompleted, record: Record) -> None:
    view.artifacts, view.facts = event.artifacts, event.facts
    _finish(view, record, "completed")


def _failed(view: JobView, event: JobFailed, record: Record) -> None:
    view.error = event.error
    _finish(view, record, "failed", event.error.message)


def _cancelled(view: JobView, event: JobCancelled, record: Record) -> None:
    _finish(view, record, "cancelled")


def _retried(view: JobView, event: JobRetried, record: Record) -> None:
    view.status, view.error, view.cancel_requested = "queued", None, False
    view.started_at_us = view.finished_at_us = view.finished_position = None


_FOLDS: Mapping[type, Callable[[JobView, Any, Record], None]] = {
    JobLeased: _leased,
    JobPhaseEntered: _entered,
    JobRequeued: _requeued,
    JobCancelRequested: _cancel_requested,
    JobCompleted: _completed,
    JobFailed: _failed,
    JobCancelled: _cancelled,
    JobRetried: _retried,
}
"""What each event after the submission changes. A table, because a replay looks here a million times."""


def _finish(view: JobView, record: Record, status: Status, detail: str | None = None) -> None:
    if view.status == "running":
        _end_attempt(view, record, status, detail)
    view.status, view.phase, view.cancel_requested = status, "", False
    view.finished_at_us, view.finished_position = record.at_us, record.position


def _end_attempt(view: JobView, record: Record, outcome: str, detail: str | None) -> None:
    attempt = view.attempts[-1]
    attempt.ended_at_us, attempt.outcome, attempt.detail = record.at_us, outcome, detail


def _count_changes(touched: Mapping[str, JobView], before: Mapping[str, str | None]) -> list[tuple[str, str, int]]:
    """(queue, status, change) for every count that is another one now."""
    changes: Counter[tuple[str, str]] = Counter()
    for job, view in touched.items():
        changes[view.queue, view.status] += 1
        was = before[job]
        if was is not None:
            changes[view.queue, was] -= 1
    return [(*key, change) for key, change in changes.items() if change]


def _columns(view: JobView) -> tuple[Any, ...]:
    return (
        view.submitted_position, view.id, view.queue, view.status, view.task, view.model, view.submitter,
        view.finished_position, _encoder.encode(view),
    )  # fmt: skip
