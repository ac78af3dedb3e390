"""Webhooks as decisions see them, folded from their streams into live state. Their secrets are not here."""

from __future__ import annotations

import msgspec

from events.envelope import Record
from events.webhooks import (
    DisableReason,
    WebhookChanged,
    WebhookCreated,
    WebhookDisabled,
    WebhookEnabled,
    WebhookRemoved,
    WebhookSecrets,
)


class LiveWebhook(msgspec.Struct):
    """An endpoint that was not removed. `disabled` tells why it is told nothing, None while it is."""

    id: str
    url: str
    events: tuple[str, ...]
    queues: tuple[str, ...]
    created_at_us: int
    disabled: DisableReason | None = None


def fold_webhook(webhooks: dict[str, LiveWebhook], record: Record) -> None:
    """Take one more record of a webhook into `webhooks`."""
    match record.event:
        case WebhookCreated() as made:
            url = secrets_of(record).url or ""
            webhooks[made.webhook] = LiveWebhook(made.webhook, url, made.events, made.queues, record.at_us)
        case WebhookChanged() as changed:
            webhook = webhooks[changed.webhook]
            webhook.url = secrets_of(record).url or ""
            webhook.events, webhook.queues = changed.events, changed.queues
        case WebhookDisabled(webhook=name, reason=reason):
            webhooks[name].disabled = reason
        case WebhookEnabled(webhook=name):
            webhooks[name].disabled = None
        case WebhookRemoved(webhook=name):
            del webhooks[name]


def secrets_of(record: Record) -> WebhookSecrets:
    """The private part of a record about a webhook; an erased one has nothing."""
    return msgspec.json.decode(record.private or b"{}", type=WebhookSecrets)
