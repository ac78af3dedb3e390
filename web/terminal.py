"""What the commands share: the service they speak to, how facts are printed, how errors end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from web.client import Client, ClientError

STATUS_STYLES = {
    "scheduled": "yellow", "held": "magenta", "queued": "yellow", "running": "cyan", "completed": "green",
    "failed": "red", "cancelled": "dim", "expired": "red",
}  # fmt: skip

WHOLE = {"id", "status", "ready"}
"""Columns that are not broken: half an id names nothing."""


def client_command(**settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that speaks to a service: adds --url, --key and --json, and ends on a ClientError with code 1.

    The function gets the client first.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.option(
            "--url", default="http://127.0.0.1:8787", envvar="SAFELIGHT_URL", show_default=True, show_envvar=True,
            help="Address of the service.",
        )  # fmt: skip
        @click.option(
            "--key", default=None, envvar="SAFELIGHT_KEY", show_envvar=True, help="API key (default: none)."
        )
        @functools.wraps(function)
        def run(url: str, key: str | None, **arguments: Any) -> None:
            try:
                function(Client(url, key), **arguments)
            except ClientError as error:
                raise click.ClickException(str(error)) from error

        made: click.Command = click.command(**settings)(run)
        return made

    return decorate


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--json, for commands that print facts."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document instead of a table (default: off)."
    )(function)


def print_json(value: object) -> None:
    """One JSON document on one line."""
    click.echo(msgspec.json.encode(value).decode())


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """A table for people, or a line that says there is nothing."""
    if not rows:
        click.echo(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=heading in WHOLE)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def styled(status: str) -> str:
    """A status in its colour, as rich markup."""
    style = STATUS_STYLES.get(status, "")
    return f"[{style}]{status}[/{style}]" if style else status


def span(seconds: float) -> str:
    """A span of time as it is typed: `7d`, `90m`."""
    for unit, worth in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= worth and seconds % worth == 0:
            return f"{seconds / worth:g}{unit}"
    return f"{seconds:g}s"
