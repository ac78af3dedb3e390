"""The recorded event: its encoding, its registry, its leaf hash."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import TYPES, decode, encode, leaf_hash, private_digest
from events.jobs import JobLeased
from events.queues import QueuePaused


def test_every_type_is_known_by_its_kebab_name() -> None:
    assert TYPES["job-leased"] is JobLeased
    assert all(name == kind.__struct_config__.tag for name, kind in TYPES.items())


@given(attempt=st.integers(1, 99), worker=st.text(max_size=20), lease_s=st.floats(0, 1e6), adopted=st.booleans())
def test_an_event_survives_its_encoding(attempt: int, worker: str, lease_s: float, adopted: bool) -> None:
    event = JobLeased(attempt=attempt, worker=worker, boot="b", lease_s=lease_s, adopted=adopted)
    assert decode("job-leased", 1, encode(event)) == event


def test_an_unknown_field_or_type_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode("queue-paused", 1, b'{"type":"queue-paused","name":"q","more":1}')
    with pytest.raises(msgspec.ValidationError):
        decode("queue-burnt", 1, b'{"type":"queue-burnt"}')


def test_a_newer_schema_than_this_program_knows_is_refused_with_what_to_do() -> None:
    with pytest.raises(LookupError, match="upgrade safelight"):
        decode("queue-paused", 2, encode(QueuePaused(name="q")))


def test_the_leaf_is_the_rfc_6962_hash_of_the_columns() -> None:
    data = encode(QueuePaused(name="q"))
    entry = b'[1,"queue/q",0,"id","queue-paused",1,7,"me","r",' + data + b',"' + b"00" * 32 + b'"]'
    found = leaf_hash(1, "queue/q", 0, "id", "queue-paused", 1, 7, "me", "r", data, bytes(32))
    assert found == hashlib.sha256(b"\x00" + entry).digest()


@pytest.mark.parametrize("column", range(11))
def test_a_change_of_any_column_changes_the_leaf(column: int) -> None:
    columns = [1, "queue/q", 0, "id", "queue-paused", 1, 7, "me", "r", b"{}", None]
    changed = list(columns)
    changed[column] = {int: 99, str: "other", bytes: b"[]", type(None): bytes(32)}[type(columns[column])]
    assert leaf_hash(*columns) != leaf_hash(*changed)  # type: ignore[arg-type]


def test_a_private_part_is_committed_to_with_its_salt() -> None:
    assert private_digest(b"salt", b"body") == hashlib.sha256(b"saltbody").digest()
    assert private_digest(b"salt", b"body") != private_digest(b"SALT", b"body")
