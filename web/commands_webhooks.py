"""The command group `webhooks`: make, list, change and remove webhooks, see and repeat what they were told."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.markup import escape

from events.webhooks import ENDS, KINDS
from web.client import Client
from web.terminal import client_command, json_option, print_json, print_table

PING_S = 20.0
POLL_S = 0.1


@click.group()
def webhooks() -> None:
    """Make webhooks, see and repeat what they were told."""


@client_command(name="create")
@click.argument("address", metavar="URL")
@click.option(
    "--event", "events", multiple=True, type=click.Choice(KINDS), metavar="TYPE",
    help=f"An event type to be told of (default: {', '.join(ENDS)}). Repeatable.",
)  # fmt: skip
@click.option("--queue", "queues", multiple=True, help="Only of this queue (default: all). Repeatable.")
@json_option
def create(client: Client, address: str, events: tuple[str, ...], queues: tuple[str, ...], as_json: bool) -> None:
    """Have URL told of what happens to jobs. Its signing secret is shown once."""
    body = {"url": address, "events": events or ENDS, "queues": queues}
    _print_secret(client.raw("POST", "/v1/webhooks", body), as_json)


@client_command(name="list")
@json_option
def list_webhooks(client: Client, as_json: bool) -> None:
    """List webhooks, without their secrets."""
    listed = client.raw("GET", "/v1/webhooks")
    if as_json:
        print_json(listed)
        return
    rows = [
        [w["id"], _state(w), escape(w["url"] or "(of the job)"), ", ".join(w["events"])] for w in listed["webhooks"]
    ]
    print_table(["id", "state", "url", "events"], rows, "no webhooks")


@client_command(name="show")
@click.argument("webhook", metavar="ID")
@json_option
def show(client: Client, webhook: str, as_json: bool) -> None:
    """Show the webhook with this ID."""
    shown = client.raw("GET", f"/v1/webhooks/{webhook}")
    if as_json:
        print_json(shown)
        return
    rows = [
        ["webhook", shown["id"]],
        ["url", escape(shown["url"] or "(of the job)")],
        ["state", _state(shown)],
        ["events", ", ".join(shown["events"])],
        ["queues", ", ".join(shown["queues"]) or "all"],
        ["since", shown["created_at"]],
    ]
    print_table(["", ""], rows, "")


@client_command(name="change")
@click.argument("webhook", metavar="ID")
@click.option("--to", "address", metavar="URL", help="Another address (default: as it is).")
@click.option(
    "--event", "events", multiple=True, type=click.Choice(KINDS), metavar="TYPE",
    help="The event types to be told of from now on (default: as they are). Repeatable.",
)  # fmt: skip
@click.option("--queue", "queues", multiple=True, help="Only of this queue (default: as it is). Repeatable.")
@click.option("--enable/--disable", "is_enabled", default=None, help="Switch it on or off (default: as it is).")
@json_option
def change(
    client: Client,
    webhook: str,
    address: str | None,
    events: tuple[str, ...],
    queues: tuple[str, ...],
    is_enabled: bool | None,
    as_json: bool,
) -> None:
    """Change the webhook with this ID."""
    wanted = {"url": address, "events": events or None, "queues": queues or None, "is_enabled": is_enabled}
    shown = client.raw("PATCH", f"/v1/webhooks/{webhook}", {k: v for k, v in wanted.items() if v is not None})
    if as_json:
        print_json(shown)
    else:
        click.echo(f"webhook {webhook} is {_state(shown)}")


@client_command(name="rotate")
@click.argument("webhook", metavar="ID")
@json_option
def rotate(client: Client, webhook: str, as_json: bool) -> None:
    """Give a webhook a new signing secret, shown once; for a day the old one signs too."""
    _print_secret(client.raw("POST", f"/v1/webhooks/{webhook}/rotate"), as_json)


@client_command(name="ping")
@click.argument("webhook", metavar="ID")
@json_option
def ping(client: Client, webhook: str, as_json: bool) -> None:
    """Send a test message and say what came of it; the exit code is 1 if it was not taken."""
    sent = client.raw("POST", f"/v1/webhooks/{webhook}/ping")
    deadline = time.monotonic() + PING_S
    while sent["status"] == "pending" and time.monotonic() < deadline:
        time.sleep(POLL_S)
        sent = client.raw("GET", f"/v1/webhooks/{webhook}/deliveries/{sent['id']}")
    if as_json:
        print_json(sent)
    else:
        click.echo(f"{sent['status']}: {_last(sent)}")
    if sent["status"] != "delivered":
        raise SystemExit(1)


@client_command(name="deliveries")
@click.argument("webhook", metavar="ID")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@json_option
def deliveries(client: Client, webhook: str, limit: int, as_json: bool) -> None:
    """List what a webhook was told, newest first."""
    listed = client.raw("GET", f"/v1/webhooks/{webhook}/deliveries?limit={limit}")
    if as_json:
        print_json(listed)
        return
    rows = [
        [d["id"], d["event"], d["status"], str(len(d["attempts"])), escape(_last(d)), d["next_attempt_at"] or ""]
        for d in listed["deliveries"]
    ]
    print_table(["id", "event", "status", "tries", "last answer", "next try"], rows, "no deliveries")


@client_command(name="redeliver")
@click.argument("webhook", metavar="ID")
@click.argument("delivery")
@json_option
def redeliver(client: Client, webhook: str, delivery: str, as_json: bool) -> None:
    """Send DELIVERY of the webhook with this ID again."""
    sent = client.raw("POST", f"/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver")
    if as_json:
        print_json(sent)
    else:
        click.echo(f"{delivery} is sent again; see it with `safelight webhooks deliveries {webhook}`")


@client_command(name="delete")
@click.argument("webhook", metavar="ID")
def delete(client: Client, webhook: str) -> None:
    """Remove the webhook with this ID, with what was not delivered yet."""
    client.raw("DELETE", f"/v1/webhooks/{webhook}")
    click.echo(f"webhook {webhook} is removed")


for command in (create, list_webhooks, show, change, rotate, ping, deliveries, redeliver, delete):
    webhooks.add_command(command)


def _print_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['secret']}\nkeep it now: it is not shown again (webhook {made['id']})")


def _state(webhook: dict[str, Any]) -> str:
    return "enabled" if webhook["is_enabled"] else f"disabled ({webhook['disabled']})"


def _last(delivery: dict[str, Any]) -> str:
    """The newest attempt in a few words."""
    if not delivery["attempts"]:
        return "not tried yet"
    last = delivery["attempts"][-1]
    told = " ".join(str(part) for part in (last["status"], last["error"]) if part is not None)
    return f"{told} in {last['duration_ms']} ms"
