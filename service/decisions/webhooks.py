"""What becomes of a wish about a webhook, and of a delivery that has ended."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from events.envelope import AnyEvent, Draft
from events.webhooks import (
    CALLBACK,
    KINDS,
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
    WebhookSecrets,
)
from projections.live import LiveState
from projections.webhooks import LiveWebhook
from service import commands as ask
from service.refusals import BuiltInWebhook, InvalidField, TooManyWebhooks, UnknownWebhook
from service.webhooks.address import BadUrl, parse_url

MAX_WEBHOOKS = 50
"""Each is matched with every event of a job, and may have four requests on their way."""


def create_webhook(state: LiveState, command: ask.CreateWebhook) -> list[Draft]:
    """The webhook; nothing when it exists. Refuses an unknown event type or queue, and one too many."""
    if command.webhook in state.webhooks:
        return []
    if len(state.webhooks) > MAX_WEBHOOKS:  # the built-in one does not count
        raise TooManyWebhooks(MAX_WEBHOOKS)
    origin = ""
    if command.webhook != CALLBACK:
        _check_filter(state, command.events, command.queues)
        origin = _origin(command.url)
    event = WebhookCreated(webhook=command.webhook, origin=origin, events=command.events, queues=command.queues)
    return [_draft(command.webhook, event, WebhookSecrets(url=command.url, secret=command.secret))]


def change_webhook(state: LiveState, command: ask.ChangeWebhook) -> list[Draft]:
    """What the change comes to: another address or filter, on or off; nothing when it is so already."""
    webhook = _own(state, command.webhook, "changed")
    events = webhook.events if command.events is None else command.events
    queues = webhook.queues if command.queues is None else command.queues
    url = webhook.url if command.url is None else command.url
    drafts = []
    if (url, events, queues) != (webhook.url, webhook.events, webhook.queues):
        _check_filter(state, events, queues)
        event = WebhookChanged(webhook=webhook.id, origin=_origin(url), events=events, queues=queues)
        drafts.append(_draft(webhook.id, event, WebhookSecrets(url=url)))
    if command.is_enabled is True and webhook.disabled is not None:
        drafts.append(_draft(webhook.id, WebhookEnabled(webhook=webhook.id)))
    if command.is_enabled is False and webhook.disabled is None:
        drafts.append(_draft(webhook.id, WebhookDisabled(webhook=webhook.id, reason="asked")))
    return drafts


def rotate_webhook_secret(state: LiveState, command: ask.RotateWebhookSecret) -> list[Draft]:
    """The new secret, of the built-in webhook too."""
    webhook = _known(state, command.webhook)
    event = WebhookSecretRotated(webhook=webhook.id)
    return [_draft(webhook.id, event, WebhookSecrets(secret=command.secret))]


def remove_webhook(state: LiveState, command: ask.RemoveWebhook) -> list[Draft]:
    """The end of the webhook."""
    webhook = _own(state, command.webhook, "removed")
    return [_draft(webhook.id, WebhookRemoved(webhook=webhook.id))]


def ping_webhook(state: LiveState, command: ask.PingWebhook) -> list[Draft]:
    """The wish for a test message, for a disabled webhook too: it is how one finds out that it works again."""
    webhook = _own(state, command.webhook, "pinged")
    return [_draft(webhook.id, WebhookPinged(webhook=webhook.id))]


def redeliver_webhook(state: LiveState, command: ask.RedeliverWebhook) -> list[Draft]:
    """The wish to send a delivery again. The outbox ignores one that it does not have."""
    webhook = _known(state, command.webhook)
    event = WebhookRedeliveryRequested(webhook=webhook.id, delivery=command.delivery)
    return [_draft(webhook.id, event)]


def settle_delivery(state: LiveState, command: ask.SettleDelivery) -> list[Draft]:
    """How the round ended, once however often it is said; an endpoint that is gone is disabled with it.

    Nothing when the webhook was removed meanwhile.
    """
    webhook = state.webhooks.get(command.webhook)
    if webhook is None:
        return []
    said = f"{command.delivery}.{command.round}"
    kind = WebhookDelivered if command.outcome == "delivered" else WebhookGaveUp
    event = kind(webhook=webhook.id, delivery=command.delivery, round=command.round, attempts=command.attempts)
    drafts = [_draft(webhook.id, event, event_id=said)]
    if command.outcome == "gone" and webhook.disabled is None and webhook.id != CALLBACK:
        disabled = WebhookDisabled(webhook=webhook.id, reason="gone")
        drafts.append(_draft(webhook.id, disabled, event_id=f"{said}.gone"))
    return drafts


def _known(state: LiveState, webhook: str) -> LiveWebhook:
    if webhook not in state.webhooks:
        raise UnknownWebhook(webhook)
    return state.webhooks[webhook]


def _own(state: LiveState, webhook: str, action: str) -> LiveWebhook:
    """A webhook that somebody made, not the built-in one."""
    known = _known(state, webhook)
    if webhook == CALLBACK:
        raise BuiltInWebhook(webhook, action)
    return known


def _origin(url: str) -> str:
    try:
        return parse_url(url).origin
    except BadUrl as error:
        raise InvalidField("url", str(error)) from None


def _check_filter(state: LiveState, events: Sequence[str], queues: Sequence[str]) -> None:
    if not events:
        raise InvalidField("events", f"() tells nothing: name at least one of {', '.join(KINDS)}")
    for index, kind in enumerate(events):
        if kind not in KINDS:
            raise InvalidField(f"events[{index}]", f"{kind[:60]!r} is not accepted: use {', '.join(KINDS)}")
    for index, queue in enumerate(queues):
        if queue not in state.queues:
            known = ", ".join(sorted(state.queues))
            raise InvalidField(f"queues[{index}]", f"{queue[:60]!r} is not known: use {known}")


def _draft(
    webhook: str, event: AnyEvent, secrets: WebhookSecrets | None = None, event_id: str | None = None
) -> Draft:
    private = msgspec.json.encode(secrets) if secrets is not None else None
    return Draft(stream=f"webhook/{webhook}", event=event, private=private, event_id=event_id)
