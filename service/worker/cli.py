"""The command `worker`: its flags, the environment and the machine give the settings; then the agent runs.

It must start fast, so nothing heavy is imported.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from service.tasks.catalog import EMBEDDED, Catalog, Model
from service.tasks.models_file import BadModelsFile, read_models
from service.worker import models
from service.worker.agent import FORCED, MISUSE, Agent, Settings
from service.worker.journal import Journal, JournalUnreadable
from service.worker.spool import Spool, SpoolTaken, default_folder

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def _server(context: click.Context, option: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f"{value!r} is no address of a service; use http://HOST:PORT or https://HOST")
    return value.rstrip("/")


def _device(context: click.Context, option: click.Parameter, value: str) -> str:
    if not DEVICE.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no device; use auto, cpu, cuda:N or mps")
    return value


def _catalog(context: click.Context, option: click.Parameter, value: Path | None) -> Catalog:
    try:
        return EMBEDDED.extended(read_models(value) if value is not None else ())
    except BadModelsFile as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option(
    "--server",
    metavar="URL",
    envvar="SAFELIGHT_URL",
    default="http://127.0.0.1:8787",
    show_default=True,
    callback=_server,
    help="The service to work for. [env: SAFELIGHT_URL]",
)
@click.option(
    "--key",
    envvar="SAFELIGHT_WORKER_KEY",
    help="Key with the scope worker; default none. Other users of this machine can see it in the process list: "
    "prefer --key-file. [env: SAFELIGHT_WORKER_KEY]",
)
@click.option(
    "--key-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the key on its first line, instead of --key (default: none).",
)
@click.option("--name", help="Name of this worker, one for each process; default host name and device.")
@click.option(
    "--device",
    metavar="auto|cpu|cuda:N|mps",
    default="auto",
    show_default=True,
    callback=_device,
    help="Device to compute on; auto takes the first GPU, else the CPU.",
)
@click.option(
    "--model",
    "names",
    metavar="ID",
    multiple=True,
    help="Model of the catalogue to offer, may be repeated; default all whose weights and libraries are here. "
    "With pretend alone nothing heavy is loaded.",
)
@click.option(
    "--models",
    "catalog",
    metavar="FILE",
    envvar="SAFELIGHT_MODELS",
    type=click.Path(path_type=Path),
    callback=_catalog,
    help="TOML file of models beside the embedded ones, as the service has it; default none. "
    "[env: SAFELIGHT_MODELS]",
)
@click.option(
    "--spool",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the journal and for results on their way, one for each worker; default a folder in the "
    "user's cache folder named by server and by --name or --device.",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(0, 1024),
    default=0,
    help="Threads that torch computes with on the CPU; default 0: what OMP_NUM_THREADS says, else one less than "
    "there are cores.",
)
@click.option(
    "--preload/--no-preload",
    default=True,
    show_default=True,
    help="Load the first real model at start, not with its first job.",
)
@click.option(
    "--with-parent",
    is_flag=True,
    help="End when standard input ends: for the process that starts workers (default: off).",
)
def worker(
    server: str,
    key: str | None,
    key_file: Path | None,
    name: str | None,
    device: str,
    names: tuple[str, ...],
    catalog: Catalog,
    spool: Path | None,
    threads: int,
    preload: bool,
    with_parent: bool,
) -> None:
    """Run a worker: take jobs from a service, compute them here, deliver the results.

    SIGTERM or Ctrl-C ends it in good order: what runs has 10 s, then it is handed back; a second signal ends
    it at once. Exit codes: 0 clean end, 1 ended at once or failed, 2 misuse, 3 refused by the service.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="safelight worker: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line for each upload otherwise
    if key and key_file:
        raise click.UsageError("--key and --key-file are both given; use one of them")
    settings = Settings(
        server=server,
        key=_key_in(key_file) if key_file else key,
        name=name,
        device=device,
        models=_offered(catalog, names),
        threads=threads,
        is_preloading=preload,
        has_parent=with_parent,
    )
    sys.exit(_run(settings, spool or default_folder(server, name or device)))


def _offered(catalog: Catalog, names: tuple[str, ...]) -> tuple[Model, ...]:
    """The models that were named, or all that can run here. One that was named and cannot is a misuse."""
    for name in names:
        if name not in catalog:
            raise click.BadParameter(
                f"{name!r} is not in the catalogue; use {', '.join(catalog)}", param_hint="--model"
            )
        try:
            models.check(catalog[name])
        except models.ModelMissing as error:
            raise click.BadParameter(str(error), param_hint="--model") from error
    return tuple(catalog[name] for name in dict.fromkeys(names)) or models.available(catalog.values())


def _key_in(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").split()
    if not lines:
        raise click.BadParameter(f"{path} is empty; write the key on its first line", param_hint="--key-file")
    return lines[0]


def _run(settings: Settings, folder: Path) -> int:
    try:
        spool = Spool(folder)
        journal = Journal(spool.journal_path)
    except (SpoolTaken, JournalUnreadable) as error:
        click.echo(f"Error: {error}", err=True)
        return MISUSE
    except OSError as error:
        click.echo(
            f"Error: the spool folder {folder} cannot be used: {error.strerror}; give another --spool", err=True
        )
        return MISUSE
    spool.sweep(file for result in journal.results() for file in result.files)
    try:
        return asyncio.run(_work(settings, spool, journal))
    except (sqlite3.Error, OSError) as error:
        click.echo(f"Error: the worker had to stop, its disk failed: {error}", err=True)
        return FORCED
    finally:
        journal.close()
        spool.close()


async def _work(settings: Settings, spool: Spool, journal: Journal) -> int:
    return await Agent(settings, spool, journal).run()


if __name__ == "__main__":
    worker()
