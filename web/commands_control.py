"""The commands that change jobs: cancel, retry, hold, release, move, edit; some of them for all that match."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click

from events.jobs import ErrorKind
from projections.live_job import Status
from web.arguments import When, parse_meta, parse_params
from web.client import Client, ClientError
from web.resources import JobResource
from web.terminal import client_command, json_option, print_json

ASIDE = ("every", "yes")
NO_ROOM = ("queue-full", "limit-reached")


def for_many(function: Callable[..., Any]) -> Callable[..., Any]:
    """JOB, or --all with the filters that say which."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.argument("job", nargs=-1),
        click.option("--all", "every", is_flag=True, help="All jobs that match what follows (default: off)."),
        click.option(
            "--status", multiple=True, type=click.Choice(get_args(Status)),
            help="With --all: only these (default: all it can be done to). Repeatable.",
        ),
        click.option("--queue", help="With --all: only of this queue (default: of all)."),
        click.option("--task", help="With --all: only of this task (default: of all)."),
        click.option("--model", help="With --all: only of this model (default: of all)."),
        click.option("--submitter", help="With --all: only of this submitter (default: of all)."),
        click.option("--batch", help="With --all: only of this batch (default: of all)."),
        click.option("--tag", help="With --all: only with this tag (default: all)."),
        click.option(
            "--error", type=click.Choice(get_args(ErrorKind)),
            help="With --all: only failed with this kind of error (default: all).",
        ),
        click.option(
            "--since", type=When(back=True), metavar="WHEN",
            help="With --all: only ended, or else submitted, since then: 2h ago is 2h (default: ever).",
        ),
        click.option("--yes", is_flag=True, help="With --all: do not ask first (default: ask)."),
        json_option,
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@client_command()
@for_many
def cancel(client: Client, job: tuple[str, ...], as_json: bool, **which: Any) -> None:
    """Cancel jobs, waiting or running."""
    _do(client, "cancel", job, as_json, which)


@client_command()
@for_many
def retry(client: Client, job: tuple[str, ...], as_json: bool, **which: Any) -> None:
    """Send failed, cancelled or expired jobs back to their queue."""
    _do(client, "retry", job, as_json, which)


@client_command()
@for_many
def hold(client: Client, job: tuple[str, ...], as_json: bool, **which: Any) -> None:
    """Take waiting jobs out of line until they are released."""
    _do(client, "hold", job, as_json, which)


@client_command()
@click.option("--worker", metavar="NAME", help="A quarantined worker to let have jobs again (default: none).")
@for_many
def release(client: Client, job: tuple[str, ...], worker: str | None, as_json: bool, **which: Any) -> None:
    """Put held jobs back at their places, or a quarantined worker back to work."""
    if worker is None:
        _do(client, "release", job, as_json, which)
        return
    if job or any(which.values()):
        raise click.UsageError("--worker goes alone; release jobs with another command")
    shown = client.raw("POST", f"/v1/workers/{worker}/release")
    if as_json:
        print_json(shown)
    else:
        click.echo(f"worker {worker} gets jobs again")


@client_command()
@click.argument("job")
@click.option("--top", is_flag=True, help="Run it next (default: off).")
@click.option("--bottom", is_flag=True, help="To the end of its line (default: off).")
@click.option("--before", metavar="OTHER", help="Right before this job (default: none).")
@click.option("--after", metavar="OTHER", help="Right after this job (default: none).")
@json_option
def move(
    client: Client, job: str, top: bool, bottom: bool, before: str | None, after: str | None, as_json: bool
) -> None:
    """Move JOB within its line. It takes the priority of its new neighbour."""
    places = {"top": top, "bottom": bottom, "before": before, "after": after}
    said = {where: other for where, other in places.items() if other}
    if len(said) != 1:
        raise click.UsageError("say one place: --top, --bottom, --before OTHER or --after OTHER")
    ((where, other),) = said.items()
    body = {"where": where, "other": other if isinstance(other, str) else None}
    _tell(client.change("POST", f"/v1/jobs/{job}/move", body), as_json)


