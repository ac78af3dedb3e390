"""The command `demo`: everything at once, for somebody who has just arrived."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from web.client import Client, ClientError
from web.commands_submit import finish
from web.progress_lines import follow_jobs

START_S = 60.0
STOP_S = 30.0
DEFAULT_PORT = 8787


@click.command()
@click.argument("prompt", default="a large red circle on a blue background")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("demo.png"), show_default=True,
    help="File for the picture.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("safelight-data"), envvar="SAFELIGHT_DATA",
    show_default=True, help="Folder of log, views, artifacts and keys; made if missing.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=None,
    help=f"TCP port (default: {DEFAULT_PORT}, or a free one where that is taken).",
)  # fmt: skip
@click.option("--exit", "ends", is_flag=True, help="End after the picture instead of serving on (default: off).")
def demo(prompt: str, output: Path, data: Path, port: int | None, ends: bool) -> None:
    """Start service and worker, make one picture of PROMPT, keep serving until Ctrl-C."""
    port = _free_port() if port is None else port
    try:
        with _service(data, port) as url:
            click.echo(f"the live page: {url}\nasking for: {prompt}")
            client = Client(url, None)
            _when_ready(client)
            jobs = follow_jobs(client, [client.submit({"params": {"prompt": prompt}})])
            finish(client, jobs, output)
            click.echo(f"saved {output.absolute()}")
            if not ends:
                click.echo(f"still serving {url}; Ctrl-C ends it")
                signal.pause()
    except ClientError as error:
        raise click.ClickException(f"{error}\nwhat the service said is in {data / 'demo.log'}") from error
    except KeyboardInterrupt:
        click.echo("ended")


@contextmanager
def _service(data: Path, port: int) -> Iterator[str]:
    """A `safelight serve` of our own, in a process that Ctrl-C does not reach; its log goes to a file."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data / "demo.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "web.cli", "serve", "--data", str(data), "--port", str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _when_ready(client: Client) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            client.raw("GET", "/v1/health/ready")
            return
        except ClientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _free_port() -> int:
    """The usual port, or a free one when something listens there already."""
    for port in (DEFAULT_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ClientError("no TCP port is free on 127.0.0.1")
