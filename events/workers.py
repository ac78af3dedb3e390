"""What can happen to a worker. Stream: `worker/<name>`."""

from __future__ import annotations

from typing import Literal

import msgspec

from events.event import Event

LossReason = Literal["lease-expired", "disconnected", "replaced"]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One compute device as its driver names it; `memory_bytes` is 0 where the driver does not tell."""

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    memory_bytes: int = 0


class WorkerRegistered(Event, frozen=True, kw_only=True):
    """A worker process said hello; an older boot of the same name is fenced from here on. Since 0.1.

    `models` maps a task to the ids of the models this worker can run it with.
    """

    worker: str
    boot: str
    models: dict[str, tuple[str, ...]]
    device: Device
    slots: int
    versions: dict[str, str]


class WorkerLost(Event, frozen=True, kw_only=True):
    """The worker's process is gone, or silent for longer than its lease. Since 0.1."""

    worker: str
    boot: str
    reason: LossReason


class WorkerQuarantined(Event, frozen=True, kw_only=True):
    """The worker failed too many different jobs in a row and gets no more until an operator releases it; the jobs
    are kept. It holds for the name, whatever process has it. Since 0.1."""

    worker: str
    jobs: tuple[str, ...]  # those it failed, oldest first
    why: str


class WorkerReleased(Event, frozen=True, kw_only=True):
    """An operator lets a quarantined worker have jobs again. Since 0.1."""

    worker: str


WorkerEvent = WorkerRegistered | WorkerLost | WorkerQuarantined | WorkerReleased
