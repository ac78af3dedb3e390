"""Replay: folding a log into fresh views, in CPU seconds of a process of its own.

`python -m benchmarks.replay LOG EVENTS WHAT` is that process: it prints the CPU seconds of one way through.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import apsw

from benchmarks import history
from benchmarks.measure import Bar, Row, against, in_turn
from events.sqlite_rows import PAGE_AFTER
from projections.jobs import JobsProjection
from projections.store import PAGE, ViewStore
from web.replay import UpTo

EVENTS = 1_000_000
WAYS = ("rows", "jobs", "all")


def rows(quick: bool) -> list[Row]:
    """The job view alone, and every view, in turn with nothing but reading the same rows."""
    events = EVENTS // 20 if quick else EVENTS
    log = history.data_folder(20_000 if quick else 1_000_000) / "log.db"
    floor, jobs, every = in_turn(2 if quick else 5, [partial(_cpu_s, log, events, way) for way in WAYS])
    bar = None if quick else Bar(6.0)
    beside = "reading the same rows, nothing decoded"
    return [
        against(f"replay of {events:,} events into the job view", "CPU s", jobs, floor, beside, bar=bar),
        against(f"replay of {events:,} events into every view", "CPU s", every, floor, beside),
    ]


def _cpu_s(log: Path, events: int, way: str) -> float:
    arguments = [sys.executable, "-m", "benchmarks.replay", str(log), str(events), way]
    return float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def _go(path: Path, events: int, way: str) -> float:
    log = UpTo(path, events)
    assert log.head() == events, f"the log has {log.head()} records, {events} are wanted; remove .benchmarks"
    with tempfile.TemporaryDirectory(dir=history.KEPT) as folder:
        began = time.process_time()
        if way == "rows":
            _read(path, events)
        else:
            views = Path(folder) / "views.db"
            ViewStore(views, log, [JobsProjection()] if way == "jobs" else None).close()
        return time.process_time() - began


def _read(path: Path, events: int) -> None:
    """Every row in the pages that a rebuild reads, and nothing else."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    after = 0
    while page := connection.execute(PAGE_AFTER, (after, min(PAGE, events - after))).fetchall():
        after = page[-1][0]  # type: ignore[assignment]


if __name__ == "__main__":
    print(_go(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
