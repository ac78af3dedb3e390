"""One attempt in the agent's hands, and the last message it may end with. Numbers are given by the journal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import msgspec

from service import protocol as say
from service.worker import frames
from service.worker.journal import Result


class Held(msgspec.Struct, kw_only=True, eq=False):
    """One attempt in hand.

    It is fetching (its pictures are being downloaded), computing in the child, writing (still in the child, the
    device is free again), delivering (its files are being uploaded), or reported (its last message waits for the
    acknowledgement). Of an unwanted one nothing is reported any more; it is only waited for until the child has
    let go.
    """

    job: str
    attempt: int
    token: int
    stage: Literal["fetching", "computing", "writing", "delivering", "reported"]
    step: int = 0
    step_s: float = 0.0
    is_wanted: bool = True
    timer: asyncio.TimerHandle | None = None
    transfer: asyncio.Task[None] | None = None  # what fetches its pictures, or delivers its files
    inputs: dict[str, Path] = {}  # its pictures on this machine, by param
    begun: frames.Begin | None = None  # as the child was told
    bytes_kept: int = 0  # of its tape, when a child died last
    was_alone: bool = False  # in the child that died last

    @property
    def is_in_child(self) -> bool:
        """Whether the child still works on it."""
        return self.stage in ("computing", "writing")


def completed(held: Held, result: Result) -> say.Completed:
    """The attempt delivered `result`."""
    artifacts = tuple(msgspec.convert(file, say.Artifact, from_attributes=True) for file in result.files)
    return say.Completed(
        number=0,
        job=held.job,
        attempt=held.attempt,
        token=held.token,
        artifacts=artifacts,
        facts=result.facts,
    )


def failed(held: Held, kind: str, message: str, detail: str | None = None) -> say.Failed:
    """The attempt failed; `kind` is one of events.jobs.ErrorKind."""
    return say.Failed(
        number=0,
        job=held.job,
        attempt=held.attempt,
        token=held.token,
        kind=kind,
        message=message,
        detail=detail,
    )


def stopped(held: Held) -> say.Stopped:
    """The attempt stopped where it stands."""
    return say.Stopped(number=0, job=held.job, attempt=held.attempt, token=held.token, step=held.step)
