"""The command `submit`: send a job or a batch, see it develop, and save what it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from service.artifacts import file_name
from web.arguments import Seeds, When, parse_meta, parse_params
from web.client import Client, ClientError
from web.job_words import waits
from web.progress_lines import follow_jobs
from web.resources import ArtifactResource, JobResource
from web.terminal import client_command, print_json

SEVERAL = ("count", "seeds", "prompts")
WHEN = "90m, 14:30, '2026-12-24 18:00' or RFC 3339"


@client_command()
@click.argument("prompt", required=False)
@click.option(
    "--prompt", "prompts", multiple=True, help="Another prompt (default: none): a job for each. Repeatable."
)
@click.option(
    "--task", help="What to make (default: text-to-image; with --image, --mask or --video what starts from them)."
)
@click.option("--model", help="Model id (default: the task's first model).")
@click.option("--queue", default="default", show_default=True, help="Queue to wait in.")
@click.option(
    "--priority", type=click.IntRange(0, 100), default=50, show_default=True, help="0 to 100, higher runs first."
)
@click.option("--tag", "tags", multiple=True, help="A word to find the job by (default: none). Repeatable.")
@click.option(
    "--meta", multiple=True, metavar="KEY=VALUE", help="A fact to keep with the job (default: none). Repeatable."
)
@click.option("--seed", type=click.IntRange(0), help="Starts the noise (default: drawn by the service).")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps (default: the model's).")
@click.option(
    "--image", type=click.Path(dir_okay=False, path_type=Path),
    help="Picture to start from, a PNG, JPEG or WebP file (default: none).",
)  # fmt: skip
@click.option(
    "--mask", type=click.Path(dir_okay=False, path_type=Path),
    help="Picture of the same size, white where it is to be made anew (default: none).",
)  # fmt: skip
@click.option(
    "--video", type=click.Path(dir_okay=False, path_type=Path),
    help="Video to start from, an MP4 file (default: none).",
)  # fmt: skip
@click.option("--param", "pairs", multiple=True, metavar="NAME=VALUE", help="Any other parameter. Repeatable.")
@click.option(
    "--count", type=click.IntRange(1, 1000),
    help="So many jobs, with seeds counted on from --seed or drawn (default: one).",
)  # fmt: skip
@click.option("--seeds", type=Seeds(), metavar="SEED,SEED", help="A job for each seed (default: one seed).")
@click.option("--parent", metavar="JOB", help="The job that this one is made from (default: none).")
@click.option("--background", is_flag=True, help="Run only when nothing else waits (default: off).")
@click.option("--hold", is_flag=True, help="Wait until it is released (default: off).")
@click.option("--not-before", type=When(), metavar="WHEN", help=f"Wait until then: {WHEN} (default: do not wait).")
@click.option("--start-deadline", type=When(), metavar="WHEN", help="Expire unless begun by then (default: never).")
@click.option("--finish-deadline", type=When(), metavar="WHEN", help="Expire unless done by then (default: never).")
@click.option("--callback", metavar="URL", help="An address that is told how it ends (default: none).")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow until it ends; not what is held.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="File for the result (default: the job's id and an ending of its kind); several are numbered.",
)  # fmt: skip
@click.option("--idempotency-key", help="The same key and request submit once within a day (default: none).")
@click.option("--json", "as_json", is_flag=True, help="Print the job as one JSON document (default: off).")
def submit(
    client: Client,
    prompt: str | None,
    prompts: tuple[str, ...],
    meta: tuple[str, ...],
    pairs: tuple[str, ...],
    seed: int | None,
    steps: int | None,
    image: Path | None,
    mask: Path | None,
    video: Path | None,
    wait: bool,
    output: Path | None,
    idempotency_key: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Submit a job, follow it, and save its result. Several prompts, seeds or a count make a batch."""
    if fields["seeds"] and (fields["count"] or seed is not None):
        raise click.UsageError("--seeds says how many and which; leave --count and --seed out")
    named = {"image": image, "mask": mask, "video": video}
    files = {name: path for name, path in named.items() if path is not None}
    if files and fields["task"] is None:
        fields["task"] = "video-to-video" if video else "inpaint" if mask else "image-to-image"
    given: dict[str, Any] = {"prompt": prompt, "seed": seed, "steps": steps}
    given |= {name: client.upload(path).digest for name, path in files.items()}
    if prompts:
        del given["prompt"]
        fields["prompts"] = tuple(filter(None, [prompt])) + prompts
    params = {**parse_params(pairs), **{name: value for name, value in given.items() if value is not None}}
    body = {name: value for name, value in fields.items() if value is not None}
    body |= {"metadata": parse_meta(meta), "params": params}
    batch = None if body.keys().isdisjoint(SEVERAL) else client.submit_batch(body, idempotency_key)
    jobs = [client.submit(body, idempotency_key)] if batch is None else client.batch_jobs(batch.id)
    follows = wait and any(job.status != "held" for job in jobs)
    if follows:
        jobs = follow_jobs(client, jobs, quiet=as_json)
    if as_json:
        print_json(jobs[0] if batch is None else {"batch": client.batch(batch.id), "jobs": jobs})
    elif not follows:
        click.echo(_how_to_follow(jobs))
    finish(client, jobs, output, quiet=as_json)


