"""Reading the job view: one job, the newest of a status, a page of a list, counts. Each is an index seek."""

from __future__ import annotations

from typing import Any, Literal

import apsw
import msgspec

from projections.jobs import JobView, decode_view
from projections.live_job import FINISHED, Status

_ONE = "SELECT body FROM jobs WHERE id = ?"
_LATEST_FINISHED = (
    "SELECT body FROM jobs INDEXED BY jobs_finished "
    "WHERE status = ? AND finished IS NOT NULL ORDER BY finished DESC LIMIT 1"
)
_LATEST_UNFINISHED = "SELECT body FROM jobs WHERE status = ? ORDER BY submitted DESC LIMIT 1"
_LATEST = "SELECT body FROM jobs ORDER BY submitted DESC LIMIT 1"
_FINISHED_BEYOND = (
    "SELECT finished FROM jobs WHERE queue = ? AND finished IS NOT NULL ORDER BY finished DESC LIMIT 1 OFFSET ?"
)
_HAS_FINISHED = "SELECT EXISTS (SELECT 1 FROM jobs WHERE queue = ? AND finished <= ?)"
_BATCH_COUNTS = "SELECT status, count(*) FROM jobs WHERE batch = ? GROUP BY status"
_HAS_TAG = "EXISTS (SELECT 1 FROM json_each(CAST(body AS TEXT), '$.tags') WHERE value = ?)"
_HAS_ERROR = "json_extract(CAST(body AS TEXT), '$.error.kind') = ?"
_SINCE = (
    "coalesce(json_extract(CAST(body AS TEXT), '$.finished_at_us'), "
    "json_extract(CAST(body AS TEXT), '$.created_at_us')) >= ?"
)
_COUNTS = "SELECT queue, status, jobs FROM job_counts WHERE jobs > 0"


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs a list shows; None does not filter."""

    status: tuple[Status, ...] = ()
    queue: str | None = None
    task: str | None = None
    model: str | None = None
    submitter: str | None = None
    batch: str | None = None
    tag: str | None = None
    error: str | None = None  # kind of the failure
    since_us: int | None = None  # when it ended, or was submitted if it has not


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list, in the asked order. A cursor is None where the list ends."""

    jobs: list[JobView]
    next_cursor: int | None
    previous_cursor: int | None


def find_job(connection: apsw.Connection, job: str) -> JobView | None:
    """The job with this id."""
    row = connection.execute(_ONE, (job,)).fetchone()
    return decode_view(row[0]) if row else None


def latest_job(connection: apsw.Connection, status: Status | None) -> JobView | None:
    """The newest job: by its end for a finished status, else by its submission."""
    if status is None:
        row = connection.execute(_LATEST).fetchone()
    elif status in FINISHED:
        row = connection.execute(_LATEST_FINISHED, (status,)).fetchone()
    else:
        row = connection.execute(_LATEST_UNFINISHED, (status,)).fetchone()
    return decode_view(row[0]) if row else None


def job_counts(connection: apsw.Connection) -> dict[str, dict[str, int]]:
    """How many jobs each queue has in each status."""
    counts: dict[str, dict[str, int]] = {}
    for queue, status, jobs in connection.execute(_COUNTS):
        counts.setdefault(queue, {})[status] = jobs
    return counts


def batch_counts(connection: apsw.Connection, batch: str) -> dict[str, int]:
    """How many jobs of the batch are in each status; empty for an unknown one."""
    return dict(connection.execute(_BATCH_COUNTS, (batch,)).fetchall())  # type: ignore[arg-type]


def find_ids(connection: apsw.Connection, wanted: JobFilter, limit: int) -> list[str]:
    """The ids of up to `limit` matching jobs, oldest first."""
    conditions, values = _conditions(wanted)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    sql = f"SELECT id FROM jobs {where}ORDER BY submitted LIMIT ?"
    return [row[0] for row in connection.execute(sql, (*values, limit))]


def finished_beyond(connection: apsw.Connection, queue: str, newest: int) -> int:
    """The end position of the newest finished job behind the `newest` ones of the queue; 0 when there is none."""
    row = connection.execute(_FINISHED_BEYOND, (queue, newest)).fetchone()
    return row[0] if row else 0


def has_finished_through(connection: apsw.Connection, queue: str, through: int) -> bool:
    """Whether the queue has a job that ended at the position `through` or before."""
    return bool(connection.execute(_HAS_FINISHED, (queue, through)).fetchone()[0])  # type: ignore[index]


def list_jobs(
    connection: apsw.Connection,
    wanted: JobFilter,
    *,
    order: Literal["newest", "oldest"],
    limit: int,
    after: int | None = None,
    before: int | None = None,
) -> JobPage:
    """A page of at most `limit` jobs by submission. `after` and `before` are cursors of an earlier page.

    `after` goes on behind that cursor in the asked order, `before` gives the page just in front of it.
    """
    backwards = before is not None
    descending = (order == "newest") != backwards
    bound = before if backwards else after
    conditions, values = _conditions(wanted)
    if bound is not None:
        conditions.append("submitted < ?" if descending else "submitted > ?")
        values.append(bound)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    sql = f"SELECT body FROM jobs {where}ORDER BY submitted {'DESC' if descending else 'ASC'} LIMIT ?"
    jobs = [decode_view(row[0]) for row in connection.execute(sql, (*values, limit + 1))]
    more = len(jobs) > limit
    jobs = jobs[:limit]
    if backwards:
        jobs.reverse()
    first, last = (jobs[0].submitted_position, jobs[-1].submitted_position) if jobs else (None, None)
    return JobPage(
        jobs=jobs,
        next_cursor=last if (backwards or more) else None,
        previous_cursor=first if (more if backwards else after is not None) else None,
    )


def _conditions(wanted: JobFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if wanted.status:
        conditions.append(f"status IN ({', '.join('?' * len(wanted.status))})")
        values += wanted.status
    for column in ("queue", "task", "model", "submitter", "batch"):
        value = getattr(wanted, column)
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    for sql, value in ((_HAS_TAG, wanted.tag), (_HAS_ERROR, wanted.error), (_SINCE, wanted.since_us)):
        if value is not None:
            conditions.append(sql)
            values.append(value)
    return conditions, values
