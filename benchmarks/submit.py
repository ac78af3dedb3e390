"""Durable submits through HTTP: 201 means fsynced and shown, against a bare route and against the disk.

Measured at the clients' side of the socket. Nothing runs: the service has no worker, the jobs wait.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.bare import SUBMISSION
from benchmarks.measure import Bar, Row, against, fdatasync_s, in_turn
from benchmarks.processes import bare, service

ASKED = load.request("POST", "/v1/jobs", SUBMISSION)
CLIENTS = (1, 16, 64)


def rows(quick: bool) -> list[Row]:
    """One client's latency, and what 1, 16 and 64 clients get done, in turn with the bare route and the disk."""
    rounds = 3 if quick else 9
    with service("--no-worker") as ours, bare() as beside, tempfile.TemporaryDirectory() as folder:
        for server in (ours, beside):
            load.run(server.port, ASKED, clients=16, answers=300)  # warm
        found: list[Row] = []
        for clients in CLIENTS:
            answers = (60 if quick else 250) * (1 if clients == 1 else 4)
            run = partial(load.run, asked=ASKED, clients=clients, answers=answers)
            mine, others, disk = in_turn(
                rounds,
                [partial(run, ours.port), partial(run, beside.port), lambda: _disk(Path(folder))],
            )
            found += _rows(clients, mine, others, [one.p50_s for one in disk])
    return found


def _disk(folder: Path) -> load.Load:
    """An fdatasync as if it were an answer."""
    seconds = fdatasync_s(folder)
    return load.Load([seconds], seconds, 0.0)


def _rows(clients: int, mine: list[load.Load], others: list[load.Load], disk_s: list[float]) -> list[Row]:
    rates = [one.per_s for one in mine]
    routes = [one.per_s for one in others]
    share = sum(one.cpu_s for one in others) / sum(one.wall_s for one in others)
    who = "1 client" if clients == 1 else f"{clients} clients"
    found = [
        against(
            f"durable submit, {who}, against a bare route",
            "/s",
            rates,
            routes,
            "bare Starlette route",
            bar=Bar(0.25, is_floor=True, is_of_ratio=True) if clients == 16 else None,
            note=f"load generator {share:.0%} of a core at the bare route",
        ),
        against(
            f"durable submit, {who}, against the disk",
            "/s",
            rates,
            [1 / seconds for seconds in disk_s],
            "fdatasync of 4 KiB, one after another",
        ),
    ]
    if clients == 1:
        floor_ms = [(one.p50_s + s) * 1e3 for one, s in zip(others, disk_s, strict=True)]
        found.insert(
            0,
            against(
                "durable submit, 1 client, p50",
                "ms",
                [one.p50_s * 1e3 for one in mine],
                floor_ms,
                "bare route + one fdatasync",
                bar=Bar(3.0, is_of_ratio=True),
            ),
        )
    return found