def finish(client: Client, jobs: Sequence[JobResource], output: Path | None, *, quiet: bool = False) -> None:
    """Save what the jobs made and say where; raises ClientError for those that ended without a result."""
    failed = []
    for number, job in enumerate(jobs, 1):
        path = output
        if output is not None and len(jobs) > 1:
            path = output.with_stem(f"{output.stem}-{number}")
        try:
            _finish_one(client, job, path, quiet=quiet)
        except ClientError as error:
            failed.append(str(error))
    if failed:
        raise ClientError("; ".join(failed))


def _finish_one(client: Client, job: JobResource, output: Path | None, *, quiet: bool) -> None:
    if job.status == "failed" and job.error is not None:
        raise ClientError(f"job {job.id} failed ({job.error.kind}): {job.error.message}")
    if job.status == "expired":
        raise ClientError(f"job {job.id} expired: its {job.expired} deadline has passed")
    if job.status == "cancelled":
        raise ClientError(f"job {job.id} was cancelled")
    if not job.artifacts:
        if job.status == "completed" and not quiet:
            click.echo(f"job {job.id} completed; it made no file")
        return
    artifact = job.artifacts[0]
    path = output or Path(file_name(job.id, artifact.media_type))
    try:
        path.write_bytes(client.download(artifact.url))
    except OSError as error:
        raise ClientError(f"cannot write {path} ({error.strerror}); choose another --output") from error
    if not quiet:
        click.echo(f"{path} ({', '.join(_traits(artifact, job.params))})")


def _traits(artifact: ArtifactResource, params: Mapping[str, Any]) -> Iterator[str]:
    """What a person wants to know of a saved file."""
    if artifact.width:
        yield f"{artifact.width} x {artifact.height} px"
    if artifact.frames:
        yield f"{artifact.frames} frames at {artifact.fps:g} a second"
    if artifact.seconds:
        yield f"{artifact.seconds:g} s at {artifact.sample_rate_hz} Hz"
    if not artifact.width and not artifact.seconds:
        yield f"{artifact.bytes} bytes"
    if "seed" in params:
        yield f"seed {params['seed']}"


def _how_to_follow(jobs: Sequence[JobResource]) -> str:
    job = jobs[0]
    if job.batch is not None:
        return f"submitted batch {job.batch} of {len(jobs)} jobs; see it with `safelight jobs --batch {job.batch}`"
    told = f" ({words})" if (words := waits(job)) else ""
    return f"submitted {job.id}{told}; follow it with `safelight watch {job.id}`"
