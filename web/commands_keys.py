"""The command group `keys`: make, list and revoke API keys."""

from __future__ import annotations

from typing import get_args

import click

from events.keys import Scope
from web.client import Client
from web.terminal import client_command, json_option, print_json, print_table


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


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
    rows = [[key["id"], key["name"], ", ".join(key["scopes"])] for key in listed["keys"]]
    print_table(["id", "name", "scopes"], rows, "no keys")


@client_command(name="revoke")
@click.argument("key_id", metavar="ID")
def revoke(client: Client, key_id: str) -> None:
    """Let the key with this ID open nothing any more."""
    client.raw("DELETE", f"/v1/keys/{key_id}")
    click.echo(f"key {key_id} opens nothing any more")


keys.add_command(create)
keys.add_command(list_keys)
keys.add_command(revoke)
