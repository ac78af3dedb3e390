"""A scripted service, and worker processes that end with the test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.service.worker.peer import Peer

ROOT = Path(__file__).parents[3]


class Worker:
    """A real `worker` process."""

    def __init__(self, url: str, spool: Path, *options: str) -> None:
        self.log = spool.with_suffix(".log")
        self._output = self.log.open("a")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "service.worker.cli"),
                *("--server", url, "--spool", str(spool), "--key", "test-key", *options),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
        )

    @property
    def words(self) -> str:
        """What it has logged."""
        return self.log.read_text()

    def child(self) -> psutil.Process:
        """The GPU child."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(10)
        self._output.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


StartWorker = Callable[..., Worker]


@pytest.fixture
def start_worker(peer: Peer, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a worker for `peer` that offers only pretend jobs, unless options say otherwise."""
    workers: list[Worker] = []

    def start(*options: str, url: str = peer.url, spool: Path = tmp_path / "spool") -> Worker:
        workers.append(Worker(url, spool, *(options or ("--model", "pretend"))))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()
