"""What becomes of wishes about webhooks, as tables over live state."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.envelope import Record, encode
from events.webhooks import CALLBACK, ENDS
from service import commands as ask
from service import refusals as no
from service.decisions.webhooks import MAX_WEBHOOKS
from service.tasks.catalog import EMBEDDED
from tests.history import History

URL = "https://example.org:8443/hook?token=t0ken"


def creation(name: str = "w", **fields: Any) -> ask.CreateWebhook:
    return ask.CreateWebhook(webhook=name, **{"url": URL, "secret": "whsec_x", "events": ENDS, **fields})


@pytest.fixture
def history() -> History:
    history = History().with_queue()
    history.ask(creation(CALLBACK, url="", events=()))
    history.ask(creation())
    return history


def types(records: list[Record]) -> list[str]:
    return [record.event.type for record in records]


def settled(outcome: str, number: int = 1) -> ask.SettleDelivery:
    return ask.SettleDelivery(webhook="w", delivery="msg_1", round=number, attempts=3, outcome=outcome)  # type: ignore[arg-type]


def test_address_and_secret_are_private_and_the_rest_is_public(history: History) -> None:
    record = history.stream("webhook/w")[0]
    assert b"t0ken" not in encode(record.event)
    assert b"whsec_" not in encode(record.event)
    assert record.event.origin == "https://example.org:8443"  # type: ignore[union-attr]
    assert msgspec.json.decode(record.private or b"") == {"url": URL, "secret": "whsec_x"}
    assert history.state.webhooks["w"].url == URL
    assert history.ask(creation()) == [], "made once"


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"url": "example.org"}, "url", "use https://"),
        ({"url": "https://u:p@example.org/"}, "url", "password"),
        ({"events": ()}, "events", "name at least one of job-submitted"),
        ({"events": ("job-completed", "job-exploded")}, "events[1]", "'job-exploded' is not accepted: use job-sub"),
        ({"events": ("queue-paused",)}, "events[0]", "'queue-paused'"),
        ({"queues": ("nowhere",)}, "queues[0]", "'nowhere' is not known: use default"),
    ],
)
def test_a_bad_webhook_is_refused_by_field_value_and_what_is_accepted(
    history: History, fields: dict[str, object], field: str, says: str
) -> None:
    for command in (creation("v", **fields), ask.ChangeWebhook(webhook="w", **fields)):  # type: ignore[arg-type]
        with pytest.raises(no.InvalidField) as refused:
            history.ask(command)
        assert refused.value.field == field
        assert says in str(refused.value)


def test_there_is_a_most_of_them_and_the_built_in_one_does_not_count(history: History) -> None:
    for number in range(MAX_WEBHOOKS - 1):
        history.ask(creation(f"w{number}"))
    with pytest.raises(no.TooManyWebhooks):
        history.ask(creation("more"))


@pytest.mark.parametrize(
    ("change", "events"),
    [
        ({}, []),
        ({"url": URL, "events": ENDS, "queues": (), "is_enabled": True}, []),
        ({"url": "https://example.com/"}, ["webhook-changed"]),
        ({"events": ("job-failed",)}, ["webhook-changed"]),
        ({"queues": ("default",), "is_enabled": False}, ["webhook-changed", "webhook-disabled"]),
        ({"is_enabled": False}, ["webhook-disabled"]),
    ],
)
def test_a_change_is_what_it_comes_to(history: History, change: dict[str, Any], events: list[str]) -> None:
    assert types(history.ask(ask.ChangeWebhook(webhook="w", **change))) == events
    webhook = history.state.webhooks["w"]
    expected = {"url": URL, "events": ENDS, "queues": (), "is_enabled": True, **change}
    assert (webhook.url, webhook.events, webhook.queues) == (
        expected["url"],
        expected["events"],
        expected["queues"],
    )
    assert (webhook.disabled is None) == expected["is_enabled"]


def test_how_a_round_ended_carries_an_id_by_which_the_log_keeps_it_once(history: History) -> None:
    from service.decisions.decide import decide

    (draft,) = decide(history, settled("delivered"), EMBEDDED)
    assert (draft.event.type, draft.event_id) == ("webhook-delivered", "msg_1.1")
    (draft,) = decide(history, settled("gave-up", 2), EMBEDDED)
    assert (draft.event.type, draft.event_id) == ("webhook-gave-up", "msg_1.2")


def test_gone_disables_what_is_enabled(history: History) -> None:
    assert types(history.ask(settled("gone"))) == ["webhook-gave-up", "webhook-disabled"]
    assert history.state.webhooks["w"].disabled == "gone"
    assert types(history.ask(settled("gone", 2))) == ["webhook-gave-up"]
    assert types(history.ask(ask.ChangeWebhook(webhook="w", is_enabled=True))) == ["webhook-enabled"]


def test_a_removed_webhook_is_unknown_and_its_late_results_are_nothing(history: History) -> None:
    assert types(history.ask(ask.RemoveWebhook(webhook="w"))) == ["webhook-removed"]
    assert history.ask(settled("delivered")) == []
    for command in (
        ask.RemoveWebhook(webhook="w"), ask.PingWebhook(webhook="w"), ask.ChangeWebhook(webhook="w"),
        ask.RotateWebhookSecret(webhook="w", secret="s"), ask.RedeliverWebhook(webhook="w", delivery="d"),
    ):  # fmt: skip
        with pytest.raises(no.UnknownWebhook):
            history.ask(command)


def test_of_the_built_in_webhook_only_the_secret_changes(history: History) -> None:
    for command in (
        ask.RemoveWebhook(webhook=CALLBACK), ask.PingWebhook(webhook=CALLBACK),
        ask.ChangeWebhook(webhook=CALLBACK, is_enabled=False),
    ):  # fmt: skip
        with pytest.raises(no.BuiltInWebhook):
            history.ask(command)
    assert types(history.ask(ask.RotateWebhookSecret(webhook=CALLBACK, secret="s"))) == ["webhook-secret-rotated"]
    assert types(history.ask(ask.RedeliverWebhook(webhook=CALLBACK, delivery="d"))) == [
        "webhook-redelivery-requested"
    ]
