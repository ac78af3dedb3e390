"""The commands about what the service has: workers, tasks."""

from __future__ import annotations

from typing import Any

import click

from web.client import Client
from web.resources import WorkerResource
from web.terminal import client_command, json_option, print_json, print_table


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
            _state(w),
            f"{w.device.kind}: {w.device.name}",
            ", ".join(model for models in w.models.values() for model in models),
            ", ".join(w.running) or "nothing",
        ]
        for w in listed.workers
    ]
    print_table(["worker", "state", "device", "models", "runs"], rows, "no worker has ever registered")
    for w in listed.workers:
        if w.quarantine is not None:
            click.echo(f"{w.name} gets no jobs: {w.quarantine}; `safelight release --worker {w.name}` ends that")


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


def _state(worker: WorkerResource) -> str:
    if not worker.is_connected:
        return f"gone ({worker.lost})" if worker.lost else "not connected"
    return "connected" if worker.quarantine is None else "quarantined"


def _bounds(field: dict[str, Any]) -> str:
    limits = [f"{word} {field[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in field]
    limits += [f"one of {', '.join(field['enum'])}"] if "enum" in field else []
    return ", ".join(filter(None, [str(field.get("description", "")), " ".join(limits)]))
