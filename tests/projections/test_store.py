"""Views stand in a file of their own: checkpoints, rebuilding, and never showing another log."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import apsw
import msgspec
import pytest

from events.queues import QueuePaused
from projections.job_queries import find_job
from projections.jobs import JobsProjection
from projections.store import Snapshot, ViewStore, all_projections, read_snapshot
from tests.history import History


@pytest.fixture
def history() -> History:
    history = History().with_queue().with_worker()
    for number in range(5):
        history.submit(f"j{number}")
    history.lease("j0")
    return history


def open_views(path: Path, history: History) -> ViewStore:
    return ViewStore(path, history)  # type: ignore[arg-type]


def test_views_catch_up_with_the_log_at_opening(tmp_path: Path, history: History) -> None:
    path = tmp_path / "views.db"
    open_views(path, history).close()
    history.submit("later")
    views = open_views(path, history)
    assert views.position == history.head()
    assert find_job(views.reader(), "later") is not None
    views.close()


def test_a_deleted_file_is_built_again(tmp_path: Path, history: History) -> None:
    path = tmp_path / "views.db"
    views = open_views(path, history)
    before = views.reader().execute("SELECT id, body FROM jobs ORDER BY id").fetchall()
    views.close()
    for leftover in tmp_path.iterdir():
        leftover.unlink()
    views = open_views(path, history)
    assert views.reader().execute("SELECT id, body FROM jobs ORDER BY id").fetchall() == before
    views.close()


def test_views_of_a_log_that_was_restored_shorter_or_otherwise_are_built_again(
    tmp_path: Path, history: History
) -> None:
    path = tmp_path / "views.db"
    open_views(path, history).close()
    restored = History().with_queue().with_worker()
    restored.submit("only")
    views = open_views(path, restored)
    assert [row[0] for row in views.reader().execute("SELECT id FROM jobs")] == ["only"]
    views.close()


def test_another_version_of_a_projection_is_built_again(tmp_path: Path, history: History) -> None:
    path = tmp_path / "views.db"
    open_views(path, history).close()

    class Newer(JobsProjection):
        version = JobsProjection.version + 1
        schema = JobsProjection.schema + "CREATE TABLE newer (x);"

    projections = [Newer(), *all_projections()[1:]]
    views = ViewStore(path, history, projections)  # type: ignore[arg-type]
    assert views.reader().execute("SELECT count(*) FROM newer").fetchall() == [(0,)]
    assert find_job(views.reader(), "j0") is not None
    views.close()


def test_a_file_that_is_no_database_is_built_again(tmp_path: Path, history: History) -> None:
    path = tmp_path / "views.db"
    path.write_bytes(b"not a database at all" * 100)
    views = open_views(path, history)
    assert views.position == history.head()
    views.close()


def test_a_batch_that_fails_leaves_no_trace(tmp_path: Path, history: History) -> None:
    views = open_views(tmp_path / "views.db", history)
    before = views.reader().execute("SELECT * FROM jobs ORDER BY id").fetchall()
    history.submit("next")
    broken = history.read(views.position, 10)
    (good,) = broken
    bad = msgspec.structs.replace(good, stream="queue/nowhere", event=QueuePaused(name="nowhere"))
    with pytest.raises(AssertionError, match="queue-paused cannot begin a queue"):
        views.apply(history, [good, bad])  # type: ignore[arg-type]
    assert views.reader().execute("SELECT * FROM jobs ORDER BY id").fetchall() == before
    views.apply(history, broken)  # type: ignore[arg-type]
    assert find_job(views.reader(), "next") is not None
    views.close()


def test_a_snapshot_is_used_only_with_the_log_it_was_taken_of(tmp_path: Path, history: History) -> None:
    path = tmp_path / "views.db"
    views = open_views(path, history)
    history.submit("next")
    records = history.read(views.position, 10)
    views.apply(history, records, Snapshot(history.head(), b"state"))  # type: ignore[arg-type]
    views.close()
    assert read_snapshot(path, history) == Snapshot(history.head(), b"state")  # type: ignore[arg-type]
    other = History().with_queue()
    assert read_snapshot(path, other) is None  # type: ignore[arg-type]
    assert read_snapshot(tmp_path / "none.db", history) is None  # type: ignore[arg-type]


def test_readers_cannot_write(tmp_path: Path, history: History) -> None:
    views = open_views(tmp_path / "views.db", history)
    with pytest.raises(apsw.ReadOnlyError):
        views.reader().execute("DELETE FROM jobs")
    views.close()


def test_the_file_is_ordinary_sqlite_that_other_tools_read(tmp_path: Path, history: History) -> None:
    open_views(tmp_path / "views.db", history).close()
    with sqlite3.connect(tmp_path / "views.db") as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (5,)


def test_erasing_a_prompt_leaves_the_job_readable(tmp_path: Path) -> None:
    history = History().with_queue()
    history.submit("j", task=None, params={"prompt": "secret"})
    views = open_views(tmp_path / "a.db", history)
    job = find_job(views.reader(), "j")
    assert job is not None
    assert job.params["prompt"] == "secret"
    views.close()
    import msgspec

    history.records = [msgspec.structs.replace(r, private=None) for r in history.records]
    views = open_views(tmp_path / "b.db", history)
    job = find_job(views.reader(), "j")
    assert job is not None
    assert "prompt" not in job.params
    assert job.params["steps"] == 20
    views.close()
