"""The command `jobs`: a list of them, or one with its history."""

from __future__ import annotations

import shutil
from typing import Any, get_args

import click

from events.jobs import ErrorKind
from projections.live_job import Status
from web.client import Client
from web.job_words import clock, ready, waits
from web.resources import JobResource
from web.terminal import client_command, json_option, print_json, print_table, styled

HEADINGS = ["id", "status", "place", "ready", "what"]
BESIDE = 64  # columns that the others take, as long as all is of today


@client_command()
@click.argument("job", required=False)
@click.option(
    "--status", multiple=True, type=click.Choice(get_args(Status)), help="Only these (default: all). Repeatable."
)
@click.option("--queue", help="Only of this queue (default: all).")
@click.option("--task", help="Only of this task (default: all).")
@click.option("--model", help="Only of this model (default: all).")
@click.option("--submitter", help="Only of this submitter (default: all).")
@click.option("--batch", help="Only of this batch (default: all).")
@click.option("--tag", help="Only with this tag (default: all).")
@click.option(
    "--error", type=click.Choice(get_args(ErrorKind)), help="Only failed with this kind of error (default: all)."
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many jobs, 1 to 1000."
)
@click.option(
    "--order", type=click.Choice(["newest", "oldest"]), default="newest", show_default=True, help="By submission."
)
@json_option
def jobs(client: Client, job: str | None, as_json: bool, **query: Any) -> None:
    """List jobs, or show JOB (an id, or `latest`) with its history."""
    if job is not None:
        _show(client, client.job(job), as_json)
        return
    page = client.jobs(**query)
    if as_json:
        print_json(page)
        return
    print_table(HEADINGS, [_row(job) for job in page.jobs], "no jobs")


def _row(job: JobResource) -> list[str]:
    place = "" if job.rank is None else str(job.rank)
    return [job.id, styled(job.status), place, _ready(job), _asked(job)]


def _ready(job: JobResource) -> str:
    """When the job ended, or is thought to end, or may begin; or why that is not known."""
    if job.blocked is not None:
        return "no worker"
    if job.status == "scheduled" and job.not_before is not None:
        return f"from {clock(job.not_before)}"
    return clock(job.finished_at) if job.finished_at is not None else ready(job.eta)


def _asked(job: JobResource) -> str:
    asked = ": ".join(filter(None, [job.model, str(job.params.get("prompt") or "")]))
    room = max(16, shutil.get_terminal_size().columns - BESIDE)
    return asked if len(asked) <= room else asked[: room - 1] + "…"


def _show(client: Client, job: JobResource, as_json: bool) -> None:
    events = client.events(job.id).events
    if as_json:
        print_json({"job": job, "events": events})
        return
    background = ", in the background" if job.background else ""
    told = {
        "job": job.id,
        "status": f"{styled(job.status)} {job.phase or ''}",
        "waits": waits(job),
        "task": f"{job.task} with {job.model} in queue {job.queue}, priority {job.priority}{background}",
        "params": ", ".join(f"{name}={value}" for name, value in job.params.items()),
        "batch": job.batch,
        "parent": job.parent,
        "tags": ", ".join(job.tags),
        "meta": ", ".join(f"{name}={value}" for name, value in job.metadata.items()),
        "deadlines": _deadlines(job),
        "files": ", ".join(f"{a.url} ({a.bytes} bytes)" for a in job.artifacts) or "none",
        "error": f"{job.error.kind}: {job.error.message}" if job.error else "none",
    }
    print_table(["", ""], [[name, value] for name, value in told.items() if value], "")
    rows = [[str(e.position), e.at[11:23], e.type, e.actor] for e in events]
    print_table(["position", "at (UTC)", "event", "asked by"], rows, "")


def _deadlines(job: JobResource) -> str:
    known = {"start": job.start_deadline, "finish": job.finish_deadline}
    said = [f"{name} by {clock(at)}" for name, at in known.items() if at is not None]
    return ", ".join(said) + (f"; the {job.expired} deadline has passed" if job.expired else "")
