"""The waiting line against a plain sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.queue_order import QueueOrder
from projections.rank import first_rank

PLACES = st.lists(
    st.tuples(st.booleans(), st.integers(-100, 0), st.integers(1, 50).map(first_rank), st.integers(1, 50)).map(
        lambda place: (*place, f"{place}")
    ),
    unique=True,
    max_size=40,
)
SUBMITTERS, MODELS = ("ann", "bob"), ("m1", "m2", "m3")


@given(places=PLACES, leaving=st.data())
def test_it_is_always_in_order_and_lanes_hold_the_same_jobs(places, leaving) -> None:  # type: ignore[no-untyped-def]
    order = QueueOrder()
    lane_of = {place: (SUBMITTERS[place[3] % 2], MODELS[place[3] % 3]) for place in places}
    for place in places:
        order.add(place, *lane_of[place])
    gone = leaving.draw(st.sets(st.sampled_from(places))) if places else set()
    for place in gone:
        order.remove(place, *lane_of[place])
    left = sorted(set(places) - gone)
    assert order.places == left
    assert [order.index(place) for place in left] == list(range(len(left)))
    assert list(order) == [place[4] for place in left]
    lanes = {(submitter, model): lane for submitter, model, lane in order.each_lane()}
    assert lanes == {
        key: [place for place in left if lane_of[place] == key] for key in {lane_of[place] for place in left}
    }