@client_command()
@click.argument("job")
@click.option("--queue", help="Wait in this queue (default: as it is).")
@click.option("--model", help="Model id (default: as it is).")
@click.option("--priority", type=click.IntRange(0, 100), help="0 to 100, higher runs first (default: as it is).")
@click.option("--prompt", help="What to draw (default: as it is).")
@click.option("--seed", type=click.IntRange(0), help="Starts the noise (default: as it is).")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps (default: as they are).")
@click.option(
    "--param", "pairs", multiple=True, metavar="NAME=VALUE",
    help="Any other parameter; null takes it back to its default. Repeatable.",
)  # fmt: skip
@click.option("--tag", "tags", multiple=True, help="Instead of all its tags (default: as they are). Repeatable.")
@click.option(
    "--meta",
    multiple=True,
    metavar="KEY=VALUE",
    help="Instead of all its facts (default: as they are). Repeatable.",
)
@click.option(
    "--background/--foreground", default=None, help="Whether it lets all others pass (default: as it is)."
)
@json_option
def edit(client: Client, job: str, as_json: bool, **fields: Any) -> None:
    """Change JOB while it does not run. One that failed, was cancelled or expired goes back to its queue."""
    pairs, meta, tags = fields.pop("pairs"), fields.pop("meta"), fields.pop("tags")
    given = {name: fields.pop(name) for name in ("prompt", "seed", "steps")}
    params = {**parse_params(pairs), **{name: value for name, value in given.items() if value is not None}}
    body = {name: value for name, value in fields.items() if value is not None}
    lists = {"params": params, "metadata": parse_meta(meta), "tags": tags}
    body |= {name: value for name, value in lists.items() if value}
    if not body:
        raise click.UsageError("say what to change, such as --priority 80 or --steps 30")
    _tell(client.change("PATCH", f"/v1/jobs/{job}", body), as_json)


def _do(client: Client, action: str, ids: tuple[str, ...], as_json: bool, which: dict[str, Any]) -> None:
    filters = {name: value for name, value in which.items() if name not in ASIDE and value}
    if which["every"] and ids:
        raise click.UsageError("name jobs, or say --all: not both")
    if which["every"]:
        _do_all(client, action, filters, as_json=as_json, yes=which["yes"])
        return
    if filters or which["yes"]:
        raise click.UsageError("these filters go with --all")
    if not ids:
        raise click.MissingParameter("name jobs, or say --all.", param_hint="JOB", param_type="argument")
    _do_each(client, action, ids, as_json)


def _do_all(client: Client, action: str, which: dict[str, Any], *, as_json: bool, yes: bool) -> None:
    """Say how many it would be, ask, and do it to exactly as many."""
    found = client.bulk(action, which)
    if found.matched and not yes:
        noun = "job" if found.matched == 1 else "jobs"
        click.confirm(f"{action} {found.matched} {noun}?", abort=True, err=True)
    done = client.bulk(action, which, found.matched) if found.matched else found
    if as_json:
        print_json(done)
        return
    click.echo(f"{done.done or 0} of {done.matched} done{_left_out(done.refused)}")


def _left_out(refused: dict[str, int]) -> str:
    no_room = sum(refused.get(kind, 0) for kind in NO_ROOM)
    counts = {"found no room": no_room, "had moved on": sum(refused.values()) - no_room}
    return "".join(f", {count} {words}" for words, count in counts.items() if count)


def _do_each(client: Client, action: str, ids: tuple[str, ...], as_json: bool) -> None:
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
            _tell(result, as_json)
    if refused:
        raise ClientError("; ".join(refused))


def _tell(job: JobResource, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    stopping = " (its worker is stopping)" if job.cancel_requested else ""
    place = f", number {job.rank} in line" if job.rank is not None else ""
    click.echo(f"{job.id} {job.status}{place}{stopping}")
