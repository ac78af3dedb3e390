"""The commands `submit` and `watch`: send a job and see it develop in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from web.client import Client, ClientError
from web.follow import follow
from web.resources import JobResource
from web.terminal import client_command, print_json

ENDINGS = {"job-completed", "job-failed", "job-cancelled"}


def parse_params(pairs: tuple[str, ...]) -> dict[str, Any]:
    """name=value pairs; a value that is JSON is taken as that, anything else as text."""
    params: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not (name and separator):
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE, such as steps=20", param_hint="--param")
        try:
            params[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            params[name] = text
    return params


@client_command()
@click.argument("prompt", required=False)
@click.option("--task", help="What to make (default: text-to-image).")
@click.option("--model", help="Model id (default: the task's first model).")
@click.option("--queue", default="default", show_default=True, help="Queue to wait in.")
@click.option(
    "--priority", type=click.IntRange(0, 100), default=50, show_default=True, help="0 to 100, higher runs first."
)
@click.option("--tag", "tags", multiple=True, help="A word to find the job by (default: none). Repeatable.")
@click.option("--seed", type=click.IntRange(0), help="Starts the noise (default: drawn by the service).")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps (default: the model's).")
@click.option("--param", "pairs", multiple=True, metavar="NAME=VALUE", help="Any other parameter. Repeatable.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the job until it ends.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="File for the picture (default: the job's id and .png).",
)  # fmt: skip
@click.option("--idempotency-key", help="The same key and request submit once within a day (default: none).")
@click.option("--json", "as_json", is_flag=True, help="Print the job as one JSON document (default: off).")
def submit(
    client: Client,
    prompt: str | None,
    tags: tuple[str, ...],
    pairs: tuple[str, ...],
    seed: int | None,
    steps: int | None,
    wait: bool,
    output: Path | None,
    idempotency_key: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Submit a job, follow it, and save its picture."""
    given = {"prompt": prompt, "seed": seed, "steps": steps}
    params = {**parse_params(pairs), **{name: value for name, value in given.items() if value is not None}}
    body = {name: value for name, value in fields.items() if value is not None}
    job = client.submit({**body, "tags": tags, "params": params}, idempotency_key)
    if wait:
        job = follow_job(client, job, quiet=as_json)
    if as_json:
        print_json(job)
    elif not wait:
        click.echo(f"submitted {job.id}; follow it with `safelight watch {job.id}`")
    finish(client, job, output, quiet=as_json)


def follow_job(client: Client, job: JobResource, *, quiet: bool = False) -> JobResource:
    """Show a job's progress until it ends; gives the job as it then is. Ctrl-C leaves the job running."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.fields[phase]:>14}"),
        BarColumn(),
        TextColumn("{task.completed:g}/{task.total:g}"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("", total=int(job.params.get("steps", 1) or 1), phase="queued")
            for message in follow(client, after=job.position - 1, job=job.id):
                if message["op"] == "eph":
                    said = message["data"]
                    progress.update(bar, completed=said["step"], total=said["steps"] or 1, phase=said["phase"])
                elif message["op"] == "event":
                    progress.update(bar, phase=_phase(message))
                    if message["type"] in ENDINGS:
                        break
    except KeyboardInterrupt:
        raise ClientError(
            f"job {job.id} goes on; see it with `safelight watch {job.id}`, end it with `safelight cancel {job.id}`"
        ) from None
    return client.job(job.id)


def finish(client: Client, job: JobResource, output: Path | None, *, quiet: bool = False) -> None:
    """Save what the job made and say where; raises ClientError when it ended without a result."""
    if job.status == "failed" and job.error is not None:
        raise ClientError(f"job {job.id} failed ({job.error.kind}): {job.error.message}")
    if job.status == "cancelled":
        raise ClientError(f"job {job.id} was cancelled")
    if not job.artifacts:
        if job.status == "completed" and not quiet:
            click.echo(f"job {job.id} completed; it made no file")
        return
    artifact = job.artifacts[0]
    path = output or Path(f"{job.id}.{artifact.media_type.partition('/')[2]}")
    try:
        path.write_bytes(client.download(artifact.url))
    except OSError as error:
        raise ClientError(f"cannot write {path} ({error.strerror}); choose another --output") from error
    if not quiet:
        click.echo(f"{path} ({artifact.width} x {artifact.height} px, seed {job.params.get('seed')})")


@client_command()
@click.argument("job", required=False)
@click.option("--after", type=click.IntRange(0), help="Begin behind this log position (default: now).")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON (default: off).")
def watch(client: Client, job: str | None, after: int | None, as_json: bool) -> None:
    """Print what happens, to every job or to JOB until it ends."""
    if job is not None:
        job = client.job(job).id
    start = 0 if job is not None and after is None else after
    try:
        for message in follow(client, after=start, job=job):
            if message["op"] != "event":
                continue
            if as_json:
                print_json({name: value for name, value in message.items() if name != "op"})
            else:
                click.echo(
                    f"{message['position']:>8}  {message['at'][11:23]}  {message['stream']}  {_words(message)}"
                )
            if job is not None and message["type"] in ENDINGS and client.job(job).position <= message["position"]:
                return
    except KeyboardInterrupt:
        return


def _phase(message: dict[str, Any]) -> str:
    names = {"job-submitted": "queued", "job-leased": "starting", "job-requeued": "queued again"}
    return str(message["data"].get("phase") or names.get(message["type"], message["type"].removeprefix("job-")))


def _words(message: dict[str, Any]) -> str:
    """An event in a few words."""
    data = message["data"]
    told = [str(data[name]) for name in ("phase", "worker", "reason", "detail") if data.get(name)]
    if data.get("error"):
        told.append(f"{data['error']['kind']}: {data['error']['message']}")
    return " ".join([message["type"], *told])
