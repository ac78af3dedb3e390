"""What is to be delivered to webhooks, folded from the log: one row a delivery, and how each attempt went.

The rows stand in a file of their own (`outbox.db`) with its own position in the log, so that a delivery is owed
from the instant its event is durable, whoever is killed then. What the log says (that a delivery is owed, that it
ended) is folded here; when to try next and how attempts went is kept beside it by service/webhooks/outbox.py and is
not in the log: a file that is built anew tries what is still owed at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import apsw
import msgspec

from events.envelope import Record
from events.jobs import JobSubmitted
from events.webhooks import (
    CALLBACK,
    ENDS,
    WebhookChanged,
    WebhookCreated,
    WebhookDelivered,
    WebhookDisabled,
    WebhookEnabled,
    WebhookGaveUp,
    WebhookPinged,
    WebhookRedeliveryRequested,
    WebhookRemoved,
    WebhookSecretRotated,
)
from projections.webhooks import secrets_of

ROTATION_US = 24 * 3600 * 1_000_000
"""How long a secret that was replaced signs beside the new one."""

_ENDPOINTS = "SELECT body FROM endpoints"
_KEEP_ENDPOINT = "INSERT OR REPLACE INTO endpoints VALUES (?, ?)"
_REMOVE = (
    "DELETE FROM attempts WHERE delivery IN (SELECT id FROM deliveries WHERE endpoint = ?)",
    "DELETE FROM deliveries WHERE endpoint = ?",
    "DELETE FROM endpoints WHERE id = ?",
)
_KEEP_CALLBACK = "INSERT OR REPLACE INTO callbacks VALUES (?, ?)"
_CALLBACK = "SELECT url FROM callbacks WHERE job = ?"
_OWE = (
    "INSERT OR IGNORE INTO deliveries "
    "(id, endpoint, lane, url, type, stream, version, position, made_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DROP = "UPDATE deliveries SET outcome = 'dropped' WHERE endpoint = ? AND outcome IS NULL"
_AGAIN = (
    "UPDATE deliveries SET round = round + 1, tries = 0, first_at_us = NULL, next_at_us = 0, outcome = NULL, "
    "to_tell = NULL WHERE id = ? AND endpoint = ?"
)
_SETTLE = "UPDATE deliveries SET outcome = ?, to_tell = NULL WHERE id = ? AND round = ?"


class Secret(msgspec.Struct, frozen=True):
    """What signs, up to `until_us` (UTC microseconds) when it was replaced."""

    text: str
    until_us: int | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """Where a webhook's deliveries go, which ones there are, and what signs them."""

    id: str
    url: str
    events: tuple[str, ...]
    queues: tuple[str, ...]
    is_enabled: bool
    secrets: tuple[Secret, ...]

    def secrets_at(self, now_us: int) -> list[str]:
        """The secrets that sign at an instant, the newest first."""
        return [s.text for s in self.secrets if s.until_us is None or now_us < s.until_us]


