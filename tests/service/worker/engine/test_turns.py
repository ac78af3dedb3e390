"""The rule of whose calls are made next, over any standings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.worker.engine.turns import Standing, choose

STANDINGS = st.lists(
    st.builds(
        Standing,
        priority=st.integers(-1, 3),
        turns=st.integers(0, 2),
        rows=st.integers(1, 3),
        key=st.sampled_from([None, "a", "b"]),
    ),
    min_size=1,
    max_size=9,
)


def standing(priority: int = 50, turns: int = 0, rows: int = 2, key: str | None = "a") -> Standing:
    return Standing(priority=priority, turns=turns, rows=rows, key=key)


@given(STANDINGS, st.integers(1, 12))
def test_the_first_is_never_passed_over_and_all_can_be_joined(standings: list[Standing], most: int) -> None:
    chosen = choose(standings, lambda index: most)
    first = standings[chosen[0]]
    assert all(
        (-first.priority, first.turns, chosen[0]) <= (-s.priority, s.turns, i) for i, s in enumerate(standings)
    )
    assert len(set(chosen)) == len(chosen)
    assert all(standings[index].key == first.key is not None for index in chosen[1:])
    assert len(chosen) == 1 or sum(standings[index].rows for index in chosen) <= most


@given(STANDINGS, st.integers(1, 12))
def test_nobody_who_fits_is_left_out(standings: list[Standing], most: int) -> None:
    chosen = choose(standings, lambda index: most)
    first, rows = standings[chosen[0]], sum(standings[index].rows for index in chosen)
    for index, other in enumerate(standings):
        if index not in chosen and other.key == first.key is not None:
            assert rows + other.rows > most


def test_a_higher_priority_goes_first_and_takes_along_whom_it_can() -> None:
    assert choose([standing(), standing(priority=90, key="b"), standing(key="b")], lambda index: 8) == [1, 2]


def test_who_had_its_slice_of_time_lets_the_other_compute() -> None:
    assert choose([standing(turns=1), standing(key="b")], lambda index: 8) == [1]
    assert choose([standing(turns=1), standing(turns=1, key="b")], lambda index: 8) == [0]
