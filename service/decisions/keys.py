"""What becomes of a wish to make or revoke an API key."""

from __future__ import annotations

from events.envelope import Draft
from events.keys import KeyCreated, KeyRevoked
from projections.live import LiveState
from service.commands import CreateKey, RevokeKey
from service.refusals import UnknownKey


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
