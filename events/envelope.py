"""The recorded event: what the log keeps of a fact, its encoding, and the registry of types.

The bytes a record is hashed over are fixed here: they are the leaves of an RFC 6962 Merkle tree,
so that proofs can be added without touching the table.
"""

from __future__ import annotations

import hashlib
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from events.batches import BatchEvent
from events.event import Event
from events.jobs import JobEvent
from events.keys import KeyEvent
from events.queues import QueueEvent
from events.upcasters import upcast
from events.webhooks import WebhookEvent
from events.workers import WorkerEvent

AnyEvent = JobEvent | QueueEvent | WorkerEvent | KeyEvent | BatchEvent | WebhookEvent

TYPES: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in AnyEvent.__args__}
"""Every event type by its name in the log."""

_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(reduce(or_, TYPES.values()))
_ENCODER = msgspec.json.Encoder(order="deterministic")

SALT_BYTES = 16


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event a decision wants recorded. `private` is the encoded part that may be erased later.

    `event_id` is given only by a caller that may append the same fact twice: the second append then
    records nothing and yields the first record. `begins` says that the stream has no record yet, which saves
    looking for one; where it has one after all, nothing of the commit is kept.
    """

    stream: str
    event: AnyEvent
    private: bytes | None = None
    event_id: str | None = None
    begins: bool = False


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the log holds it.

    `position` counts the whole log from 1 without gaps, `version` its stream from 0. `at_us` is UTC in
    microseconds and never falls along the log. `actor` asked for it, `cause` is the request it came from.
    `private` is None when there was none or it has been erased; `private_digest` then still commits to it.
    """

    position: int
    stream: str
    version: int
    event_id: str
    at_us: int
    actor: str
    cause: str
    event: AnyEvent
    private: bytes | None = None
    private_digest: bytes | None = None

    @property
    def category(self) -> str:
        """The kind of stream: `job` of `job/<id>`."""
        return self.stream.partition("/")[0]

    @property
    def subject(self) -> str:
        """The thing the stream is about: `<id>` of `job/<id>`."""
        return self.stream.partition("/")[2]


def encode(event: AnyEvent) -> bytes:
    """The event as JSON, fields in declared order and dict keys sorted: equal events have equal bytes."""
    return _ENCODER.encode(event)


def decode(type_name: str, schema: int, data: bytes) -> AnyEvent:
    """The event of stored JSON, brought to today's shape first when its schema version is older.

    Raises msgspec.ValidationError when the bytes are no event of a known type.
    """
    known = TYPES.get(type_name)
    if known is not None and schema != known.SCHEMA:
        return msgspec.convert(upcast(type_name, schema, known.SCHEMA, msgspec.json.decode(data)), known)  # type: ignore[return-value]
    return _DECODER.decode(data)  # type: ignore[no-any-return]


def private_digest(salt: bytes, body: bytes) -> bytes:
    """SHA-256 over salt and body: what the log keeps of a private part when the part itself is erased."""
    return hashlib.sha256(salt + body).digest()


def leaf_hash(
    position: int,
    stream: str,
    version: int,
    event_id: str,
    type_name: str,
    schema: int,
    at_us: int,
    actor: str,
    cause: str,
    data: bytes,
    private: bytes | None,
) -> bytes:
    """RFC 6962 leaf: SHA-256(0x00 || entry), the entry being a JSON array of the record's columns in this order.

    `private` is the digest of the private part, never the part: a leaf survives an erasure.
    """
    head = (position, stream, version, event_id, type_name, schema, at_us, actor, cause)
    entry = _ENCODER.encode((*head, msgspec.Raw(data), private.hex() if private else None))
    return hashlib.sha256(b"\x00" + entry).digest()
