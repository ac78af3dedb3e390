"""A log in memory that runs the real decisions: for tests of what is decided and folded, not of how it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from events.envelope import Draft, Record, decode, encode
from events.workers import Device
from projections.live import LiveState
from service import commands as ask
from service.decisions.decide import decide
from service.protocol import LEASE_S
from service.tasks.catalog import EMBEDDED, Catalog

CPU = Device(kind="cpu", name="test")
PRETEND = {"pretend": ("pretend",)}


class History:
    """Records so far, and live state folded from them. Has what events.log.Log offers a reader."""

    log_id = "history"

    def __init__(self, catalog: Catalog = EMBEDDED) -> None:
        self.catalog = catalog
        self.records: list[Record] = []
        self._streams: dict[str, list[Record]] = {}
        self.state = LiveState()
        self.at_us = 1_000_000

    # asking

    def ask(self, command: ask.Command) -> list[Record]:
        """Decide and append, one second after the command before."""
        self.at_us += 1_000_000
        return self.append(decide(self, command, self.catalog))

    def append(self, drafts: Sequence[Draft]) -> list[Record]:
        """Record events as they are."""
        appended = [self._append(draft) for draft in drafts]
        return appended

    def _append(self, draft: Draft) -> Record:
        record = Record(
            position=len(self.records) + 1,
            stream=draft.stream,
            version=len(self.stream(draft.stream)),
            event_id=f"e{len(self.records) + 1}",
            at_us=self.at_us,
            actor="tester",
            cause="test",
            event=draft.event,
            private=draft.private,
        )
        self.records.append(record)
        self._streams.setdefault(draft.stream, []).append(record)
        self.state.apply(record)
        return record

    # the transaction that decide() sees, and the log that views read

    def stream(self, name: str) -> list[Record]:
        return self._streams.get(name, [])

    def read_stream(self, name: str) -> list[Record]:
        return [_stored(record) for record in self.stream(name)]

    def head(self) -> int:
        return len(self.records)

    def read(self, after: int, limit: int) -> list[Record]:
        """As an engine gives them: decoded from what was stored, not the objects that were appended."""
        return [_stored(record) for record in self.records[after : after + limit]]

    def leaf(self, position: int) -> bytes | None:
        if not 0 < position <= len(self.records):
            return None
        return hashlib.sha256(encode(self.records[position - 1].event)).digest()

    # short ways to say common things

    def wait(self, seconds: float) -> list[Record]:
        """Let time pass, and do what it has brought."""
        self.at_us += round(seconds * 1e6)
        return self.ask(ask.Sweep(limit=1_000))

    def with_queue(self, name: str = "default") -> History:
        self.ask(ask.CreateQueue(queue=name))
        return self

    def with_worker(self, name: str = "w", boot: str = "b1", held: tuple[ask.HeldAttempt, ...] = ()) -> History:
        self.ask(register(name, boot, held))
        return self

    def submit(self, job: str = "j", **fields: Any) -> list[Record]:
        return self.ask(submission(job, **fields))

    def lease(self, job: str = "j", worker: str = "w", boot: str = "b1") -> Held:
        (record,) = self.ask(ask.LeaseJob(job=job, worker=worker, boot=boot, lease_s=LEASE_S))
        return Held(job, self.state.jobs[job].attempt, record.position)


def _stored(record: Record) -> Record:
    event = record.event
    return msgspec.structs.replace(record, event=decode(event.type, event.SCHEMA, encode(event)))


class Held:
    """The words of a lease, for reports about it."""

    def __init__(self, job: str, attempt: int, token: int) -> None:
        self.job, self.attempt, self.token = job, attempt, token

    def words(self) -> dict[str, Any]:
        return {"job": self.job, "attempt": self.attempt, "token": self.token}


def submission(job: str = "j", **fields: Any) -> ask.SubmitJob:
    """A submission of a pretend job unless `fields` say otherwise."""
    defaults: dict[str, Any] = {"submitter": "ann", "seed": 7, "params": {}, "task": "pretend"}
    return ask.SubmitJob(job=job, **{**defaults, **fields})


def register(
    name: str = "w",
    boot: str = "b1",
    held: tuple[ask.HeldAttempt, ...] = (),
    models: dict[str, tuple[str, ...]] = PRETEND,
) -> ask.RegisterWorker:
    """A hello of a worker that can pretend."""
    return ask.RegisterWorker(
        worker=name, boot=boot, models=models, device=CPU, slots=1, versions={}, held=held, lease_s=LEASE_S
    )
