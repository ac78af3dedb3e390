"""Reading on a long history: the newest finished job and the queues, in CPU of the server's process.

One service for each length of history, all at once, asked in turn. CPU of every thread of the process, so that
nothing hides in one; the wall clock of a shared machine says less.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks import history, load
from benchmarks.measure import Bar, Row, against, cpu_s, in_turn
from benchmarks.processes import Server, bare, is_ready, service, until

PATHS = {"latest finished": "/v1/jobs/latest?status=completed", "queue status": "/v1/queues"}
JOBS = (1_000, 10_000, 1_000_000)
FLAT = 1.25  # what a ratio of two lengths may differ by for other reasons


def rows(quick: bool) -> list[Row]:
    """Milliseconds of server CPU for one answer, against a bare route and against the shortest history."""
    lengths = JOBS[:2] if quick else JOBS
    answers, rounds = (200, 2) if quick else (1500, 7)
    with ExitStack() as stack:
        servers = [stack.enter_context(service("--no-worker", data=history.data_folder(n))) for n in lengths]
        for server in servers:
            until(partial(is_ready, server.port), 300, "the service to be ready")
        servers.append(stack.enter_context(bare()))
        found: list[Row] = []
        for name, path in PATHS.items():
            asked = load.request("GET", path)
            for server in servers:
                load.run(server.port, asked, clients=1, answers=answers)  # warm
            taken = in_turn(rounds, [partial(_cpu_ms, server, asked, answers) for server in servers])
            found += _rows(name, lengths, taken)
    return found


def _cpu_ms(server: Server, asked: bytes, answers: int) -> float:
    before = cpu_s(server.pid)
    load.run(server.port, asked, clients=1, answers=answers)
    return (cpu_s(server.pid) - before) / answers * 1e3


def _rows(name: str, lengths: tuple[int, ...], taken: list[list[float]]) -> list[Row]:
    *ours, beside = taken
    found = [
        against(f"{name}, {jobs:,} jobs", "CPU ms", mine, beside, "bare Starlette route", bar=Bar(1.0))
        for jobs, mine in zip(lengths, ours, strict=True)
    ]
    found.append(
        against(
            f"{name}, {lengths[-1]:,} jobs against {lengths[0]:,}",
            "CPU ms",
            ours[-1],
            ours[0],
            f"{lengths[0]:,} jobs",
            bar=Bar(FLAT, is_of_ratio=True),
        )
    )
    return found
