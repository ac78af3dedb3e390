"""The GPU child as the agent sees it: starting it, its frames, ending it, and how it ended in words."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from typing import Protocol

from service.worker.frames import FromChild, Setup, ToChild, next_from_child, packed


class Child(Protocol):
    """What the desk needs of a child process."""

    def send(self, frame: ToChild) -> None:
        """Hand a frame to the child."""

    def kill(self) -> None:
        """End the child at once."""


class ChildProcess:
    """A running child. Ends with its agent: it sees the pair close, and the kernel tells it on Linux."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, setup: Setup) -> ChildProcess:
        """Start a child; what it prints goes to this process's stderr."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service.worker.child", str(theirs.fileno())),
                stdin=DEVNULL,
                stdout=sys.stderr.fileno(),
                stderr=sys.stderr.fileno(),
                pass_fds=(theirs.fileno(),),
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        child = cls(process, reader, writer)
        child.send(setup)
        return child

    def send(self, frame: ToChild) -> None:
        """Hand a frame to the child; lost when it is gone."""
        if not self._writer.is_closing():
            self._writer.write(packed(frame))

    async def frames(self) -> AsyncIterator[FromChild]:
        """What the child says, until its end of the pair closes."""
        while (frame := await next_from_child(self._reader)) is not None:
            yield frame

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process.returncode is None:
            self._process.kill()

    async def end(self) -> str:
        """Wait until the process is gone; gives how it ended."""
        self._writer.close()
        return death(await self._process.wait())


def death(returncode: int) -> str:
    """How a process ended, for a failure's message: the signal's number and name, or the exit code."""
    if returncode >= 0:
        return f"the process running the job ended with exit code {returncode}"
    name = signal.Signals(-returncode).name if -returncode in signal.valid_signals() else "unknown"
    return f"the process running the job was killed by signal {-returncode} ({name})"
