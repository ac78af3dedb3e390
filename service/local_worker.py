"""The workers that the service starts itself, one a device: started with it, restarted when they die.

Each is told to end with its parent: its standard input is a pipe that closes when this process is gone,
however it went.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

RESTART_S = (0.2, 10.0)  # first and longest pause before a dead worker is started again
STEADY_S = 30.0  # a worker that lived this long begins again with the short pause
STOP_S = 15.0  # after SIGTERM a worker has its own 10 s to hand back what runs

# Asked in a process of its own: initialising a GPU driver leaves threads and open devices behind.
_ASK_DEVICES = (
    "from service.worker import devices, models; print(*devices.labels(models.versions().get('torch', '')))"
)

logger = logging.getLogger("safelight.local_worker")


async def devices_here() -> list[str]:
    """The devices that get a worker each: every GPU of this machine, else the CPU; `auto` if none can be told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ASK_DEVICES, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return said.decode().split() or ["auto"]


class LocalWorkers:
    """The workers of this machine: one a device."""

    def __init__(
        self, devices: Sequence[str], *, server: str, key_file: Path, spools: Path, options: Sequence[str]
    ) -> None:
        """`devices` may hold `auto` (devices_here). Each worker has its own folder in `spools`."""
        self._devices = devices
        self._server = server
        self._key_file = key_file
        self._spools = spools
        self._options = options
        self._workers: list[LocalWorker] = []
        self._starting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the processes start in the background, because finding the devices takes a moment."""
        self._starting = asyncio.create_task(self._start())

    async def stop(self) -> None:
        """Let every worker hand back what it runs, and end it."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    async def _start(self) -> None:
        found = [
            one for device in self._devices for one in (await devices_here() if device == "auto" else [device])
        ]
        for number, device in enumerate(found):
            worker = LocalWorker(
                name=f"{socket.gethostname()}-{number}",
                server=self._server,
                key_file=self._key_file,
                spool=self._spools / str(number),
                options=["--device", device, *self._options],
            )
            self._workers.append(worker)
            worker.start()


class LocalWorker:
    """One agent process under supervision."""

    def __init__(self, *, name: str, server: str, key_file: Path, spool: Path, options: Sequence[str]) -> None:
        """`options` are further arguments of `safelight worker`."""
        self._name = name
        self._arguments = [
            "--server", server, "--key-file", str(key_file), "--name", name, "--spool", str(spool),
            "--with-parent", *options,
        ]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Begin supervising; the process starts in the background."""
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Let the worker hand back what it runs, and end it."""
        self._is_stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ends(self) -> bool:
        return self._is_stopping

    async def _supervise(self) -> None:
        shortest, longest = RESTART_S
        pause = shortest
        while not self._ends():
            started_at = asyncio.get_running_loop().time()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "service.worker.cli", *self._arguments,
                stdin=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            code = await self._process.wait()
            if self._ends():
                return
            if asyncio.get_running_loop().time() - started_at > STEADY_S:
                pause = shortest
            logger.warning("worker %s ended with code %d; starting it again in %.1f s", self._name, code, pause)
            await asyncio.sleep(pause)
            pause = min(longest, pause * 2)
