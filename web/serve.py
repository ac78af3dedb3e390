"""The command `serve`: the service in one process, with its local workers, until it is told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import uvicorn
from starlette.types import ASGIApp

from service.config import Config
from service.local_worker import LocalWorkers
from service.tasks.catalog import EMBEDDED
from service.tasks.models_file import BadModelsFile, read_models, usual_file
from service.webhooks.address import parse_allowed
from web.transport import PushProtocol

GRACE_S = 20  # seconds that open requests have to end


def _checked_allow(context: click.Context, parameter: click.Parameter, words: tuple[str, ...]) -> tuple[str, ...]:
    try:
        parse_allowed(words)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return words


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("safelight-data"), envvar="SAFELIGHT_DATA",
    show_default=True, help="Folder of log, views, artifacts and keys; made if missing.",
)  # fmt: skip
@click.option(
    "--host", default="127.0.0.1", envvar="SAFELIGHT_HOST", show_default=True,
    help="Address to listen on. Another than loopback needs a key first (`safelight keys create`).",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8787, envvar="SAFELIGHT_PORT", show_default=True,
    help="TCP port; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--allow-host", "allow_hosts", multiple=True, envvar="SAFELIGHT_ALLOW_HOSTS",
    help="A host name requests may be addressed to, besides loopback and --host (default: none). Repeatable.",
)  # fmt: skip
@click.option(
    "--webhook-allow", multiple=True, envvar="SAFELIGHT_WEBHOOK_ALLOW", callback=_checked_allow, metavar="HOST",
    help="A host name, address or network (CIDR) that webhooks may go to although it is not public, by http too "
    "(default: none). Repeatable.",
)  # fmt: skip
@click.option("--worker/--no-worker", default=True, show_default=True, help="Start workers on this machine.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=["auto"],
    show_default=True,
    help="A device to start a worker on: cpu, cuda:N, mps, or auto for every GPU, else the CPU. Repeatable.",
)
@click.option(
    "--models", metavar="FILE", type=click.Path(path_type=Path), envvar="SAFELIGHT_MODELS",
    help="TOML file of models beside the embedded ones, for the service and those workers (default: models.toml in "
    "--data, if it is there).",
)  # fmt: skip
@click.option(
    "--worker-model", "worker_models", multiple=True,
    help="A model id those workers offer (default: all whose weights are here). Repeatable.",
)  # fmt: skip
@click.option(
    "--pause-after-crash/--go-on-after-crash", default=False, show_default=True,
    envvar="SAFELIGHT_PAUSE_AFTER_CRASH",
    help="Start with every queue paused when the service was killed or crashed.",
)  # fmt: skip
@click.option(
    "--lease", "lease_s", type=click.FloatRange(1, 600), default=30.0, show_default=True,
    help="Seconds a silent worker keeps its jobs.",
)  # fmt: skip
def serve(
    data: Path,
    host: str,
    port: int,
    allow_hosts: tuple[str, ...],
    webhook_allow: tuple[str, ...],
    worker: bool,
    devices: tuple[str, ...],
    models: Path | None,
    worker_models: tuple[str, ...],
    pause_after_crash: bool,
    lease_s: float,
) -> None:
    """Run the service: log, views, API, push, page, and a worker for each device of this machine."""
    file = models or usual_file(data)
    try:
        added = read_models(file) if file is not None else []
    except BadModelsFile as error:
        raise click.BadParameter(str(error), param_hint="--models") from None
    config = Config(
        data=data,
        catalog=EMBEDDED.extended(added),
        host=host,
        port=port,
        allow_hosts=allow_hosts,
        webhook_allow=webhook_allow,
        devices=devices if worker else (),
        worker_options=(
            *(("--models", str(file)) if file is not None else ()),
            *(word for model in worker_models for word in ("--model", model)),
        ),
        pause_after_crash=pause_after_crash,
        lease_s=lease_s,
        beat_s=min(5.0, lease_s / 6),
    )
    sys.exit(_run(config))


def _run(config: Config) -> int:
    """Serve until told to end; gives the exit code."""
    from events.log import LogError
    from web.app import NeedsKey

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        with _listen(config.host, config.port) as listener:
            asyncio.run(_serve(config, listener))
    except (LogError, NeedsKey, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return 1
    return 0


async def _serve(config: Config, listener: socket.socket) -> None:
    from web.app import open_app, worker_key_file

    address = _address(config.host, listener)
    async with open_app(config) as app:
        server = _server(app)
        workers = LocalWorkers(
            config.devices,
            server=address,
            key_file=worker_key_file(config),
            spools=config.data / "spool",
            options=config.worker_options,
        )
        _end_on_signals(server, workers)
        workers.start()
        gc.freeze()  # what is imported by now is never garbage: collections need not look at it
        # jobs make no cycles and live long: looking for some as often as Python does took an eighth of a submit
        gc.set_threshold(10_000, 20, 20)
        click.echo(f"Safelight serves {address} (data in {config.data})")
        await server.serve(sockets=[listener])
        await workers.stop()  # where the server ended by itself


def _server(app: ASGIApp) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,
            ws=PushProtocol,
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=1 << 20,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="off",
        )
    )


class _Server(uvicorn.Server):
    """uvicorn, but signals are ours: workers hand back what they run while the service still answers them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _end_on_signals(server: uvicorn.Server, workers: LocalWorkers) -> None:
    """The first SIGTERM or SIGINT ends things in order, the second at once."""
    loop = asyncio.get_running_loop()
    ending: list[asyncio.Task[None]] = []

    async def end() -> None:
        await workers.stop()
        server.should_exit = True

    def on_signal() -> None:
        if ending:
            server.should_exit = server.force_exit = True
        else:
            ending.append(loop.create_task(end()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


def _listen(host: str, port: int) -> socket.socket:
    """The bound socket. Raises OSError naming the address when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol must be named: asyncio turns Nagle's algorithm off only for sockets that say TCP, and with it
    # every answer on a kept-alive connection would wait 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port") from error
    return listener


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
