"""There is always a rank between two ranks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.rank import between, first_rank


@given(positions=st.lists(st.integers(1, 2**40), unique=True, min_size=2))
def test_first_ranks_are_in_the_order_of_their_positions(positions: list[int]) -> None:
    assert sorted(positions) == sorted(positions, key=first_rank)


@given(moves=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=80))
def test_a_job_can_be_moved_between_any_two_others_again_and_again(moves: list[tuple[int, int]]) -> None:
    line = [first_rank(position) for position in range(1, 9)]
    for taken, to in moves:
        del line[taken % len(line)]
        index = to % (len(line) + 1)
        rank = between(line[index - 1] if index else "", line[index] if index < len(line) else None)
        line.insert(index, rank)
        assert line == sorted(line)
        assert len(set(line)) == len(line)
        assert not rank.endswith("0")


def test_a_rank_grows_by_a_digit_in_four_moves_to_the_same_place() -> None:
    low, high = first_rank(1), first_rank(2)
    for _ in range(400):
        high = between(low, high)
    assert len(high) < 13 + 400 / 3
