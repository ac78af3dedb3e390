"""The cost model: what it learns from noisy completions, what it says before it has any, and that it stays sane."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.costs import (
    LEARNING_JOBS,
    MAX_ENTRIES,
    MAX_S,
    Costs,
    Learned,
    Spent,
    Work,
    spent_of,
    work_of,
)

LAWS = [(1.0, 0.03, 0.012), (0.6, 0.15, 0.08), (4.0, 0.5, 0.4), (0.3, 0.01, 0.0), (20.0, 1.5, 0.2)]
"""Seconds, s per step*MP, s per step*MP^2: from a small model to a video one."""

POWERS = st.floats(-18, 18).map(lambda power: 10.0**power)
WORKS = st.builds(
    lambda kind, linear, square: work_of({"steps": linear, "step_s": square} if kind else {"steps": linear}),
    st.booleans(), POWERS, POWERS,
) | st.builds(
    lambda steps, width, height, frames: work_of({"steps": steps, "width": width, "height": height, **frames}),
    st.integers(0, 10_000), st.integers(0, 100_000), st.integers(0, 100_000),
    st.just({}) | st.builds(lambda n: {"frames": n}, st.integers(0, 10_000)),
)  # fmt: skip
SECONDS = st.floats() | POWERS
COMPLETIONS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["x", "y"]),
        WORKS,
        st.builds(Spent, SECONDS, st.none() | SECONDS, SECONDS),
    ),
    max_size=60,
)


def picture(steps: int, side: int) -> Work:
    return work_of({"steps": steps, "width": side, "height": side, "guidance": 1.0})


def pictures(seed: int) -> Iterator[Work]:
    dice = random.Random(seed)
    while True:
        yield picture(dice.randint(4, 50), dice.choice([512, 768, 1024, 1280, 1536]))


def true_s(law: tuple[float, float, float], work: Work) -> float:
    return sum(cost * feature for cost, feature in zip(law, work.features, strict=True))


def errors(law: tuple[float, float, float], seed: int, jobs: int, noise: float, drift: Callable[[int], float]):  # type: ignore[no-untyped-def]
    """Relative error of each prediction made just before its job, against the cost without noise."""
    costs, dice = Costs(), random.Random(seed)
    for number, work in zip(range(jobs), pictures(seed), strict=False):
        cost_s = true_s(law, work) * drift(number)
        yield costs.predict("m", "w", work).run_s / cost_s - 1
        costs.learn("m", "w", work, Spent(cost_s * math.exp(noise * dice.gauss(0, 1)), None, 0.0))


def taught(jobs: int, law: tuple[float, float, float] = LAWS[0], model: str = "m", where: str = "w") -> Costs:
    costs = Costs()
    for _, work in zip(range(jobs), pictures(1), strict=False):
        costs.learn(model, where, work, Spent(true_s(law, work), None, 0.0))
    return costs


@pytest.mark.parametrize(("noise", "median", "ninth"), [(0.02, 0.01, 0.03), (0.10, 0.03, 0.08), (0.25, 0.07, 0.20)])
def test_after_60_jobs_the_error_is_far_below_the_noise(noise: float, median: float, ninth: float) -> None:
    late = sorted(
        abs(error)
        for law in LAWS
        for seed in range(10)
        for error in list(errors(law, seed, 80, noise, lambda _: 1.0))[60:]
    )
    assert statistics.median(late) < median
    assert late[len(late) * 9 // 10] < ninth


def test_log_normal_noise_does_not_pull_predictions_down() -> None:
    late = [e for law in LAWS for seed in range(10) for e in list(errors(law, seed, 120, 0.25, lambda _: 1.0))[60:]]
    assert -0.04 < statistics.median(late) < 0.04


def test_of_a_slowdown_of_30_percent_a_third_is_left_after_50_jobs() -> None:
    def slower(number: int) -> float:
        return 1.3 if number >= 120 else 1.0

    runs = [list(errors(law, seed, 180, 0.1, slower)) for law in LAWS for seed in range(10)]
    at_once = statistics.median(abs(e) for run in runs for e in run[120:123])
    later = statistics.median(abs(e) for run in runs for e in run[165:175])
    assert at_once > 0.18  # 23 % off at first
    assert later < 0.11  # 0.98 ** 50 of the old line still counts


def test_one_slow_first_run_is_forgotten_within_a_dozen_jobs() -> None:
    runs = [
        list(errors(law, seed, 20, 0.02, lambda n: 10.0 if n == 0 else 1.0)) for law in LAWS for seed in range(10)
    ]
    assert statistics.median(abs(e) for run in runs for e in run[10:]) < 0.10


def test_20_000_jobs_of_one_size_leave_the_line_where_it_was() -> None:
    costs, same, dice, law = Costs(), picture(20, 1024), random.Random(3), LAWS[1]
    for _ in range(20_000):
        costs.learn("m", "w", same, Spent(true_s(law, same) * math.exp(0.05 * dice.gauss(0, 1)), None, 0.0))
    assert costs.predict("m", "w", same).run_s == pytest.approx(true_s(law, same), rel=0.03)
    assert all(value < 1e4 for value in diagonal(costs.entries["m\nw"]))
    for work, _ in zip(pictures(4), range(5), strict=False):  # and what it had never seen is learned at once
        costs.learn("m", "w", work, Spent(true_s(law, work), None, 0.0))
    asked = picture(30, 768)
    assert costs.predict("m", "w", asked).run_s == pytest.approx(true_s(law, asked), rel=0.05)


def test_a_model_whose_jobs_all_cost_the_same_is_learned_as_such() -> None:
    costs = Costs()
    for _, work in zip(range(60), pictures(2), strict=False):
        costs.learn("m", "w", work, Spent(3.0, None, 0.0))
    assert costs.predict("m", "w", picture(4, 512)).run_s == pytest.approx(3.0, rel=0.01)
    assert costs.predict("m", "w", picture(50, 1536)).run_s == pytest.approx(3.0, rel=0.01)


def test_the_noise_shown_is_the_noise_there_is() -> None:
    costs, dice = Costs(), random.Random(5)
    for _, work in zip(range(300), pictures(5), strict=False):
        costs.learn("m", "w", work, Spent(true_s(LAWS[1], work) * math.exp(0.1 * dice.gauss(0, 1)), None, 0.0))
    assert costs.predict("m", "w", picture(20, 1024)).noise == pytest.approx(0.1, rel=0.4)


def test_a_new_model_is_guessed_from_the_nearest_and_says_so() -> None:
    work = picture(20, 1024)
    assert Costs().predict("m", "w", work).is_learning
    costs = taught(10, LAWS[2], model="slow")
    for number in range(10):
        costs.learn("quick", "elsewhere", picture(10 + number, 512), Spent(0.1, None, 0.0))
    slow_s, quick_s = costs.predict("slow", "w", work).run_s, costs.predict("quick", "elsewhere", work).run_s
    assert costs.predict("new", "w", work).run_s == slow_s  # a model on the same class before one elsewhere
    assert costs.predict("quick", "w", work).run_s == quick_s  # the same model elsewhere before another one here
    assert costs.predict("new", "nowhere", work).run_s == quick_s  # at last whatever was learned last
    assert costs.predict("new", "w", work).is_learning
    timed = costs.predict("pretend", "w", work_of({"steps": 10, "step_s": 0.5}))
    assert timed.run_s == pytest.approx(5.0, rel=0.02)  # no picture model tells anything about it


@pytest.mark.parametrize(("completions", "is_learning"), [(LEARNING_JOBS - 1, True), (LEARNING_JOBS, False)])
def test_it_learns_until_the_fifth_completion(completions: int, is_learning: bool) -> None:
    assert taught(completions).predict("m", "w", picture(20, 1024)).is_learning is is_learning


def test_loads_and_exports_are_averages_and_a_warm_run_says_nothing_of_loads() -> None:
    costs, work = Costs(), picture(20, 1024)
    assert costs.predict("m", "w", work).load_s == 10.0
    for load_s in (None, 20.0, None, 10.0):
        costs.learn("m", "w", work, Spent(4.0, load_s, 0.5))
    assert costs.predict("m", "w", work).load_s == pytest.approx(0.7 * 20 + 0.3 * 10)
    assert costs.predict("m", "other", work).load_s == costs.predict("m", "w", work).load_s
    assert costs.predict("m", "w", work).export_s == pytest.approx(0.5)


def test_the_least_recently_used_models_are_forgotten() -> None:
    costs, work = Costs(), picture(20, 1024)
    for number in range(MAX_ENTRIES + 10):
        costs.learn(f"m{number}", "w", work, Spent(4.0, None, 0.0))
        costs.learn("kept", "w", work, Spent(4.0, None, 0.0))
    assert len(costs.entries) == MAX_ENTRIES
    assert "kept\nw" in costs.entries
    assert "m0\nw" not in costs.entries


@pytest.mark.parametrize(
    ("params", "work"),
    [
        ({"steps": 20, "width": 1000, "height": 2000}, Work("picture", 40.0, 80.0)),
        ({"steps": 20, "width": 1000, "height": 2000, "guidance": 4.5}, Work("picture", 80.0, 160.0)),
        ({"steps": 20, "width": 1000, "height": 1000, "frames": 81}, Work("picture", 1620.0, 1620.0)),
        ({"width": 1000, "height": 2000}, Work("picture", 2.0, 4.0)),
        ({"steps": 20, "width": 1000, "height": 1000, "strength": 0.25}, Work("picture", 5.0, 5.0)),
        ({"steps": 20, "width": "wide", "height": None}, Work("picture", 20.0, 20.0)),
        ({"steps": 10, "step_s": 0.5}, Work("timed", 5.0, 10.0)),
        ({"steps": 30}, Work("plain", 30.0, 0.0)),
        ({"steps": 30, "seconds": 2.5}, Work("plain", 75.0, 0.0)),
        ({"max_new_tokens": 128}, Work("plain", 128.0, 0.0)),
        ({"steps": math.nan, "prompt": "x"}, Work("plain", 1.0, 0.0)),
        ({}, Work("plain", 1.0, 0.0)),
    ],
)
def test_the_work_of_a_job_is_read_from_its_params(params: dict[str, Any], work: Work) -> None:
    assert work_of(params) == work


@pytest.mark.parametrize(
    ("facts", "spent"),
    [
        (
            {
                "timings": {
                    "loading_model": 3.0,
                    "preparing": 0.5,
                    "denoising": 2.0,
                    "exporting": 0.25,
                    "step_s": 0.1,
                }
            },
            Spent(2.5, 3.0, 0.25),
        ),
        ({"timings": {"denoising": 2, "step_s": 0.1}}, Spent(2.0, None, 0.0)),
        ({"timings": {"denoising": 3.0, "parked": 2.0}, "batch": {"others_s": 3.5}}, Spent(1.5, None, 0.0)),
        ({"timings": {"denoising": 1.0}, "batch": {"others_s": 9.0}}, Spent(0.0, None, 0.0)),
        ({"timings": {"denoising": 1.0}, "batch": {"others_s": "?"}}, Spent(1.0, None, 0.0)),
        ({"timings": {"denoising": "long", "exporting": 1.0}}, None),
        ({"timings": [1.0]}, None),
        ({}, None),
    ],
)
def test_where_the_time_went_is_read_from_the_facts(facts: dict[str, Any], spent: Spent | None) -> None:
    assert spent_of(facts) == spent


@given(completions=COMPLETIONS, asked=WORKS)
def test_predictions_are_finite_and_positive_whatever_was_learned(completions: list[Any], asked: Work) -> None:
    costs = Costs()
    for model, where, work, spent in completions:
        costs.learn(model, where, work, spent)
        for each in (asked, work):
            told = costs.predict("a", "x", each)
            assert 0 < told.run_s <= MAX_S
            assert all(0 <= s <= MAX_S for s in (told.load_s, told.export_s, told.noise))
    for entry in costs.entries.values():
        assert all(math.isfinite(value) for value in (*entry.theta, *entry.information))
        assert all(value >= 0 for value in diagonal(entry))


@given(completions=COMPLETIONS, cut=st.integers(0, 60))
def test_a_snapshot_in_between_changes_nothing(completions: list[Any], cut: int) -> None:
    whole, restored = Costs(), Costs()
    for number, completion in enumerate(completions):
        if number == cut:
            restored = msgspec.msgpack.decode(msgspec.msgpack.encode(restored), type=Costs)
        whole.learn(*completion)
        restored.learn(*completion)
    assert msgspec.msgpack.encode(restored) == msgspec.msgpack.encode(whole)


@given(unit=st.floats(0.1, 10.0), seed=st.integers(0, 50))
def test_costs_in_another_unit_give_predictions_in_that_unit(unit: float, seed: int) -> None:
    plain, scaled = Costs(), Costs()
    for _, work in zip(range(30), pictures(seed), strict=False):
        plain.learn("m", "w", work, Spent(true_s(LAWS[1], work), None, 0.0))
        scaled.learn("m", "w", work, Spent(true_s(LAWS[1], work) * unit, None, 0.0))
    asked = picture(25, 896)
    assert scaled.predict("m", "w", asked).run_s == pytest.approx(
        plain.predict("m", "w", asked).run_s * unit, rel=1e-6
    )


def test_a_known_model_takes_150_bytes_of_a_snapshot() -> None:
    assert len(msgspec.msgpack.encode(taught(100))) < 150


def diagonal(entry: Learned) -> tuple[float, float, float]:
    return entry.information[0], entry.information[3], entry.information[5]
