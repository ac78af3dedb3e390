"""What can happen to an API key. Stream: `key/<id>`. The secret is never in the log, only its SHA-256."""

from __future__ import annotations

from typing import Literal

import msgspec

from events.event import Event


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the jobs of a key get. None is no bound."""

    weight: float = 1.0  # share of GPU time in a fair queue, against the other submitters there
    max_waiting: int | None = None  # jobs, over all queues
    max_running: int | None = None  # jobs, over all queues: more wait without holding up the line
    jobs_per_minute: int | None = None


Scope = Literal["viewer", "submitter", "operator", "admin", "worker"]


class KeyCreated(Event, frozen=True, kw_only=True):
    """An admin, or the first start, made a key. Since 0.1."""

    key: str
    name: str
    scopes: tuple[Scope, ...]
    secret_digest: str  # hex SHA-256 of a 256-bit random secret: a fast hash is right for it


class KeyRevoked(Event, frozen=True, kw_only=True):
    """The key opens nothing any more. Since 0.1."""

    key: str


class KeyLimited(Event, frozen=True, kw_only=True):
    """An admin said how much the key may ask for: all of its limits, as they are now. Since 0.1."""

    key: str
    limits: Limits


KeyEvent = KeyCreated | KeyRevoked | KeyLimited
