"""What can happen to an API key. Stream: `key/<id>`. The secret is never in the log, only its SHA-256."""

from __future__ import annotations

from typing import Literal

from events.event import Event

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


KeyEvent = KeyCreated | KeyRevoked
