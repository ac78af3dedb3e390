"""What becomes of a wish to make or revoke an API key."""

from __future__ import annotations

from events.envelope import Draft
from events.keys import KeyCreated, KeyLimited, KeyRevoked
from projections.live import LiveState
from service.commands import CreateKey, LimitKey, RevokeKey
from service.refusals import InvalidField, UnknownKey


def create_key(state: LiveState, command: CreateKey) -> list[Draft]:
    """The key; nothing when it exists."""
    if command.key in state.keys:
        return []
    event = KeyCreated(
        key=command.key, name=command.name, scopes=command.scopes, secret_digest=command.secret_digest
    )
    return [Draft(stream=f"key/{command.key}", event=event)]


def revoke_key(state: LiveState, command: RevokeKey) -> list[Draft]:
    """The end of a key. Refuses one that is not known."""
    if command.key not in state.keys:
        raise UnknownKey(command.key)
    return [Draft(stream=f"key/{command.key}", event=KeyRevoked(key=command.key))]


def limit_key(state: LiveState, command: LimitKey) -> list[Draft]:
    """The key's new limits; nothing when they are its limits already. Refuses a key that is not known."""
    known = state.keys.get(command.key)
    if known is None:
        raise UnknownKey(command.key)
    if not 0.01 <= command.limits.weight <= 100:
        raise InvalidField("weight", f"{command.limits.weight} is not accepted: use 0.01 to 100, 1 is usual")
    for field in ("max_waiting", "max_running", "jobs_per_minute"):
        value = getattr(command.limits, field)
        if value is not None and value < 0:
            raise InvalidField(field, f"{value} is not accepted: use 0 or more, or null for no bound")
    if known.limits == command.limits:
        return []
    return [Draft(stream=f"key/{command.key}", event=KeyLimited(key=command.key, limits=command.limits))]
