"""What can happen to a webhook: an endpoint that is told of jobs, and each delivery to it. Stream: `webhook/<id>`.

Address and signing secret are secrets (an address often carries a token): they stand in the record's private part,
a `WebhookSecrets`, never in these structs.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from events.event import Event
from events.jobs import JobEvent

KINDS: tuple[str, ...] = tuple(str(kind.__struct_config__.tag) for kind in JobEvent.__args__)
"""The event types that a webhook can ask for."""

ENDS = ("job-completed", "job-failed", "job-cancelled", "job-expired")
"""How a job ends: what a webhook is told unless it asks for something else, and all that a callback is told."""

CALLBACK = "callback"
"""Id of the built-in webhook without an address, whose secret signs what goes to a job's own callback."""

DisableReason = Literal["asked", "gone"]
"""Why a webhook is told nothing any more: somebody said so, or its endpoint answered 410 Gone."""


class WebhookSecrets(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The private part of a record about a webhook; what the event does not change is absent."""

    url: str | None = None
    secret: str | None = None  # whsec_ and 32 bytes in base64


class CallbackAsked(Event, frozen=True, kw_only=True):
    """Who submitted a job or a batch wants `origin` told how it ends; the address is private. Since 0.1.

    Stream: `callback/<job or batch id>`.
    """

    origin: str  # scheme, host and port


class WebhookCreated(Event, frozen=True, kw_only=True):
    """An admin wants `origin` told of these event types, of these queues (none: of all). Since 0.1."""

    webhook: str
    origin: str  # scheme, host and port; "" for the built-in one
    events: tuple[str, ...]
    queues: tuple[str, ...] = ()


class WebhookChanged(Event, frozen=True, kw_only=True):
    """An admin gave the webhook another address or filter; nothing of the old one stays. Since 0.1."""

    webhook: str
    origin: str
    events: tuple[str, ...]
    queues: tuple[str, ...] = ()


class WebhookSecretRotated(Event, frozen=True, kw_only=True):
    """The webhook has a new secret; for a day the one before signs as well. Since 0.1."""

    webhook: str


class WebhookDisabled(Event, frozen=True, kw_only=True):
    """The webhook is told nothing until it is enabled; what was not delivered yet is dropped. Since 0.1."""

    webhook: str
    reason: DisableReason


class WebhookEnabled(Event, frozen=True, kw_only=True):
    """The webhook is told again, of what happens from now on. Since 0.1."""

    webhook: str


class WebhookRemoved(Event, frozen=True, kw_only=True):
    """The webhook is gone, with what was not delivered yet. Since 0.1."""

    webhook: str


class WebhookPinged(Event, frozen=True, kw_only=True):
    """An admin wants a test message sent, once. Since 0.1."""

    webhook: str


class WebhookRedeliveryRequested(Event, frozen=True, kw_only=True):
    """An admin wants a delivery sent again, whatever became of it: its next round begins. Since 0.1."""

    webhook: str
    delivery: str


class WebhookDelivered(Event, frozen=True, kw_only=True):
    """The endpoint took the delivery, in this round of it, after so many attempts in all. Since 0.1."""

    webhook: str
    delivery: str
    round: int
    attempts: int


class WebhookGaveUp(Event, frozen=True, kw_only=True):
    """The delivery was not taken in this round of it and is not tried again by itself. Since 0.1."""

    webhook: str
    delivery: str
    round: int
    attempts: int


WebhookEvent = (
    CallbackAsked
    | WebhookCreated
    | WebhookChanged
    | WebhookSecretRotated
    | WebhookDisabled
    | WebhookEnabled
    | WebhookRemoved
    | WebhookPinged
    | WebhookRedeliveryRequested
    | WebhookDelivered
    | WebhookGaveUp
)