class OutboxProjection:
    """Folds jobs and webhooks into what is owed to whom."""

    name = "outbox"
    version = 1
    schema = """
        CREATE TABLE endpoints (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;  -- Endpoint as JSON
        CREATE TABLE callbacks (job TEXT PRIMARY KEY, url TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE deliveries (
            id TEXT PRIMARY KEY,            -- the webhook-id header: the same over attempts, rounds and rebuilds
            endpoint TEXT NOT NULL,
            lane TEXT NOT NULL,             -- what is slow together: an endpoint, or the host of callbacks
            url TEXT,                       -- of a callback; NULL for that of the endpoint
            type TEXT NOT NULL,
            stream TEXT NOT NULL, version INTEGER NOT NULL,  -- the record that it tells of
            position INTEGER NOT NULL,
            made_at_us INTEGER NOT NULL,
            round INTEGER NOT NULL DEFAULT 1,     -- a redelivery begins the next one
            tries INTEGER NOT NULL DEFAULT 0,     -- attempts in this round
            attempts INTEGER NOT NULL DEFAULT 0,  -- in all
            first_at_us INTEGER,                  -- first attempt of this round
            next_at_us INTEGER NOT NULL DEFAULT 0,  -- 0: at once, whatever the clock says
            outcome TEXT,                   -- delivered, gave-up, dropped; NULL while it is owed
            to_tell TEXT                    -- an outcome that the log does not have yet
        );
        CREATE TABLE attempts (
            delivery TEXT NOT NULL, attempt INTEGER NOT NULL,
            at_us INTEGER NOT NULL, duration_ms INTEGER NOT NULL, status INTEGER, error TEXT,
            PRIMARY KEY (delivery, attempt)
        ) WITHOUT ROWID;
    """
    indexes = """
        CREATE INDEX deliveries_due ON deliveries (lane, next_at_us, position) WHERE outcome IS NULL;
        CREATE INDEX deliveries_endpoint ON deliveries (endpoint, position);
        CREATE INDEX deliveries_to_tell ON deliveries (position) WHERE to_tell IS NOT NULL;
        CREATE INDEX deliveries_made ON deliveries (made_at_us);
    """

    def __init__(
        self, queue_of: Callable[[Record], str], callback_of: Callable[[Record, JobSubmitted], str | None]
    ) -> None:
        """`queue_of` gives the queue that a job's record finds it in; it is asked only where a filter needs it.

        `callback_of` gives the URL that a submission wants told of the job's end, None for none.
        """
        self._queue_of = queue_of
        self._callback_of = callback_of
        self._endpoints: dict[str, Endpoint] | None = None

    def apply(self, connection: apsw.Connection, records: Sequence[Record]) -> None:
        """Fold records: what is owed by them, and what they say became of a delivery."""
        for record in records:
            if record.category == "job":
                self._fold_job(connection, record)
            elif record.category == "webhook":
                self._fold_webhook(connection, record)

    def forget(self) -> None:
        """Drop the cached endpoints."""
        self._endpoints = None

    def endpoints(self, connection: apsw.Connection) -> dict[str, Endpoint]:
        """Every webhook by its id, the built-in one too."""
        if self._endpoints is None:
            found = [_decoder.decode(body) for (body,) in connection.execute(_ENDPOINTS)]
            self._endpoints = {endpoint.id: endpoint for endpoint in found}
        return self._endpoints

    def _fold_job(self, connection: apsw.Connection, record: Record) -> None:
        kind = record.event.type
        for endpoint in self.endpoints(connection).values():
            if endpoint.is_enabled and kind in endpoint.events and self._is_of_queue(endpoint, record):
                _owe(connection, record, endpoint.id)
        if isinstance(record.event, JobSubmitted):
            url = self._callback_of(record, record.event)
            if url is not None:
                connection.execute(_KEEP_CALLBACK, (record.subject, url))
        elif kind in ENDS:
            row = connection.execute(_CALLBACK, (record.subject,)).fetchone()
            if row is not None:
                _owe(connection, record, CALLBACK, row[0])

    def _is_of_queue(self, endpoint: Endpoint, record: Record) -> bool:
        return not endpoint.queues or self._queue_of(record) in endpoint.queues

    def _fold_webhook(self, connection: apsw.Connection, record: Record) -> None:
        event, webhook = record.event, record.subject
        match event:
            case WebhookRemoved():
                for statement in _REMOVE:
                    connection.execute(statement, (webhook,))
                self.endpoints(connection).pop(webhook, None)
            case WebhookPinged():
                _owe(connection, record, webhook)
            case WebhookRedeliveryRequested(delivery=delivery):
                connection.execute(_AGAIN, (delivery, webhook))
            case WebhookDelivered() | WebhookGaveUp():
                outcome = "delivered" if isinstance(event, WebhookDelivered) else "gave-up"
                connection.execute(_SETTLE, (outcome, event.delivery, event.round))
            case _:
                endpoint = fold_endpoint(self.endpoints(connection).get(webhook), record)
                connection.execute(_KEEP_ENDPOINT, (webhook, msgspec.json.encode(endpoint)))
                self.endpoints(connection)[webhook] = endpoint
                if isinstance(event, WebhookDisabled):
                    connection.execute(_DROP, (webhook,))


_decoder = msgspec.json.Decoder(Endpoint)


def fold_endpoint(endpoint: Endpoint | None, record: Record) -> Endpoint:
    """The endpoint after one more record that made or changed it."""
    event, said = record.event, secrets_of(record)
    if isinstance(event, WebhookCreated):
        return Endpoint(
            event.webhook, said.url or "", event.events, event.queues, True, (Secret(said.secret or ""),)
        )
    assert endpoint is not None, f"{event.type} at {record.position} of a webhook that was never made"
    match event:
        case WebhookChanged(events=events, queues=queues):
            return msgspec.structs.replace(endpoint, url=said.url or "", events=events, queues=queues)
        case WebhookSecretRotated():
            before = Secret(endpoint.secrets[0].text, record.at_us + ROTATION_US)
            return msgspec.structs.replace(endpoint, secrets=(Secret(said.secret or ""), before))
        case WebhookDisabled():
            return msgspec.structs.replace(endpoint, is_enabled=False)
        case WebhookEnabled():
            return msgspec.structs.replace(endpoint, is_enabled=True)
    raise AssertionError(f"no fold for {event.type}")


def delivery_id(endpoint: str, event_id: str) -> str:
    """The webhook-id of what an event owes an endpoint: the same whenever and by whomever it is worked out."""
    return f"msg_{hashlib.sha256(f'{endpoint}.{event_id}'.encode()).hexdigest()[:32]}"


def _owe(connection: apsw.Connection, record: Record, endpoint: str, url: str | None = None) -> None:
    # Cut, not parsed: whatever stands in the log must not stop the fold.
    lane = endpoint if url is None else f"{endpoint} {url.partition('://')[2].partition('/')[0]}"
    connection.execute(
        _OWE,
        (
            delivery_id(endpoint, record.event_id), endpoint, lane, url, record.event.type, record.stream,
            record.version, record.position, record.at_us,
        ),
    )  # fmt: skip
