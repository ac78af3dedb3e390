"""The waiting line against a plain sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.queue_order import QueueOrder

PLACES = st.lists(st.tuples(st.integers(-100, 0), st.integers(1, 50), st.just("j")), unique=True, max_size=40)


@given(places=PLACES, leaving=st.data())
def test_it_is_always_in_order_and_ranks_are_dense(places, leaving) -> None:  # type: ignore[no-untyped-def]
    order = QueueOrder()
    for place in places:
        order.add(place)
    gone = leaving.draw(st.sets(st.sampled_from(places))) if places else set()
    for place in gone:
        order.remove(place)
    left = sorted(set(places) - gone)
    assert order.places == left
    assert [order.rank(place) for place in left] == list(range(1, len(left) + 1))
    assert len(order) == len(left)
