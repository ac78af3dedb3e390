"""Clocks of GPU time: who has least is next, and nobody saves up or is punished."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.fair_clocks import MOST, FairClocks


def test_a_weight_of_two_makes_the_clock_run_at_half_the_speed() -> None:
    clocks = FairClocks()
    clocks.join("ann", ())
    clocks.join("bob", {"ann"})
    clocks.charge("ann", 60.0, 1.0)
    clocks.charge("bob", 60.0, 2.0)
    assert (clocks.of("ann"), clocks.of("bob")) == (60.0, 30.0)


def test_who_comes_back_starts_at_the_smallest_active_clock() -> None:
    clocks = FairClocks()
    clocks.join("ann", ())
    clocks.join("bob", {"ann"})
    clocks.charge("ann", 500.0, 1.0)
    clocks.charge("bob", 400.0, 1.0)
    clocks.join("late", {"ann", "bob"})
    assert clocks.of("late") == 400.0, "no claim was saved up"
    clocks.charge("late", 1000.0, 1.0)
    clocks.charge("ann", 2000.0, 1.0)
    clocks.join("late", {"ann", "bob"})
    assert clocks.of("late") == 1400.0, "and what was used stays used"


def test_the_first_after_everybody_had_gone_does_not_start_at_nought() -> None:
    clocks = FairClocks()
    clocks.join("ann", ())
    clocks.charge("ann", 100.0, 1.0)
    clocks.join("bob", {"ann"})
    clocks.join("new", ())
    assert clocks.of("new") == 100.0


def test_clocks_of_who_is_gone_are_dropped_when_there_are_too_many() -> None:
    clocks = FairClocks()
    for number in range(MOST + 5):
        clocks.join(f"s-{number}", {"s-0"})
    assert len(clocks.clocks) <= MOST
    assert "s-0" in clocks.clocks


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["join", "charge"]), st.floats(-50, 500)), max_size=60
    )
)
def test_clocks_are_never_negative_and_the_floor_never_falls(steps: list[tuple[str, str, float]]) -> None:
    clocks, active, floor = FairClocks(), set[str](), 0.0
    for name, what, seconds in steps:
        if what == "join":
            clocks.join(name, active - {name})
            active.add(name)
        elif name in active:
            clocks.charge(name, seconds, 1.0)
        assert clocks.floor >= floor
        floor = clocks.floor
        assert all(clock >= 0 for clock in clocks.clocks.values())
