"""Signatures, checked by the specification's own library and by its published example."""

from __future__ import annotations

import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from service.webhooks.signing import SECRET_BYTES, make_secret, signed_headers

BODY = b'{"test": 2432232314}'


def test_the_published_example_has_its_signature() -> None:
    headers = signed_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_library_of_the_specification_accepts_it_with_either_secret_during_a_rotation() -> None:
    old, new = make_secret(b"o" * SECRET_BYTES), make_secret(b"n" * SECRET_BYTES)
    headers = signed_headers([new, old], "msg_1", int(time.time()), BODY)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers) == {"test": 2432232314}


@pytest.mark.parametrize(
    "change",
    [{"webhook-id": "msg_2"}, {"webhook-timestamp": str(int(time.time()) - 1)}, {"webhook-signature": "v1,AAAA"}],
)
def test_any_change_of_a_header_is_noticed(change: dict[str, str]) -> None:
    secret = make_secret(bytes(SECRET_BYTES))
    headers = signed_headers([secret], "msg_1", int(time.time()), BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, {**headers, **change})


def test_a_changed_body_or_an_old_message_is_refused_by_a_receiver() -> None:
    secret = make_secret(bytes(SECRET_BYTES))
    headers = signed_headers([secret], "msg_1", int(time.time()), BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, signed_headers([secret], "msg_1", int(time.time()) - 301, BODY))
