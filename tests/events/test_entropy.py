"""Buffered randomness is never given out twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.entropy import PAGE_BYTES, Entropy


@given(st.lists(st.integers(0, 64), max_size=300))
def test_every_take_has_its_length_and_bytes_of_its_own(counts: list[int]) -> None:
    entropy = Entropy()
    taken = [entropy.take(count) for count in counts]
    assert [len(part) for part in taken] == counts
    long = [part for part in taken if len(part) >= 8]
    assert len(set(long)) == len(long)


def test_a_whole_page_is_followed_by_a_fresh_one() -> None:
    entropy = Entropy()
    assert entropy.take(PAGE_BYTES) != entropy.take(PAGE_BYTES)
