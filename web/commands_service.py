"""The commands about the service itself: queues, workers, models, tasks, pause and resume."""

from __future__ import annotations

import click

from web.client import Client
from web.terminal import client_command, json_option, print_json, print_table


@client_command()
@click.argument("queue", default="default")
@json_option
def pause(client: Client, queue: str, as_json: bool) -> None:
    """Let QUEUE (default: default) hand out nothing; what runs goes on."""
    _control(client, queue, "pause", as_json)


@client_command()
@click.argument("queue", default="default")
@json_option
def resume(client: Client, queue: str, as_json: bool) -> None:
    """Let QUEUE (default: default) hand out jobs again."""
    _control(client, queue, "resume", as_json)


@client_command()
@json_option
def queues(client: Client, as_json: bool) -> None:
    """List queues with their counts."""
    listed = client.queues()
    if as_json:
        print_json(listed)
        return
    rows = [
        [q.name, "paused" if q.is_paused else "running", ", ".join(f"{n} {s}" for s, n in sorted(q.counts.items()))]
        for q in listed.queues
    ]
    print_table(["queue", "state", "jobs"], rows, "no queues")


@client_command()
@json_option
def workers(client: Client, as_json: bool) -> None:
    """List workers and what they run."""
    listed = client.workers()
    if as_json:
        print_json(listed)
        return
    rows = [
        [
            w.name,
            "connected" if w.is_connected else f"gone ({w.lost})" if w.lost else "not connected",
            f"{w.device.kind}: {w.device.name}",
            ", ".join(model for models in w.models.values() for model in models),
            ", ".join(w.running) or "nothing",
        ]
        for w in listed.workers
    ]
    print_table(["worker", "state", "device", "models", "runs"], rows, "no worker has ever registered")


@client_command()
@json_option
def models(client: Client, as_json: bool) -> None:
    """List models and whether a worker has them."""
    listed = client.models()
    if as_json:
        print_json(listed)
        return
    rows = [[m.id, m.task, "yes" if m.is_available else "no", m.title] for m in listed.models]
    print_table(["model", "task", "a worker has it", "what it is"], rows, "no models")


@client_command()
@json_option
def tasks(client: Client, as_json: bool) -> None:
    """List tasks and their parameters."""
    listed = client.raw("GET", "/v1/tasks")
    if as_json:
        print_json(listed)
        return
    for task in listed["tasks"]:
        click.echo(task["name"])
        rows = [
            [f"  {name}", "required" if name in task["schema"].get("required", []) else "", _bounds(field)]
            for name, field in task["schema"]["properties"].items()
        ]
        print_table(["  parameter", "", "what"], rows, "  no parameters")


def _control(client: Client, queue: str, action: str, as_json: bool) -> None:
    shown = client.control(queue, action)
    if as_json:
        print_json(shown)
    else:
        click.echo(f"queue {shown.name} is {'paused' if shown.is_paused else 'running'}")


def _bounds(field: dict[str, object]) -> str:
    limits = [f"{word} {field[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in field]
    return ", ".join(filter(None, [str(field.get("description", "")), " ".join(limits)]))
