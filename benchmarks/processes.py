"""The real processes under measurement: the service as a user starts it, and the bare servers beside it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.load import Client, UnexpectedAnswer, request

T = TypeVar("T")
START_S = 300.0  # a service on a log of millions of events without a snapshot folds it first
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # so that torch leaves the service a core


class Server:
    """A process that says its address on its output."""

    def __init__(self, arguments: list[str], log_file: Path) -> None:
        """Start it and wait until it listens; `arguments` go to this Python."""
        self.folder = log_file.parent
        self._log_file = log_file
        with log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **ONE_THREAD, "PYTHONUNBUFFERED": "1"},
            )
        self.pid = self.process.pid
        what = f"{' '.join(arguments)} to listen"
        self.port = until(self._port, START_S, what, every_s=0.002) or 0
        until(self._accepts, START_S, what, every_s=0.002)

    def stop(self) -> None:
        """End it in order."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _accepts(self) -> bool:
        """It says its address a moment before it listens."""
        try:
            Client(self.port).close()
        except OSError:
            return False
        return True

    def _port(self) -> int | None:
        said = self._log_file.read_text(errors="replace")
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with code {self.process.returncode}:\n{said[-4000:]}")
        found = re.search(r"serves http://\S+:(\d+)", said)
        return int(found[1]) if found else None


@contextmanager
def service(*options: str, data: Path | None = None) -> Iterator[Server]:
    """A `safelight serve` with these options, on `data` or on an empty folder of its own."""
    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as folder:
        where = data or Path(folder) / "data"
        arguments = ["-m", "web.cli", "serve", "--data", str(where), "--port", "0", *options]
        yield from _running(arguments, Path(folder))


@contextmanager
def bare() -> Iterator[Server]:
    """The bare server (benchmarks/bare.py)."""
    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as folder:
        yield from _running(["-m", "benchmarks.bare"], Path(folder))


def _running(arguments: list[str], folder: Path) -> Iterator[Server]:
    server = Server(arguments, folder / "output.log")
    try:
        yield server
    finally:
        server.stop()


def get(port: int, path: str) -> dict[str, object]:
    """The JSON of one GET."""
    client = Client(port)
    try:
        answer: dict[str, object] = msgspec.json.decode(client.ask(request("GET", path)))
        return answer
    finally:
        client.close()


def is_ready(port: int) -> bool:
    """Whether the service takes commands."""
    try:
        return get(port, "/v1/health/ready")["status"] == "ready"
    except (OSError, UnexpectedAnswer):
        return False


def has_worker(port: int) -> bool:
    """Whether a worker is connected."""
    workers = get(port, "/v1/workers")["workers"]
    assert isinstance(workers, list)
    return any(worker["is_connected"] for worker in workers)


def until(condition: Callable[[], T], within_s: float, what: str, every_s: float = 0.01) -> T:
    """What `condition` gives, as soon as it gives anything true."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every_s)
    raise TimeoutError(f"waited {within_s:g} s for {what}")
