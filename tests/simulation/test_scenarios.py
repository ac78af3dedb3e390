"""The three scenarios of `make bench ARGS="--only simulation"`, shorter, with bounds that a short run can keep."""

from __future__ import annotations

import pytest

from tests.simulation.fairness import fairness
from tests.simulation.outages import outages
from tests.simulation.promises import promises


@pytest.mark.parametrize(
    ("machines", "high", "share"),
    [(1, 0.0, 0.87), (4, 0.0, 0.87), (2, 0.3, 0.72)],
)
def test_what_a_job_is_told_at_submit_comes_true(machines: int, high: float, share: float) -> None:
    seen = promises(700, machines=machines, load=0.4, high=high)
    assert 0.65 < seen.busy < 0.85, "neither an idle room nor one that cannot keep up"
    assert seen.share_within >= share
    assert 0.85 <= seen.share_below_p90 <= 0.96


def test_who_asks_for_little_waits_little_and_who_floods_shares_the_rest() -> None:
    seen = fairness("fair", 4.0)
    assert seen.busy > 0.99
    assert seen.shares["A"] == pytest.approx(0.47, abs=0.025)
    assert seen.shares["C"] == pytest.approx(0.47, abs=0.025)
    assert seen.wait_p50_s <= 30


def test_first_come_first_served_lets_the_same_user_wait_for_an_hour() -> None:
    assert fairness("fifo", 4.0).wait_p50_s > 3000


def test_faults_cost_little_and_no_job_is_lost_or_computed_twice() -> None:
    seen = outages(8.0, machines=4)
    assert seen.violations == ()
    assert (seen.completed, seen.failed) == (seen.jobs, 0)
    assert seen.cuts > 15
    assert seen.crashes + seen.restarts > 1
    assert seen.waste < 0.015


def test_the_same_seed_gives_the_same_day() -> None:
    assert outages(1.0, machines=2, seed=5) == outages(1.0, machines=2, seed=5)
