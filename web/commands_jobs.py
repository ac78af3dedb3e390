"""The commands `jobs`, `cancel` and `retry`."""

from __future__ import annotations

from typing import get_args

import click

from projections.live_job import Status
from web.client import Client, ClientError
from web.resources import JobResource
from web.terminal import client_command, json_option, print_json, print_table, styled


@client_command()
@click.argument("job", required=False)
@click.option(
    "--status", multiple=True, type=click.Choice(get_args(Status)), help="Only these (default: all). Repeatable."
)
@click.option("--queue", help="Only of this queue (default: all).")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many jobs, 1 to 1000."
)
@click.option(
    "--order", type=click.Choice(["newest", "oldest"]), default="newest", show_default=True, help="By submission."
)
@json_option
def jobs(
    client: Client,
    job: str | None,
    status: tuple[str, ...],
    queue: str | None,
    limit: int,
    order: str,
    as_json: bool,
) -> None:
    """List jobs, or show JOB (an id, or `latest`) with its history."""
    if job is not None:
        _show(client, client.job(job), as_json)
        return
    page = client.jobs(status=status, queue=queue, limit=limit, order=order)
    if as_json:
        print_json(page)
        return
    rows = [[j.id, styled(j.status), j.model, _asked(j), j.created_at[:19].replace("T", " ")] for j in page.jobs]
    print_table(["id", "status", "model", "prompt", "submitted (UTC)"], rows, "no jobs")


@client_command()
@click.argument("job", nargs=-1, required=True)
@json_option
def cancel(client: Client, job: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs, waiting or running."""
    _act(client, job, "cancel", as_json)


@client_command()
@click.argument("job", nargs=-1, required=True)
@json_option
def retry(client: Client, job: tuple[str, ...], as_json: bool) -> None:
    """Send failed or cancelled jobs back to their queue."""
    _act(client, job, "retry", as_json)


def _act(client: Client, ids: tuple[str, ...], action: str, as_json: bool) -> None:
    """Do it to each; what is refused for one does not keep the others from it."""
    done, refused = [], []
    for job in ids:
        try:
            done.append(client.act(job, action))
        except ClientError as error:
            refused.append(str(error))
    if as_json:
        print_json({"jobs": done, "refused": refused})
    else:
        for result in done:
            stopping = " (its worker is stopping)" if result.cancel_requested else ""
            click.echo(f"{result.id} {result.status}{stopping}")
    if refused:
        raise ClientError("; ".join(refused))


def _asked(job: JobResource) -> str:
    prompt = str(job.params.get("prompt") or "")
    return prompt if len(prompt) <= 48 else prompt[:47] + "…"


def _show(client: Client, job: JobResource, as_json: bool) -> None:
    events = client.events(job.id).events
    if as_json:
        print_json({"job": job, "events": events})
        return
    facts = {
        "job": job.id,
        "status": f"{styled(job.status)} {job.phase or ''}",
        "task": f"{job.task} with {job.model} in queue {job.queue}, priority {job.priority}",
        "params": ", ".join(f"{name}={value}" for name, value in job.params.items()),
        "files": ", ".join(f"{a.url} ({a.bytes} bytes)" for a in job.artifacts) or "none",
        "error": f"{job.error.kind}: {job.error.message}" if job.error else "none",
    }
    print_table(["", ""], [[name, value] for name, value in facts.items()], "")
    rows = [[str(e.position), e.at[11:23], e.type, e.actor] for e in events]
    print_table(["position", "at (UTC)", "event", "asked by"], rows, "")
