"""How good predictions were, and what they could not know: bounds, the share that was right, overtaking.

The bound is split conformal prediction (Lei et al., Distribution-Free Predictive Inference for Regression,
JASA 2018, section 2.2) over a sliding window, because jobs and machines drift. Deterministic: instants are
arguments. Part of live state and its snapshots, like projections/costs.py, whose numbers are judged here.
"""

from __future__ import annotations

import math
from functools import cached_property

import msgspec

WINDOW_JOBS = 200
CONFIDENCE = 0.9
FEWEST_JOBS = 9  # below, the conformal rank ceil((n + 1) * 0.9) lies beyond the largest ratio seen
FALLBACK_FACTOR = 2.0  # while nothing is known; the bound at 50 % noise would be exp(1.28 * 0.5) = 1.9
LEAST_RATIO, LARGEST_RATIO = 0.01, 100.0
WITHIN = 0.2
SMALLEST_BUCKET, LARGEST_BUCKET = -2, 14  # below 0.5 s and from 4.5 h on sizes are not told apart
MAX_KEYS = 48  # tiers and (tier, bucket) pairs, the least recently used go; 1.8 KB each when full
MEMORY_S = 600.0  # of the inflow: long enough for some jobs of minutes, short enough to follow an evening
MAX_OVERTAKING = 0.9
ALL = ""


class Ratios(msgspec.Struct, array_like=True, dict=True):
    """The last 200 values of actual / predicted, oldest first, each 0.01..100."""

    last: list[float] = []

    def add(self, ratio: float) -> None:
        """Take in one more, and let the oldest go."""
        self.last.append(ratio)
        del self.last[:-WINDOW_JOBS]
        self.__dict__.pop("bound", None)

    @cached_property
    def bound(self) -> float | None:
        """What the next ratio stays below nine times in ten; None when there are too few to tell. Not stored."""
        if len(self.last) < FEWEST_JOBS:
            return None
        return sorted(self.last)[math.ceil((len(self.last) + 1) * CONFIDENCE) - 1]


class Inflow(msgspec.Struct, array_like=True):
    """Seconds of devices asked for, each fading with its age: the sum as of `at_us` (UTC, microseconds)."""

    gpu_s: float
    at_us: int

    def faded(self, at_us: int) -> float:
        """The sum at a later instant; an earlier one counts as the same."""
        age_s = max(0, at_us - self.at_us) / 1e6
        return self.gpu_s * math.exp(-age_s / MEMORY_S)


class Accuracy(msgspec.Struct):
    """What came of predictions made at submit. A `tier` is a class of priority, higher goes first."""

    ratios: dict[str, Ratios] = {}  # "" for all, "<tier>", "<tier>/<bucket>"; least recently used first
    inflow: dict[int, Inflow] = {}  # by tier

    def learn(self, tier: int, predicted_s: float, actual_s: float) -> None:
        """Take in a job that ended well: seconds from submit to its end as first predicted (> 0), and as it was.

        Not for jobs that a person held, edited, moved or retried, or whose queue was paused: that was no error.
        """
        ratio = min(max(actual_s / predicted_s, LEAST_RATIO), LARGEST_RATIO)
        for key in (_pair(tier, predicted_s), str(tier), ALL):
            ratios = self.ratios.pop(key, None) or Ratios()
            ratios.add(ratio)
            self.ratios[key] = ratios
        while len(self.ratios) > MAX_KEYS:
            del self.ratios[next(iter(self.ratios))]

    def p90_factor(self, tier: int, predicted_s: float) -> float:
        """By what to multiply a prediction so that nine jobs in ten end before; at least 1.

        Of jobs of the same tier and size when there are enough, else of the tier, of all, else 2.
        """
        for key in (_pair(tier, predicted_s), str(tier), ALL):
            ratios = self.ratios.get(key)
            if ratios is not None and ratios.bound is not None:
                return max(1.0, ratios.bound)
        return FALLBACK_FACTOR

    def share_within(self) -> float | None:
        """The share, 0..1, of the last 200 jobs predicted within 20 % of the actual time; None for no jobs."""
        known = self.ratios.get(ALL)
        if known is None:
            return None
        good = sum(1 - WITHIN <= 1 / ratio <= 1 + WITHIN for ratio in known.last)
        return good / len(known.last)

    def arrived(self, tier: int, gpu_s: float, at_us: int) -> None:
        """Count a submission that will take `gpu_s` seconds of a device."""
        before = self.inflow.get(tier)
        if before is None:
            self.inflow[tier] = Inflow(gpu_s, at_us)
        else:
            self.inflow[tier] = Inflow(before.faded(at_us) + gpu_s, max(at_us, before.at_us))

    def overtaking(self, tier: int, at_us: int, workers: int) -> float:
        """The share, 0..0.9, of the workers' time that higher tiers ask for; a wait is divided by 1 - this.

        From the rate of the last ten minutes: what comes while a job waits is not in line yet.
        """
        higher_s = sum(inflow.faded(at_us) for other, inflow in self.inflow.items() if other > tier)
        return min(higher_s / MEMORY_S / max(1, workers), MAX_OVERTAKING)


def _pair(tier: int, predicted_s: float) -> str:
    bucket = min(max(math.frexp(predicted_s)[1] - 1, SMALLEST_BUCKET), LARGEST_BUCKET)
    return f"{tier}/{bucket}"
