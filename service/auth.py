"""API keys: what one looks like, how one is checked, who may do what.

A key is `safelight_<id>_<secret>`: the id finds it, the secret is 256 random bits of which only the SHA-256
is kept (a fast hash is right for that much entropy).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

import msgspec

from events.keys import Scope
from projections.live import LiveKey

_KEY = re.compile(r"safelight_([0-9a-f]{12})_([0-9a-f]{64})")
_NOBODY = hashlib.sha256(b"nobody").hexdigest()

IMPLIES: Mapping[Scope, frozenset[Scope]] = {
    "viewer": frozenset({"viewer"}),
    "submitter": frozenset({"viewer", "submitter"}),
    "operator": frozenset({"viewer", "submitter", "operator"}),
    "admin": frozenset({"viewer", "submitter", "operator", "admin"}),
    "worker": frozenset({"worker"}),
}
"""What each scope allows. A worker's key opens the worker protocol and nothing else."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the name that goes into events, and what they may do."""

    actor: str
    scopes: frozenset[Scope]


LOCAL = Caller("local", frozenset({"viewer", "submitter", "operator", "admin"}))
"""Whoever reaches a loopback bind without a key: they could read the files as well."""


def make_key(random: bytes) -> tuple[str, str, str]:
    """A new key from 38 random bytes: its text (shown once), its id, and the digest of its secret."""
    key, secret = random[:6].hex(), random[6:38].hex()
    return f"safelight_{key}_{secret}", key, hashlib.sha256(secret.encode()).hexdigest()


def check_key(text: str, keys: Mapping[str, LiveKey]) -> Caller | None:
    """The caller that presents the key `text`; None when it opens nothing. Takes the same time either way."""
    match = _KEY.fullmatch(text)
    known = keys.get(match[1]) if match else None
    secret = match[2] if match else ""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    if not hmac.compare_digest(digest, known.secret_digest if known else _NOBODY) or known is None:
        return None
    scopes: frozenset[Scope] = frozenset().union(*(IMPLIES[scope] for scope in known.scopes))
    return Caller(f"key/{known.id}", scopes)
