"""The command `replay`: fold a log into fresh views, without the service and also while it runs."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click
import msgspec

from events.envelope import Record
from events.log import LogError
from events.sqlite_reader import SqliteLogReader
from projections.job_queries import job_counts
from projections.store import ViewStore
from web.resources import event_resource
from web.terminal import print_json, print_table

PAGE = 5_000


class UpTo(SqliteLogReader):
    """A log as if it ended at a position."""

    def __init__(self, path: Path, last: int | None) -> None:
        """The log at `path`, up to and with position `last`; None for all of it."""
        super().__init__(path)
        there = super().head()
        self._last = there if last is None else min(last, there)

    def head(self) -> int:
        """The position it is taken to end at."""
        return self._last

    def read(self, after: int, limit: int) -> list[Record]:
        """Up to `limit` records above `after`, none behind the end."""
        return super().read(after, min(limit, max(0, self._last - after)))


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("safelight-data"), envvar="SAFELIGHT_DATA",
    show_default=True, help="Data folder whose log is folded.",
)  # fmt: skip
@click.option("--to", "last", type=click.IntRange(0), help="Fold up to this position (default: the head).")
@click.option(
    "--views", type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the views in this file, which must not exist yet (default: a temporary one).",
)  # fmt: skip
@click.option(
    "--export", type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path),
    help="Write every record as a line of JSON to this file, - for the terminal (default: none).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table (default: off).")
def replay(data: Path, last: int | None, views: Path | None, export: Path | None, as_json: bool) -> None:
    """Fold a log into fresh views; print what they hold, or export the log."""
    if views is not None and views.exists():
        raise click.UsageError(f"--views {views} exists; name a file that does not, or remove it")
    try:
        log = UpTo(data / "log.db", last)
    except LogError as error:
        raise click.ClickException(str(error)) from error
    try:
        if export is not None:
            _export(log, export)
        if export is None or views is not None:
            _report(log, views, as_json)
    finally:
        log.close()


def _report(log: UpTo, views: Path | None, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="safelight-replay-") as folder:
        began_at = time.perf_counter()
        store = ViewStore(views or Path(folder) / "views.db", log)
        seconds = time.perf_counter() - began_at
        counts = job_counts(store.reader())
        store.close()
    records = log.head()
    if as_json:
        print_json({"log": log.log_id, "position": records, "seconds": round(seconds, 3), "jobs": counts})
        return
    click.echo(f"log {log.log_id}: {records} records folded in {seconds:.2f} s", nl=False)
    click.echo(f" ({records / seconds:,.0f} a second)" if seconds else "")
    rows = [
        [queue, status, str(jobs)] for queue, of in sorted(counts.items()) for status, jobs in sorted(of.items())
    ]
    print_table(["queue", "status", "jobs"], rows, "no jobs")


def _export(log: UpTo, target: Path) -> None:
    """Every record in log order, one JSON object a line, as GET /v1/events shows it."""
    file = sys.stdout.buffer if str(target) == "-" else target.open("wb")
    try:
        position = 0
        while records := log.read(position, PAGE):
            for record in records:
                file.write(msgspec.json.encode(event_resource(record)) + b"\n")
            position = records[-1].position
        file.flush()
    finally:
        if file is not sys.stdout.buffer:
            file.close()
