"""The command group `keys`: make, list, limit and revoke API keys."""

from __future__ import annotations

from typing import Any, get_args

import click

from events.keys import Scope
from web.arguments import Bound, said
from web.client import Client
from web.terminal import client_command, json_option, print_json, print_table


@click.group()
def keys() -> None:
    """Make, list, limit and revoke API keys."""


@client_command(name="create")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(get_args(Scope)),
    help="What the key opens (no default). Repeatable.",
)  # fmt: skip
@json_option
def create(client: Client, name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a key called NAME. It is shown once."""
    made = client.raw("POST", "/v1/keys", {"name": name, "scopes": scopes})
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['key']}\nkeep it now: it is not shown again (id {made['id']})")


@client_command(name="list")
@json_option
def list_keys(client: Client, as_json: bool) -> None:
    """List keys, without their secrets."""
    listed = client.raw("GET", "/v1/keys")
    if as_json:
        print_json(listed)
        return
    rows = [[key["id"], key["name"], ", ".join(key["scopes"]), _limits(key)] for key in listed["keys"]]
    print_table(["id", "name", "scopes", "limits"], rows, "no keys")


@client_command(name="limit")
@click.argument("key_id", metavar="ID")
@click.option(
    "--weight", type=click.FloatRange(0, min_open=True),
    help="Its share of GPU time in a fair queue, against 1 of the others (default: as it is).",
)  # fmt: skip
@click.option("--max-waiting", type=Bound(), metavar="N|none", help="Jobs that may wait (default: as it is).")
@click.option("--max-running", type=Bound(), metavar="N|none", help="Jobs that may run (default: as it is).")
@click.option(
    "--per-minute", type=Bound(), metavar="N|none", help="Jobs it may submit a minute (default: as it is)."
)
@json_option
def limit(
    client: Client,
    key_id: str,
    weight: float | None,
    max_waiting: int | None,
    max_running: int | None,
    per_minute: int | None,
    as_json: bool,
) -> None:
    """Bound what the key with this ID may ask for."""
    changes = said(weight=weight, max_waiting=max_waiting, max_running=max_running, jobs_per_minute=per_minute)
    if not changes:
        raise click.UsageError("say a limit, such as --max-waiting 20 or --weight 2")
    known = {key["id"]: key for key in client.raw("GET", "/v1/keys")["keys"]}
    limits = {**known.get(key_id, {}).get("limits", {}), **changes}
    shown = client.raw("PUT", f"/v1/keys/{key_id}/limits", limits)
    if as_json:
        print_json(shown)
    else:
        click.echo(f"key {key_id}: {_limits(shown)}")


@client_command(name="revoke")
@click.argument("key_id", metavar="ID")
def revoke(client: Client, key_id: str) -> None:
    """Let the key with this ID open nothing any more."""
    client.raw("DELETE", f"/v1/keys/{key_id}")
    click.echo(f"key {key_id} opens nothing any more")


keys.add_command(create)
keys.add_command(list_keys)
keys.add_command(limit)
keys.add_command(revoke)


def _limits(key: dict[str, Any]) -> str:
    limits = key.get("limits", {})
    told = [f"weight {limits['weight']:g}" if limits.get("weight", 1) != 1 else ""]
    words = {"max_waiting": "{} waiting", "max_running": "{} running", "jobs_per_minute": "{} a minute"}
    told += [words[name].format(limits[name]) for name in words if limits.get(name) is not None]
    return ", ".join(filter(None, told)) or "none"
