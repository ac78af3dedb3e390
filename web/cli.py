"""The command line: one group whose commands are imported only when they are called, so that --help is quick."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import click

ROOMS = ("events", "projections", "service", "web")

COMMANDS = {
    "serve": "web.serve:serve",
    "worker": "service.worker.cli:worker",
    "demo": "web.demo:demo",
    "submit": "web.commands_submit:submit",
    "watch": "web.commands_watch:watch",
    "jobs": "web.commands_jobs:jobs",
    "cancel": "web.commands_control:cancel",
    "retry": "web.commands_control:retry",
    "hold": "web.commands_control:hold",
    "release": "web.commands_control:release",
    "move": "web.commands_control:move",
    "edit": "web.commands_control:edit",
    "queues": "web.commands_queues:queues",
    "queue": "web.commands_queues:queue",
    "pause": "web.commands_queues:pause",
    "drain": "web.commands_queues:drain",
    "resume": "web.commands_queues:resume",
    "prune": "web.commands_queues:prune",
    "workers": "web.commands_service:workers",
    "models": "web.commands_models:models",
    "tasks": "web.commands_service:tasks",
    "keys": "web.commands_keys:keys",
    "webhooks": "web.commands_webhooks:webhooks",
    "replay": "web.replay:replay",
    "doctor": "web.doctor:doctor",
}
"""Every command and where it lives, in the order of --help."""


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands with what each does, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


SUMMARIES = {
    "serve": "Run the service with its local worker.",
    "worker": "Run a worker for a service, here or on another machine.",
    "demo": "Start everything, make one picture, keep serving.",
    "submit": "Submit a job or a batch, follow it, save its pictures.",
    "watch": "Print what happens, to one job or to all.",
    "jobs": "List jobs, or show one with its history.",
    "cancel": "Cancel jobs, waiting or running.",
    "retry": "Send failed, cancelled or expired jobs back to their queue.",
    "hold": "Take waiting jobs out of line until they are released.",
    "release": "Put held jobs back in line, or a quarantined worker back to work.",
    "move": "Move a job within its line.",
    "edit": "Change a job that does not run.",
    "queues": "List queues with their rules and counts.",
    "queue": "Say how a queue is run.",
    "pause": "Let a queue hand out nothing; what runs goes on.",
    "drain": "Let a queue take no new jobs; what waits is still run.",
    "resume": "Let a queue hand out and take jobs again.",
    "prune": "Let ended jobs leave every list.",
    "workers": "List workers and what they run.",
    "models": "List, check, fetch and add models.",
    "tasks": "List tasks and their parameters.",
    "keys": "Make, list, limit and revoke API keys.",
    "webhooks": "Make webhooks, see and repeat what they were told.",
    "replay": "Fold a log into fresh views; print or export it.",
    "doctor": "Check this machine and the service.",
}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("safelight"), prog_name="safelight")
def main() -> None:
    """Safelight: an event-sourced job service for diffusion models on shared GPUs."""
    _refuse_intruders()


def _refuse_intruders() -> None:
    """End unless the four packages Python finds are ours: their names are generic, and another distribution
    installed beside this one may have overwritten one silently."""
    for room in ROOMS:
        package = importlib.import_module(room)
        if getattr(package, "PROJECT", None) != "safelight":
            click.echo(
                f"error: the package {room!r} at {package.__file__} is not Safelight's; "
                "install safelight in an environment of its own",
                err=True,
            )
            sys.exit(2)


if __name__ == "__main__":
    main()
