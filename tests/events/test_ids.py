"""UUIDv7: the time, the version and the variant are where RFC 9562 wants them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from events.ids import uuid7

INSTANTS = st.integers(0, 4_000_000_000_000_000)


@given(at_us=INSTANTS, random=st.binary(min_size=10, max_size=10))
def test_it_is_a_version_7_uuid_of_its_millisecond(at_us: int, random: bytes) -> None:
    value = uuid.UUID(uuid7(at_us, random))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == at_us // 1000


@given(first=INSTANTS, later_ms=st.integers(1, 10**9), random=st.binary(min_size=20, max_size=20))
def test_later_ids_sort_behind_earlier_ones(first: int, later_ms: int, random: bytes) -> None:
    assert uuid7(first, random[:10]) < uuid7(first + later_ms * 1000, random[10:])
