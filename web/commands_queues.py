"""The commands about queues: how they stand, by which rules, pause, drain, resume, prune."""

from __future__ import annotations

from typing import Any, get_args

import click
import msgspec

from events.queues import Policy, Rules
from projections.live_job import FINISHED, WAITING
from web.arguments import Bound, Span, said
from web.client import Client
from web.resources import QueueResource
from web.terminal import client_command, json_option, print_json, print_table, span

HEADINGS = ["queue", "state", "policy", "waiting", "keeps", "jobs"]


@client_command()
@json_option
def queues(client: Client, as_json: bool) -> None:
    """List queues with their rules and counts."""
    listed = client.queues()
    if as_json:
        print_json(listed)
        return
    print_table(HEADINGS, [_row(queue) for queue in listed.queues], "no queues")


@client_command()
@click.argument("queue", default="default")
@json_option
def pause(client: Client, queue: str, as_json: bool) -> None:
    """Let QUEUE (default: default) hand out nothing; what runs goes on."""
    _control(client, queue, "pause", as_json)


@client_command()
@click.argument("queue", default="default")
@json_option
def drain(client: Client, queue: str, as_json: bool) -> None:
    """Let QUEUE (default: default) take no new jobs; what waits is still run."""
    _control(client, queue, "drain", as_json)


@client_command()
@click.argument("queue", default="default")
@json_option
def resume(client: Client, queue: str, as_json: bool) -> None:
    """Let QUEUE (default: default) hand out and take jobs again."""
    _control(client, queue, "resume", as_json)


@client_command()
@click.argument("queue", default="default")
@click.option("--yes", is_flag=True, help="Do not ask first (default: ask).")
@json_option
def prune(client: Client, queue: str, yes: bool, as_json: bool) -> None:
    """Let the jobs of QUEUE (default: default) that have ended leave every list. The log keeps them."""
    counts = client.queue(queue).counts
    ended = sum(counts.get(status, 0) for status in FINISHED)
    if ended and not yes:
        click.confirm(f"take {ended} ended jobs out of every list?", abort=True, err=True)
    shown = client.control(queue, "prune")
    if as_json:
        print_json(shown)
    else:
        click.echo(f"queue {queue} lists no ended jobs; {ended} have gone")


@click.group()
def queue() -> None:
    """Say how a queue is run."""


@client_command(name="set")
@click.argument("name")
@click.option(
    "--policy", type=click.Choice(get_args(Policy)),
    help="Who is next among equals: who came first, or whose key had the least GPU time (default: as it is).",
)  # fmt: skip
@click.option(
    "--capacity", type=Bound(1), metavar="N|none", help="Jobs that may wait, 1 or more (default: as it is)."
)
@click.option(
    "--keep", type=Span(), metavar="SPAN|none", help="How long ended jobs are listed: 7d (default: as it is)."
)
@click.option(
    "--keep-jobs", type=Bound(), metavar="N|none", help="How many ended jobs are listed (default: as it is)."
)
@json_option
def set_rules(
    client: Client,
    name: str,
    policy: str | None,
    capacity: int | None,
    keep: float | None,
    keep_jobs: int | None,
    as_json: bool,
) -> None:
    """Run the queue NAME by these rules; it is made if there is none of that name."""
    changes: dict[str, Any] = said(capacity=capacity, keep_s=keep, keep_jobs=keep_jobs)
    changes |= {} if policy is None else {"policy": policy}
    known = [found for found in client.queues().queues if found.name == name]
    if known and not changes:
        raise click.UsageError("say a rule, such as --policy fair or --capacity 100")
    rules = msgspec.structs.replace(known[0].rules if known else Rules(), **changes)
    shown = client.configure(name, rules)
    if as_json:
        print_json(shown)
    else:
        click.echo(f"queue {name}: {_rules(shown)}")


queue.add_command(set_rules)


def _control(client: Client, queue: str, action: str, as_json: bool) -> None:
    shown = client.control(queue, action)
    if as_json:
        print_json(shown)
    else:
        click.echo(f"queue {shown.name} is {_state(shown)}")


def _row(queue: QueueResource) -> list[str]:
    counts = ", ".join(f"{number} {status}" for status, number in sorted(queue.counts.items()))
    return [queue.name, _state(queue), queue.rules.policy, _waiting(queue), _keeps(queue), counts]


def _state(queue: QueueResource) -> str:
    paused = "paused after a crash" if queue.pause_reason == "crash" else "paused"
    words = [paused if queue.is_paused else "", "drained" if queue.is_drained else ""]
    return ", ".join(filter(None, words)) or "running"


def _waiting(queue: QueueResource) -> str:
    waiting = sum(queue.counts.get(status, 0) for status in WAITING)
    return str(waiting) if queue.rules.capacity is None else f"{waiting} of {queue.rules.capacity}"


def _keeps(queue: QueueResource) -> str:
    rules = queue.rules
    words = [
        "" if rules.keep_s is None else span(rules.keep_s),
        "" if rules.keep_jobs is None else f"{rules.keep_jobs} jobs",
    ]
    return ", ".join(filter(None, words)) or "all"


def _rules(queue: QueueResource) -> str:
    room = "any number" if queue.rules.capacity is None else str(queue.rules.capacity)
    return f"{queue.rules.policy}, {room} may wait, keeps {_keeps(queue)}"
