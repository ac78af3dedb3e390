"""The job view: one row a job with everything a reader is shown, and the counts of each queue.

A row is its filter columns and a JSON body. Counts are kept as the rows change, so that reading one never
depends on how many jobs there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    "INSERT INTO jobs (id, submitted, queue, status, task, model, submitter, finished, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
    "status = excluded.status, finished = excluded.finished, body = excluded.body"
)
_COUNT = (
    "INSERT INTO job_counts (queue, status, jobs) VALUES (?, ?, ?) "
    "ON CONFLICT (queue, status) DO UPDATE SET jobs = jobs + excluded.jobs"
)


class PhaseView(msgspec.Struct):
    """A phase an attempt entered."""

    phase: str
    at_us: int


class AttemptView(msgspec.Struct):
    """One try of a job. `outcome` is how it ended: completed, failed, cancelled, or why it was requeued."""

    attempt: int
    worker: str
    started_at_us: int
    ended_at_us: int | None = None
    outcome: str | None = None
    detail: str | None = None
    phases: list[PhaseView] = []


class JobView(msgspec.Struct):
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
    version = 1
    schema = """
        CREATE TABLE jobs (
            id TEXT PRIMARY KEY,
            submitted INTEGER NOT NULL,   -- position of the submission: creation order
            queue TEXT NOT NULL, status TEXT NOT NULL, task TEXT NOT NULL, model TEXT NOT NULL,
            submitter TEXT NOT NULL,
            finished INTEGER,             -- position of the end, NULL while unfinished
            body BLOB NOT NULL            -- JobView as JSON
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX jobs_submitted ON jobs (submitted);
        CREATE INDEX jobs_status ON jobs (status, submitted);
        CREATE INDEX jobs_queue ON jobs (queue, status, submitted);
        CREATE INDEX jobs_finished ON jobs (status, finished) WHERE finished IS NOT NULL;
        CREATE TABLE job_counts (
            queue TEXT NOT NULL, status TEXT NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY (queue, status)
        ) WITHOUT ROWID;
    """

    def __init__(self) -> None:
        self._cache: dict[str, JobView] = {}

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold the job records among `records`; each touched row is written once."""
        touched: dict[str, JobView] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for record in records:
            if record.category != "job":
                continue
            view = touched.get(record.subject) or self._row(connection, record)
            before = view.status if view else None
            view = fold_view(view, record)
            if view.status != before:
                counts[view.queue, view.status] += 1
                if before is not None:
                    counts[view.queue, before] -= 1
            touched[view.id] = view
        connection.executemany(_UPSERT, map(_columns, touched.values()))
        connection.executemany(_COUNT, [(*key, change) for key, change in counts.items() if change])
        self._keep(touched)

    def forget(self) -> None:
        """Drop the cached rows."""
        self._cache.clear()

    def _row(self, connection: apsw.Connection, record: Record) -> JobView | None:
        if isinstance(record.event, JobSubmitted):
            return None
        cached = self._cache.get(record.subject)
        if cached is not None:
            return cached
        row = connection.execute(_FETCH, (record.subject,)).fetchone()
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
_encoder = msgspec.json.Encoder()


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
    match event:
        case JobLeased():
            _leased(view, event, record)
        case JobPhaseEntered(phase=phase):
            view.phase = phase
            view.attempts[-1].phases.append(PhaseView(phase, record.at_us))
        case JobRequeued(reason=reason, detail=detail):
            _end_attempt(view, record, reason, detail)
            view.status, view.phase, view.cancel_requested = "queued", "", False
        case JobCancelRequested():
            view.cancel_requested = True
        case JobCompleted(artifacts=artifacts, facts=facts):
            view.artifacts, view.facts = artifacts, facts
            _finish(view, record, "completed")
        case JobFailed(error=error):
            view.error = error
            _finish(view, record, "failed", error.message)
        case JobCancelled():
            _finish(view, record, "cancelled")
        case JobRetried():
            view.status, view.error, view.cancel_requested = "queued", None, False
            view.started_at_us = view.finished_at_us = view.finished_position = None
        case _:
            raise AssertionError(f"no fold for {event.type}")
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


def _finish(view: JobView, record: Record, status: Status, detail: str | None = None) -> None:
    if view.status == "running":
        _end_attempt(view, record, status, detail)
    view.status, view.phase, view.cancel_requested = status, "", False
    view.finished_at_us, view.finished_position = record.at_us, record.position


def _end_attempt(view: JobView, record: Record, outcome: str, detail: str | None) -> None:
    attempt = view.attempts[-1]
    attempt.ended_at_us, attempt.outcome, attempt.detail = record.at_us, outcome, detail


def _columns(view: JobView) -> tuple[Any, ...]:
    return (
        view.id, view.submitted_position, view.queue, view.status, view.task, view.model, view.submitter,
        view.finished_position, _encoder.encode(view),
    )  # fmt: skip
