"""The worker view: every worker ever registered, its newest process, and whether it was lost."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from events.envelope import Record
from events.workers import Device, WorkerLost, WorkerQuarantined, WorkerRegistered, WorkerReleased

_PUT = "INSERT OR REPLACE INTO workers (name, body) VALUES (?, ?)"
_ONE = "SELECT body FROM workers WHERE name = ?"
_ALL = "SELECT body FROM workers ORDER BY name"


class WorkerView(msgspec.Struct, kw_only=True):
    """What a reader is shown of a worker; `lost` tells why it is gone, None while it is not."""

    name: str
    boot: str
    models: dict[str, tuple[str, ...]]
    device: Device
    slots: int
    versions: dict[str, str]
    registered_at_us: int
    lost: str | None = None
    lost_at_us: int | None = None
    quarantine: str | None = None  # why it gets no jobs


_decoder = msgspec.json.Decoder(WorkerView)


class WorkersProjection:
    """Folds worker streams into `workers`."""

    name = "workers"
    version = 2
    schema = "CREATE TABLE workers (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;"
    indexes = ""

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold the worker records among `records`."""
        for record in records:
            match record.event:
                case WorkerRegistered() as said:
                    before = _find(connection, said.worker)
                    view = _registered(said, record.at_us)
                    view.quarantine = before.quarantine if before is not None else None
                    _put(connection, view)
                case WorkerLost(worker=name, boot=boot, reason=reason):
                    view = _view(connection, name)
                    if view.boot == boot:
                        view.lost, view.lost_at_us = reason, record.at_us
                        _put(connection, view)
                case WorkerQuarantined(worker=name, why=why):
                    view = _view(connection, name)
                    view.quarantine = why
                    _put(connection, view)
                case WorkerReleased(worker=name):
                    view = _view(connection, name)
                    view.quarantine = None
                    _put(connection, view)

    def forget(self) -> None:
        """Nothing is cached."""


def all_workers(connection: apsw.Connection) -> list[WorkerView]:
    """Every worker by name."""
    return [_decoder.decode(body) for (body,) in connection.execute(_ALL)]


def _find(connection: apsw.Connection, name: str) -> WorkerView | None:
    row = connection.execute(_ONE, (name,)).fetchone()
    return _decoder.decode(row[0]) if row else None


def _view(connection: apsw.Connection, name: str) -> WorkerView:
    view = _find(connection, name)
    assert view is not None, f"worker {name} never registered"
    return view


def _registered(said: WorkerRegistered, at_us: int) -> WorkerView:
    return WorkerView(
        name=said.worker,
        boot=said.boot,
        models=said.models,
        device=said.device,
        slots=said.slots,
        versions=said.versions,
        registered_at_us=at_us,
    )


def _put(connection: apsw.Connection, view: WorkerView) -> None:
    connection.execute(_PUT, (view.name, msgspec.json.encode(view, order="deterministic")))
