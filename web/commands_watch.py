"""The command `watch`: what happens, line by line."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from web.client import Client
from web.follow import follow
from web.job_words import eta_words, event_words, waits
from web.progress_lines import ENDINGS
from web.resources import EtaResource
from web.terminal import client_command, print_json


@client_command()
@click.argument("job", required=False)
@click.option("--after", type=click.IntRange(0), help="Begin behind this log position (default: now).")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON (default: off).")
def watch(client: Client, job: str | None, after: int | None, as_json: bool) -> None:
    """Print what happens, to every job or to JOB until it ends. For JOB also when it is thought to be done."""
    if job is not None:
        found = client.job(job)
        job = found.id
        after = 0 if after is None else after
        if not as_json and (words := waits(found)):
            click.echo(f"{'':8}  {'':12}  {words}")
    told = ""
    try:
        for message in follow(client, after=after, job=job):
            if message["op"] == "event":
                _print_event(message, as_json)
                if job is not None and _is_over(client, job, message):
                    return
            elif job is not None and not as_json and message.get("kind") == "eta":
                words = eta_words(msgspec.convert(message["data"], EtaResource))
                if words != told:
                    told = words
                    click.echo(f"{'':8}  {'':12}  {words or 'not known when'}")
    except KeyboardInterrupt:
        return


def _print_event(message: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({name: value for name, value in message.items() if name != "op"})
        return
    click.echo(f"{message['position']:>8}  {message['at'][11:23]}  {message['stream']}  {event_words(message)}")


def _is_over(client: Client, job: str, message: dict[str, Any]) -> bool:
    return message["type"] in ENDINGS and client.job(job).position <= message["position"]
