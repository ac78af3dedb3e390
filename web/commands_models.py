"""The command group `models`: what the service has, and the file and the weights of this machine."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from service.tasks.catalog import EMBEDDED, Catalog, Model
from service.tasks.models_file import BadModelsFile, read_models, read_text
from service.tasks.models_text import with_entry, write
from service.worker.hub import Fetch, PullFailed, pull
from service.worker.models import missing_libraries
from service.worker.weights import located, look
from web.arguments import parse_params
from web.client import Client
from web.terminal import client_command, json_option, print_json, print_table


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a model on this machine."""

    model: str
    files: int
    bytes: int
    problems: list[str]


class _ListByDefault(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`models` alone, and with the flags of `list`, is `models list`."""
        is_list = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        return super().parse_args(ctx, ["list", *args] if is_list else args)


@click.group(cls=_ListByDefault)
def models() -> None:
    """List models (also without a further word), check their weights, fetch them from the hub, add entries."""


@client_command(name="list")
@json_option
def list_models(client: Client, as_json: bool) -> None:
    """List the models of the service and whether a worker has them."""
    listed = client.models()
    if as_json:
        print_json(listed)
        return
    rows = [
        [
            m.id,
            ", ".join(m.tasks),
            "yes" if m.is_available else "no",
            size(m.memory_bytes) if m.memory_bytes else "",
            m.licence,
            m.title,
        ]
        for m in listed.models
    ]
    print_table(["model", "tasks", "a worker has it", "memory", "licence", "what it is"], rows, "no models")


def file_options(function: Callable[..., Any], *, may_be_new: bool = False) -> Callable[..., Any]:
    """--models and --data: which file of models is meant. The function gets `file`, its path.

    The usual one need not be there, nor one that `may_be_new`; any other is an error then.
    """

    @click.option(
        "--models", "given", metavar="FILE", type=click.Path(path_type=Path), envvar="SAFELIGHT_MODELS",
        help="TOML file of models (default: models.toml in --data).",
    )  # fmt: skip
    @click.option(
        "--data", type=click.Path(path_type=Path), default=Path("safelight-data"), envvar="SAFELIGHT_DATA",
        show_default=True, help="Folder of the service's data.",
    )  # fmt: skip
    @functools.wraps(function)
    def run(given: Path | None, data: Path, **arguments: Any) -> None:
        try:
            if given is not None and not may_be_new:
                read_text(given)
            function(file=given or data / "models.toml", **arguments)
        except BadModelsFile as error:
            raise click.BadParameter(str(error), param_hint="--models") from None

    return run


@click.command()
@click.argument("names", metavar="[ID|FILE]...", nargs=-1)
@file_options
@json_option
def check(names: tuple[str, ...], file: Path, as_json: bool) -> None:
    """Read the headers and sizes of all weights: of models by ID, of every entry of a FILE, or of all there are.

    Loads nothing heavy. Names what is damaged or missing, and then exits with 1.
    """
    checked = [_checked(model) for model in _meant(names, file)]
    if as_json:
        print_json(checked)
    else:
        for one in checked:
            click.echo(
                f"{one.model}: {one.files} files, {size(one.bytes)}, {'damaged' if one.problems else 'whole'}"
            )
            for problem in one.problems:
                click.echo(f"  {problem}")
    if any(one.problems for one in checked):
        raise click.exceptions.Exit(1)


@click.command(name="pull")
@click.argument("name", metavar="ID")
@file_options
def pull_model(name: str, file: Path) -> None:
    """Fetch the weights of a model from the hub, at the commits its entry pins; go on where a pull was ended."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise click.UsageError("HF_HUB_OFFLINE is set, and pulling goes online; unset it")
    (model,) = _meant((name,), file)
    if not any(part.revision for part in model.parts.values()):
        raise click.ClickException(f"model {name} names nothing of the hub: there is nothing to fetch")
    try:
        _pull(model)
    except PullFailed as error:
        raise click.ClickException(str(error)) from error
    problems = look(model).problems
    if problems:
        raise click.ClickException("\n  ".join([f"model {name} was fetched and is not whole:", *problems]))
    click.echo(f"model {name} is here; workers that start from now on offer it")


@click.command()
@click.argument("name", metavar="ID")
@click.option(
    "--source",
    required=True,
    help="Folder or .safetensors file, relative to the file of models, or org/name (no default).",
)
@click.option("--revision", help="Commit of the hub's repository, 40 hex digits (default: none).")
@click.option(
    "--task", "tasks", multiple=True, required=True,
    help="What it can do (no default). Repeatable; the first is what a job gets that names only the model.",
)  # fmt: skip
@click.option("--title", help="One line for people (default: the id).")
@click.option("--licence", help="A note for people (default: none).")
@click.option("--dtype", help="float32, float16 or bfloat16, on GPUs (default: float32).")
@click.option("--variant", help="Which of a folder's files, such as fp16 (default: the plain ones).")
@click.option("--memory", help="What it needs of a device, such as '12 GiB' (default: not known).")
@click.option(
    "--default", "defaults", multiple=True, metavar="NAME=VALUE",
    help="A parameter that jobs need not give (default: none). Repeatable.",
)  # fmt: skip
@functools.partial(file_options, may_be_new=True)
def add(
    name: str, file: Path, tasks: tuple[str, ...], defaults: tuple[str, ...], memory: str | None, **said: Any
) -> None:
    """Add an entry to the file of models; what is there stays as it is.

    Nothing is written when a value is wrong, or local weights are not whole. What else an entry can say stands in
    docs/models.md.
    """
    params = parse_params(defaults, "--default")
    fields = {**said, "tasks": list(tasks), "memory_bytes": memory, "defaults": params or None}
    text, model = with_entry(file, name, {field: value for field, value in fields.items() if value is not None})
    is_here = all(located(part).exists() for part in model.parts.values() if part.revision is not None)
    problems = look(model).problems if is_here else []
    if problems:
        raise click.ClickException("\n  ".join([f"model {name} was not added to {file}:", *problems]))
    write(file, text)
    click.echo(f"added to {file}; service and workers read it at their start")
    if not is_here:
        click.echo(f"fetch it with: safelight models pull {name}")


for _command in (list_models, check, pull_model, add):
    models.add_command(_command)


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit, worth in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= worth:
            return f"{count / worth:.1f} {unit}"
    return f"{count} bytes"


def _meant(names: Sequence[str], file: Path) -> list[Model]:
    """The models of these ids and files, or all."""
    catalog: Catalog | None = None
    found: list[Model] = []
    for name in names:
        if name.endswith(".toml"):
            found += read_models(Path(name))
            continue
        catalog = catalog or _catalog(file)
        if name not in catalog:
            raise click.BadParameter(f"{name!r} is neither a model nor a .toml file; use {', '.join(catalog)}")
        found.append(catalog[name])
    return found if names else [model for model in _catalog(file).values() if model.source is not None]


def _catalog(file: Path) -> Catalog:
    return EMBEDDED.extended(read_models(file) if file.exists() else ())


def _checked(model: Model) -> Checked:
    found = look(model)
    there = [file.path.stat().st_size for file in found.files if file.path.exists()]
    problems = [*missing_libraries(model), *found.problems]
    return Checked(model=model.id, files=len(there), bytes=sum(there), problems=problems)


def _pull(model: Model) -> None:
    """Fetch it, with a line on standard error for each part."""
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(binary_units=True),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: list[TaskID] = []

        def tell(fetch: Fetch) -> None:
            progress.console.print(f"{fetch.source}: {fetch.files} files, {size(fetch.bytes)}", highlight=False)
            tasks.append(progress.add_task(fetch.source.rpartition("/")[2], total=fetch.bytes))

        pull(model, tell, lambda count: progress.advance(tasks[-1], count))
