"""How good predictions were: bounds that hold, a share that is counted right, and what higher tiers will take."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.accuracy import FALLBACK_FACTOR, MAX_KEYS, MEMORY_S, WINDOW_JOBS, Accuracy, Ratios

TIERS = st.integers(0, 3)
PREDICTED_S = st.floats(1e-3, 1e7)
LEARNED = st.lists(st.tuples(TIERS, PREDICTED_S, st.floats(0, 1e9)), max_size=300)
ARRIVED = st.lists(st.tuples(TIERS, st.floats(0, 1e7), st.integers(0, 10**13)), max_size=40)


def told(*ratios: float, tier: int = 5, predicted_s: float = 10.0) -> Accuracy:
    accuracy = Accuracy()
    for ratio in ratios:
        accuracy.learn(tier, predicted_s, predicted_s * ratio)
    return accuracy


@pytest.mark.parametrize("noise", [0.1, 0.25, 0.5])
def test_nine_jobs_in_ten_end_before_their_bound(noise: float) -> None:
    accuracy, dice, kept = Accuracy(), random.Random(1), []
    for number in range(3_000):
        predicted_s = dice.choice([3.0, 30.0])
        actual_s = predicted_s * math.exp(noise * dice.gauss(0, 1))
        if number >= 100:
            kept.append(actual_s <= predicted_s * accuracy.p90_factor(5, predicted_s))
        accuracy.learn(5, predicted_s, actual_s)
    assert 0.88 < sum(kept) / len(kept) < 0.93


@given(ratios=st.lists(st.floats(0.01, 100), min_size=9, max_size=WINDOW_JOBS))
def test_the_bound_is_the_conformal_rank(ratios: list[float]) -> None:
    kept = Ratios()
    for ratio in ratios:
        kept.add(ratio)
    at_most = sum(ratio <= kept.bound for ratio in ratios) if kept.bound is not None else 0
    assert kept.bound in ratios
    assert at_most >= 0.9 * (len(ratios) + 1)


@pytest.mark.parametrize(
    ("accuracy", "factor"),
    [
        (told(), FALLBACK_FACTOR),
        (told(*[1.5] * 8), FALLBACK_FACTOR),
        (told(*[1.5] * 9), 1.5),
        (told(*[1.5] * 9, predicted_s=1000.0), 1.5),  # of the tier
        (told(*[1.5] * 9, tier=1), 1.5),  # of all
        (told(*[0.5] * 9), 1.0),  # never below the prediction itself
    ],
)
def test_with_few_jobs_of_a_kind_the_bound_is_that_of_more(accuracy: Accuracy, factor: float) -> None:
    assert accuracy.p90_factor(5, 10.0) == pytest.approx(factor)


def test_tiers_and_sizes_are_judged_apart() -> None:
    accuracy = Accuracy()
    for _ in range(20):
        accuracy.learn(5, 10.0, 12.0)
        accuracy.learn(5, 100.0, 140.0)
        accuracy.learn(1, 10.0, 30.0)
    assert accuracy.p90_factor(5, 11.0) == pytest.approx(1.2)
    assert accuracy.p90_factor(5, 120.0) == pytest.approx(1.4)
    assert accuracy.p90_factor(1, 8.0) == pytest.approx(3.0)


def test_a_bad_hour_is_forgotten_after_200_jobs() -> None:
    accuracy = told(*[5.0] * 200, *[1.0] * 200)
    assert accuracy.p90_factor(5, 10.0) == 1.0
    assert accuracy.share_within() == 1.0


def test_the_share_counts_errors_of_the_actual_time() -> None:
    assert Accuracy().share_within() is None
    # predicted 10 s; actual 8.4 s is 19 % off, 8.2 s is 22 %, 12.4 s is 19 %, 12.6 s is 21 %
    assert told(0.84, 0.82, 1.24, 1.26).share_within() == 0.5


def test_what_higher_tiers_ask_for_is_told_as_a_share_of_the_workers() -> None:
    accuracy, dice, at_s = Accuracy(), random.Random(2), 0.0
    while at_s < 6 * MEMORY_S:  # 6 s of work every 15 s on average, for two workers: a fifth
        at_s += dice.expovariate(1 / 15.0)
        accuracy.arrived(9, 6.0, int(at_s * 1e6))
    assert accuracy.overtaking(5, int(at_s * 1e6), 2) == pytest.approx(0.2, rel=0.3)
    assert accuracy.overtaking(9, int(at_s * 1e6), 2) == 0.0
    assert accuracy.overtaking(5, int((at_s + 10 * MEMORY_S) * 1e6), 2) < 0.001


@given(learned=LEARNED, arrived=ARRIVED, tier=TIERS, predicted_s=PREDICTED_S, at_us=st.integers(0, 10**13))
def test_what_is_told_stays_in_its_range(
    learned: list[Any], arrived: list[Any], tier: int, predicted_s: float, at_us: int
) -> None:
    accuracy = Accuracy()
    for each in learned:
        accuracy.learn(*each)
    for each in arrived:
        accuracy.arrived(*each)
    assert 1.0 <= accuracy.p90_factor(tier, predicted_s) <= 100.0
    assert 0.0 <= (accuracy.share_within() or 0.0) <= 1.0
    assert 0.0 <= accuracy.overtaking(tier, at_us, 0) <= 0.9
    assert accuracy.overtaking(tier + 1, at_us, 1) <= accuracy.overtaking(tier, at_us, 1)
    assert len(accuracy.ratios) <= MAX_KEYS


@given(learned=LEARNED, arrived=ARRIVED, cut=st.integers(0, 300))
def test_a_snapshot_in_between_changes_nothing(learned: list[Any], arrived: list[Any], cut: int) -> None:
    whole, restored = Accuracy(), Accuracy()
    for number, each in enumerate(learned):
        if number == cut:
            restored = msgspec.msgpack.decode(msgspec.msgpack.encode(restored), type=Accuracy)
        whole.learn(*each)
        restored.learn(*each)
        whole.p90_factor(each[0], each[1])  # reading leaves no trace
    for each in arrived:
        whole.arrived(*each)
        restored.arrived(*each)
    assert msgspec.msgpack.encode(restored) == msgspec.msgpack.encode(whole)


def test_a_full_memory_takes_below_100_kilobytes_of_a_snapshot() -> None:
    accuracy = Accuracy()
    for number in range(20_000):
        accuracy.learn(number % 7, 2.0 ** (number % 11), 3.0)
    assert len(accuracy.ratios) == MAX_KEYS
    assert len(msgspec.msgpack.encode(accuracy)) < 100_000
