"""Estimates, fairness and leases in a simulated machine room: the real rules, a day in seconds (tests/simulation).

What is played: clock, network, the GPU child (true cost law, lognormal noise) and the disk under the log. The
figures do not depend on the machine that runs this; the same seed gives the same figure.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import Bar, Row, figure
from tests.simulation.fairness import fairness
from tests.simulation.outages import outages
from tests.simulation.promises import promises

JOBS = 1500
SEEDS = range(201, 211)  # nothing was tuned on these
HOURS = 24.0
LOAD = 0.4

ROOMS = (
    ("1 worker", {"machines": 1}, 90.0),
    ("2 workers", {"machines": 2}, 90.0),
    ("4 workers", {"machines": 4}, 90.0),
    ("2 workers, 10 % high priority", {"machines": 2, "high": 0.1}, 75.0),
    ("2 workers, 30 % high priority", {"machines": 2, "high": 0.3}, 70.0),
    ("1 worker, 25 % noise", {"machines": 1, "noise": 0.25}, None),
)


def rows(quick: bool) -> list[Row]:
    """All three subjects; quick ones are short and have no bars."""
    return [*_estimates(quick), *_fairness(quick), *_leases(quick)]


def _estimates(quick: bool) -> Iterator[Row]:
    for where, room, least in ROOMS[:1] if quick else ROOMS:
        seen = [
            promises(200 if quick else JOBS, load=LOAD, seed=seed, **room)  # type: ignore[arg-type]
            for seed in (SEEDS[:1] if quick else SEEDS)
        ]
        busy = sum(one.busy for one in seen) / len(seen)
        yield Row(
            name=f"estimates at submit within 20 %, {where}",
            unit="%",
            ours=figure([100 * one.share_within for one in seen]),
            bar=Bar(least, is_floor=True) if least is not None and not quick else None,
            note=f"devices busy for {busy:.0%} of the time; all jobs, the first included",
        )
        below = figure([100 * one.share_below_p90 for one in seen])
        yield Row(
            name="  done before their p90", unit="%", ours=below, bar=None if quick else Bar(85, is_floor=True)
        )
        yield Row(name="  and not nearly all of them", unit="%", ours=below, bar=None if quick else Bar(95))


def _fairness(quick: bool) -> Iterator[Row]:
    seen, plain = (fairness(policy, 1.0 if quick else HOURS) for policy in ("fair", "fifo"))
    shares = {name: f"{name} {share:.1%}" for name, share in sorted(seen.shares.items())}
    off = max(abs(100 * seen.shares[name] - 47) for name in "AC")
    yield Row(
        name="fair queue: A's and C's share of GPU time, farthest from 47 %",
        unit="points",
        ours=figure([off]),
        bar=None if quick else Bar(2.0),
        note=", ".join(shares.values()),
    )
    yield Row(
        name="fair queue: wait of who asks for little, p50",
        unit="s",
        ours=figure([seen.wait_p50_s]),
        baseline=figure([plain.wait_p50_s]),
        baseline_is="fifo queue",
        bar=None if quick else Bar(25.0),
        note=f"p95 {seen.wait_p95_s:.0f} s, fifo {plain.wait_p95_s:,.0f} s",
    )


def _leases(quick: bool) -> Iterator[Row]:
    seen = [outages(1.0 if quick else HOURS, seed=seed) for seed in (SEEDS[:1] if quick else SEEDS[:3])]
    crashes, cuts, restarts = (sum(getattr(one, kind) for one in seen) for kind in ("crashes", "cuts", "restarts"))
    yield Row(
        name="GPU time wasted by crashes, cuts and restarts",
        unit="%",
        ours=figure([100 * one.waste for one in seen]),
        bar=None if quick else Bar(1.0),
        note=f"8 workers; {crashes} crashes, {cuts} cuts, {restarts} restarts of the service in all",
    )
    yield Row(
        name="  runs for the second time, of 1,000 jobs",
        unit="",
        ours=figure([1000 * one.second_runs / one.jobs for one in seen]),
        note=f"{sum(one.adopted for one in seen)} adopted",
    )
    yield Row(
        name="  jobs without a result, or computed twice under valid tokens",
        unit="",
        ours=figure([float(one.jobs - one.completed + len(one.violations)) for one in seen]),
        bar=Bar(0.0),
        note=f"of {sum(one.jobs for one in seen):,} jobs",
    )
