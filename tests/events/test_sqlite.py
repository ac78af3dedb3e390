"""What only the SQLite engine promises: its file, its lock, its failures."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from events.log import LogBusy, LogError, LogFull
from events.sqlite import SqliteLog
from events.sqlite_file import STEPS, _is_up_to_date, refuse_network
from tests.events.counting import Counting, append, asked, submitted
from tests.service_process import wait_for


def open_log(path: Path) -> SqliteLog[Counting]:
    return SqliteLog(path, restore=lambda _: Counting(), clock=lambda: 1)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog[Counting]]:
    opened = open_log(tmp_path / "log.db")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "sql", ["UPDATE log SET actor = 'x'", "DELETE FROM log", "DELETE FROM log WHERE position = 1"]
)
def test_the_log_cannot_be_changed_by_any_connection(log: SqliteLog[Counting], tmp_path: Path, sql: str) -> None:
    append(log, 1)
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        apsw.Connection(str(tmp_path / "log.db")).execute(sql)


def test_a_gap_cannot_be_written(log: SqliteLog[Counting], tmp_path: Path) -> None:
    row = (2, "job/x", 0, "id", "job-retried", 1, 1, "a", "c", b"{}", None, b"")
    with pytest.raises(apsw.ConstraintError, match="dense"):
        apsw.Connection(str(tmp_path / "log.db")).execute(f"INSERT INTO log VALUES ({','.join('?' * 12)})", row)


def test_the_library_has_the_wal_reset_fix_and_the_writer_syncs_every_commit(log: SqliteLog[Counting]) -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)
    assert log._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert log._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_second_service_is_told_who_has_the_log(log: SqliteLog[Counting], tmp_path: Path) -> None:
    with pytest.raises(LogBusy, match=f"process {os.getpid()}"):
        open_log(tmp_path / "log.db")


def test_the_lock_is_free_once_the_log_is_closed(tmp_path: Path) -> None:
    open_log(tmp_path / "log.db").close()
    open_log(tmp_path / "log.db").close()


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    with pytest.raises(LogError, match="nfs4"):
        refuse_network(tmp_path / "log.db", mounts)
    mounts.write_text(f"server:/x {tmp_path}-other nfs4 rw 0 0\n/dev/vda / ext4 rw 0 0\n")
    refuse_network(tmp_path / "log.db", mounts)


def test_a_full_disk_refuses_and_keeps_what_was_acknowledged(log: SqliteLog[Counting]) -> None:
    append(log, 1)
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[index]
    log._writer.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite then raises is what a full disk raises
    committed = log.commit([asked(submitted(2)), asked(submitted(2, private=b"x" * 200_000))])
    assert all(isinstance(outcome, LogFull) and "free disk space" in str(outcome) for outcome in committed.outcomes)
    assert (log.head(), log.state.position, log.state.streams) == (1, 1, ["job/1"])
    log._writer.execute("PRAGMA max_page_count = 1000000")
    (record,) = append(log, 3)
    assert (record.position, log.state.streams) == (2, ["job/1", "job/3"])


def wal_bytes(tmp_path: Path) -> int:
    return (tmp_path / "log.db-wal").stat().st_size


def test_the_wal_is_written_over_once_a_checkpoint_was_made(log: SqliteLog[Counting], tmp_path: Path) -> None:
    grown: list[int] = []
    for _ in range(3):
        while not log.is_checkpoint_due:
            append(log, *range(500))
        log.checkpoint()
        assert not log.is_checkpoint_due
        grown.append(wal_bytes(tmp_path))
    assert grown[2] < 1.5 * grown[0]
    assert log.head() == len(log.state.streams) == len(log.read(0, 100_000))


def test_the_wal_stays_bounded_also_when_nobody_asks_for_a_checkpoint(
    log: SqliteLog[Counting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.sqlite.MAX_WAL_PAGES", 100)
    for _ in range(60):
        append(log, *range(100))
    assert wal_bytes(tmp_path) < 200 * 4096


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT * FROM log WHERE stream = 'job/1' ORDER BY version", "sqlite_autoindex_log_2"),
        ("SELECT coalesce(max(version) + 1, 0) FROM log WHERE stream = 'job/1'", "sqlite_autoindex_log_2"),
        ("SELECT * FROM log WHERE event_id = 'x'", "sqlite_autoindex_log_1"),
        ("SELECT * FROM log WHERE position > 5 ORDER BY position LIMIT 10", "INTEGER PRIMARY KEY"),
    ],
)
def test_no_hot_query_scans_the_log(log: SqliteLog[Counting], sql: str, index: str) -> None:
    (plan,) = log._readers.get().execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
    assert plan[3].startswith("SEARCH")
    assert index in plan[3]


def test_migrations_are_recorded_and_applied_once(tmp_path: Path) -> None:
    import sqlite_utils

    from events.sqlite_migrations import migrations

    open_log(tmp_path / "log.db").close()
    open_log(tmp_path / "log.db").close()
    database = sqlite_utils.Database(tmp_path / "log.db")
    assert [m.name for m in migrations.applied(database)] == list(STEPS)
    assert migrations.pending(database) == []


def _append_for_ever(path: Path, acknowledged: Path) -> None:
    log = open_log(path)
    with acknowledged.open("ab", buffering=0) as file:
        for number in range(1_000_000):
            (record,) = append(log, number)
            file.write(f"{record.position}\n".encode())


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "log.db", tmp_path / "acknowledged"
    acknowledged.touch()
    for _ in range(5):
        before = acknowledged.stat().st_size
        process = multiprocessing.get_context("spawn").Process(target=_append_for_ever, args=(path, acknowledged))
        process.start()
        wait_for(lambda: acknowledged.stat().st_size > before + 200, 30, "the process to append")  # noqa: B023
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        log = open_log(path)
        newest = int(acknowledged.read_text().split("\n")[-2])
        positions = [r.position for r in log.read(0, 1_000_000)]
        log.close()
        assert positions == list(range(1, len(positions) + 1))
        assert positions[-1] >= newest


def test_an_up_to_date_file_is_opened_without_the_migration_library(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    assert not _is_up_to_date(path)
    open_log(path).close()
    assert _is_up_to_date(path)
