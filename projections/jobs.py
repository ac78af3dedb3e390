"""The job view: one row a job with everything a reader is shown, and the counts of each queue.

A row is its filter columns and a JSON body, under the position of its submission: new rows go to the end of the
table, and a body of up to 4 KB lies in one page with its row. Counts are kept as the rows change, so that reading
one never depends on how many jobs there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from events.envelope import Record
from events.jobs import (
    ArtifactRef,
    Deadline,
    JobBecameDue,
    JobCancelled,
    JobCancelRequested,
    JobCompleted,
    JobEdited,
    JobError,
    JobExpired,
    JobFailed,
    JobHeld,
    JobLeased,
    JobMoved,
    JobPhaseEntered,
    JobReleased,
    JobRequeued,
    JobRetried,
    JobSubmitted,
)
from events.queues import QueuePruned
from projections.live_job import Status

CACHE_JOBS = 20_000
"""Unfinished rows kept decoded between batches: about 20 MB, and no read before a write."""

_FETCH = "SELECT body FROM jobs WHERE id = ?"
_UPSERT = (
    "INSERT INTO jobs (submitted, id, queue, status, task, model, submitter, batch, finished, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (submitted) DO UPDATE SET queue = excluded.queue, "
    "model = excluded.model, status = excluded.status, finished = excluded.finished, body = excluded.body"
)
_COUNT_PRUNED = "SELECT status, -count(*) FROM jobs WHERE queue = ? AND finished <= ? GROUP BY status"
_PRUNE = "DELETE FROM jobs WHERE queue = ? AND finished <= ?"
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
    """What a reader is shown of a job. Instants are UTC microseconds; `*_position` are places in the log.

    `expired` tells which deadline a job has missed.
    """

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
    metadata: dict[str, str] = {}
    batch: str | None = None
    parent: str | None = None
    is_background: bool = False
    not_before_us: int | None = None
    start_deadline_us: int | None = None
    finish_deadline_us: int | None = None
    expired: Deadline | None = None


class JobsProjection:
    """Folds job streams into `jobs` and `job_counts`."""

    name = "jobs"
    version = 3
    schema = """
        CREATE TABLE jobs (
            submitted INTEGER PRIMARY KEY,  -- position of the submission: creation order
            id TEXT NOT NULL,
            queue TEXT NOT NULL, status TEXT NOT NULL, task TEXT NOT NULL, model TEXT NOT NULL,
            submitter TEXT NOT NULL,
            batch TEXT,
            finished INTEGER,               -- position of the end, NULL while unfinished
            body BLOB NOT NULL              -- JobView as JSON
        );
        CREATE UNIQUE INDEX jobs_id ON jobs (id);
        CREATE INDEX jobs_ended ON jobs (queue, finished) WHERE finished IS NOT NULL;
        CREATE TABLE job_counts (
            queue TEXT NOT NULL, status TEXT NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY (queue, status)
        ) WITHOUT ROWID;
    """
    indexes = """
        CREATE INDEX jobs_status ON jobs (status, submitted);
        CREATE INDEX jobs_queue ON jobs (queue, status, submitted);
        CREATE INDEX jobs_finished ON jobs (status, finished) WHERE finished IS NOT NULL;
        CREATE INDEX jobs_batch ON jobs (batch, status) WHERE batch IS NOT NULL;
    """

    def __init__(self) -> None:
        self._cache: dict[str, JobView] = {}

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold the job records among `records`; each touched row is written once."""
        for part, pruned in _split(records):
            self._apply_jobs(connection, part)
            if pruned is not None:
                _prune(connection, pruned)

    def _apply_jobs(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        touched: dict[str, JobView] = {}
        before: dict[str, tuple[str, str] | None] = {}  # job id -> (queue, status) in the table, None for a new one
        for record in records:
            category, _, job = record.stream.partition("/")
            if category != "job":
                continue
            view = touched.get(job)
            if view is None:
                view = self._row(connection, job, record)
                before[job] = (view.queue, view.status) if view is not None else None
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


def params_of(record: Record) -> dict[str, Any]:
    """All params that a submission or an edit says, the private ones included until they are erased."""
    event = record.event
    assert isinstance(event, JobSubmitted | JobEdited), f"{event.type} says no params"
    private = msgspec.json.decode(record.private) if record.private else {}
    return {**event.params, **private}


def _submitted(event: JobSubmitted, record: Record) -> JobView:
    is_early = event.not_before_us is not None and event.not_before_us > record.at_us
    return JobView(
        id=record.subject,
        task=event.task,
        model=event.model,
        queue=event.queue,
        status="held" if event.is_held else "scheduled" if is_early else "queued",
        priority=event.priority,
        submitter=event.submitter,
        tags=event.tags,
        params=params_of(record),
        created_at_us=record.at_us,
        submitted_position=record.position,
        position=record.position,
        metadata=event.metadata,
        batch=event.batch,
        parent=event.parent,
        is_background=event.is_background,
        not_before_us=event.not_before_us,
        start_deadline_us=event.start_deadline_us,
        finish_deadline_us=event.finish_deadline_us,
    )


def _became_due(view: JobView, event: JobBecameDue, record: Record) -> None:
    view.status, view.not_before_us = "queued", None


def _held(view: JobView, event: JobHeld, record: Record) -> None:
    view.status = "held"


def _released(view: JobView, event: JobReleased, record: Record) -> None:
    is_early = view.not_before_us is not None and view.not_before_us > record.at_us
    view.status = "scheduled" if is_early else "queued"


def _moved(view: JobView, event: JobMoved, record: Record) -> None:
    view.priority, view.is_background = event.priority, event.is_background


def _edited(view: JobView, event: JobEdited, record: Record) -> None:
    view.queue, view.model, view.priority = event.queue, event.model, event.priority
    view.params, view.tags, view.metadata = params_of(record), event.tags, event.metadata
    view.is_background = event.is_background
    view.start_deadline_us, view.finish_deadline_us = event.start_deadline_us, event.finish_deadline_us


def _leased(view: JobView, event: JobLeased, record: Record) -> None:
    view.status, view.not_before_us = "running", None
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
    view.status = "queued" if event.not_before_us is None else "scheduled"
    view.phase, view.cancel_requested, view.not_before_us = "", False, event.not_before_us


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


def _expired(view: JobView, event: JobExpired, record: Record) -> None:
    _finish(view, record, "expired", f"{event.deadline} deadline")
    view.expired = event.deadline


def _retried(view: JobView, event: JobRetried, record: Record) -> None:
    view.status, view.error, view.cancel_requested, view.expired = "queued", None, False, None
    view.not_before_us = view.start_deadline_us = view.finish_deadline_us = None
    view.started_at_us = view.finished_at_us = view.finished_position = None


_FOLDS: Mapping[type, Callable[[JobView, Any, Record], None]] = {
    JobBecameDue: _became_due,
    JobHeld: _held,
    JobReleased: _released,
    JobMoved: _moved,
    JobEdited: _edited,
    JobLeased: _leased,
    JobPhaseEntered: _entered,
    JobRequeued: _requeued,
    JobCancelRequested: _cancel_requested,
    JobCompleted: _completed,
    JobFailed: _failed,
    JobCancelled: _cancelled,
    JobExpired: _expired,
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


def _count_changes(
    touched: Mapping[str, JobView], before: Mapping[str, tuple[str, str] | None]
) -> list[tuple[str, str, int]]:
    """(queue, status, change) for every count that is another one now."""
    changes: Counter[tuple[str, str]] = Counter()
    for job, view in touched.items():
        changes[view.queue, view.status] += 1
        was = before[job]
        if was is not None:
            changes[was] -= 1
    return [(*key, change) for key, change in changes.items() if change]


def _split(records: Sequence[Record]) -> Iterator[tuple[Sequence[Record], QueuePruned | None]]:
    """Runs of records, each with the pruning that ends it: what it takes away must have been written."""
    begin = 0
    for index, record in enumerate(records):
        if isinstance(record.event, QueuePruned):
            yield records[begin:index], record.event
            begin = index + 1
    yield records[begin:] if begin else records, None


def _prune(connection: apsw.Connection, event: QueuePruned) -> None:
    gone = connection.execute(_COUNT_PRUNED, (event.name, event.through)).fetchall()
    connection.executemany(_COUNT, [(event.name, status, change) for status, change in gone])
    connection.execute(_PRUNE, (event.name, event.through))


def _columns(view: JobView) -> tuple[Any, ...]:
    return (
        view.submitted_position, view.id, view.queue, view.status, view.task, view.model, view.submitter,
        view.batch, view.finished_position, _encoder.encode(view),
    )  # fmt: skip
