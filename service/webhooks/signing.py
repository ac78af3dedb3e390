"""Signatures of Standard Webhooks 1.0.0 (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

SECRET_BYTES = 32
_PREFIX = "whsec_"


def make_secret(random: bytes) -> str:
    """A signing secret of SECRET_BYTES random bytes, as both sides write it."""
    assert len(random) == SECRET_BYTES, f"{len(random)} random bytes for a secret of {SECRET_BYTES}"
    return _PREFIX + base64.b64encode(random).decode()


def signed_headers(secrets: Iterable[str], message: str, at_s: int, body: bytes) -> dict[str, str]:
    """The three headers of an attempt at `at_s` (UTC seconds); one signature a secret, for while two are valid."""
    text = f"{message}.{at_s}.".encode() + body
    return {
        "webhook-id": message,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(_sign(secret, text) for secret in secrets),
    }


def _sign(secret: str, text: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
