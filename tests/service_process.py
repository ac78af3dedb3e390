"""A real `safelight serve` in a process of its own, for the tests that need the whole thing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S = 60.0


class ServiceProcess:
    """A running service: its address, its data folder, and ways to end it."""

    def __init__(self, data: Path, *arguments: str, port: int = 0) -> None:
        """Start it and wait until it answers; `arguments` go to `safelight serve`."""
        self.data = data
        data.parent.mkdir(parents=True, exist_ok=True)
        self.log_file = data.parent / f"{data.name}.log"
        self._arguments = arguments
        self._start(port)

    def _start(self, port: int) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web.cli", "serve", "--data", str(self.data), "--port", str(port),
                 *self._arguments],
                stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        self.url = wait_for(self._address, START_S, "the service to say its address", self.log)
        wait_for(self._is_ready, START_S, "the service to be ready", self.log)

    def log(self) -> str:
        """What the service and its workers have printed."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def stop(self) -> int:
        """End it in order; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it the hard way."""
        self.process.kill()
        self.process.wait(10)

    def restart(self) -> None:
        """Start it again on the same data and port."""
        port = int(self.url.rsplit(":", 1)[1])
        self.log_file.unlink()
        self._start(port)

    def _address(self) -> str | None:
        if self.process.poll() is not None:
            raise AssertionError(f"the service ended with code {self.process.returncode}:\n{self.log()}")
        found = re.search(r"serves (http://\S+)", self.log())
        return found[1] if found else None

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v1/health/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running_service(folder: Path, *arguments: str) -> Iterator[ServiceProcess]:
    """A service with its data in `folder`, ended with the block."""
    service = ServiceProcess(folder / "data", *arguments)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()


def wait_for(condition, within_s: float, what: str, log=lambda: ""):  # type: ignore[no-untyped-def]
    """What `condition` gives, as soon as it gives anything true. Fails after `within_s` seconds, with the log."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {within_s:g} s for {what}\n{log()[-6000:]}")
