"""How many rows a call gets, from how long calls took: against devices of any curve."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.worker.engine.learning import NEAR, Curve


def settled(seconds_of: dict[int, float], *, waiting: int = 64, calls: int = 60, fits: int = 10**9) -> Curve:
    """The curve after so many calls on a device where `fits` rows have room; as many rows wait as are asked for."""
    curve = Curve()
    for _ in range(calls):
        rows = min(curve.most_rows(), waiting)
        if rows > fits:
            curve.too_many(rows)
        else:
            curve.took(rows, seconds_of[rows])
    return curve


def device(fixed_s: float, row_s: float, knee: int) -> dict[int, float]:
    """Seconds of a call by rows: a fixed cost, and beyond the knee every row costs its own time."""
    return {rows: fixed_s + row_s * max(rows, knee) for rows in range(1, 300)}


def test_a_small_model_gets_as_many_rows_as_it_gains_from() -> None:
    assert settled(device(0.0, 0.001, knee=16)).most_rows() in (16, 32)


def test_a_saturated_device_computes_one_job_at_a_time() -> None:
    assert settled(device(0.001, 0.12, knee=1)).most_rows() <= 2


def test_rows_that_did_not_fit_are_not_asked_for_again() -> None:
    curve = settled(device(1.0, 0.001, knee=1), fits=12)
    assert curve.ceiling == 8
    assert curve.most_rows() <= 8


def test_half_of_what_does_not_fit_is_tried_until_a_single_row() -> None:
    curve = Curve()
    for rows in (4, 2, 1):
        curve.too_many(rows)
    assert curve.most_rows() == 1


@given(st.floats(0, 1), st.floats(1e-4, 1), st.integers(1, 40), st.integers(2, 64))
def test_it_settles_near_the_best_throughput_that_was_tried(
    fixed_s: float, row_s: float, knee: int, waiting: int
) -> None:
    curve = settled(device(fixed_s, row_s, knee), waiting=waiting)
    rates = {rows: rows / seconds[0] for rows, seconds in curve.seconds.items()}
    rows = min(curve.most_rows(), waiting)
    assert rates[rows] >= NEAR * max(rates.values()) * 0.999


@pytest.mark.parametrize("calls", range(1, 20))
def test_sizes_grow_at_most_twofold(calls: int) -> None:
    curve = settled(device(1.0, 0.0, knee=1), calls=calls)
    tried = sorted(curve.seconds)
    assert all(later <= 2 * earlier for earlier, later in pairwise(tried))


def test_a_size_measured_in_a_bad_moment_is_tried_again() -> None:
    curve, true = Curve(), device(1.0, 0.0, knee=1)
    for call in range(1000):
        rows = min(curve.most_rows(), 16)
        curve.took(rows, true[rows] * (9.0 if rows > 4 and call < 100 else 1.0))
    assert curve.most_rows() >= 16


def test_who_would_be_left_over_is_taken_along_where_that_is_quicker() -> None:
    curve = Curve()
    for rows, seconds in {2: 7.3, 8: 14.9, 14: 21.7, 16: 27.7}.items():
        for _ in range(3):
            curve.took(rows, seconds)
    assert curve.most_rows() == 14
    assert curve.most_rows(standing=16) == 16
    assert curve.most_rows(standing=28) == 14
