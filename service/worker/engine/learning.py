"""How many rows a call should have, learned from how long calls took.

More rows in a call are worth their latency only while they raise throughput, and where that ends differs by model,
size and device: small pictures gain two thirds from eight rows, a large model at 1024 x 1024 gains nothing from
two (docs/worker.md). So sizes are tried gradually, each at most twice the best one known, and the smallest is kept
whose throughput is near the best. A size that ran out of memory is never tried again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Mapping
from statistics import median
from typing import Any, NamedTuple, Protocol

KEPT = 15
"""Newest times kept of a size. The least is its time: what else a device has to do only ever adds to it."""

STALE = 400
"""Calls after which a size that was not made since is forgotten: one measured in a bad moment, or while the device
had other users, is tried again."""

TRIED = 3
"""Calls after which a size counts as tried."""

NEAR = 0.95
"""Share of the best throughput that is good enough for fewer rows, each of which has its answer sooner."""

FIRST = 2
"""Rows of the first try: one job with guidance."""


class Sized(Protocol):
    """What is looked at of a call."""

    @property
    def key(self) -> Any:
        """Equal for calls that take equally long."""

    @property
    def rows(self) -> int:
        """Samples in it."""


class Size(NamedTuple):
    """What is remembered of a call."""

    key: Any
    rows: int


class Curve:
    """What is known of calls of one key: rows -> newest seconds of a call."""

    def __init__(self) -> None:
        self.seconds: dict[int, deque[float]] = {}
        self.ceiling: int | None = None  # rows that surely fit, once some did not
        self._calls = 0
        self._made: dict[int, int] = {}  # rows -> number of the newest call of so many

    def took(self, rows: int, seconds: float) -> None:
        """Note a call of so many rows."""
        self.seconds.setdefault(rows, deque(maxlen=KEPT)).append(seconds)
        self._calls += 1
        self._made[rows] = self._calls
        for old in [size for size, call in self._made.items() if self._calls - call > STALE]:
            del self.seconds[old], self._made[old]

    def too_many(self, rows: int) -> None:
        """Note that so many rows did not fit: half of them is the most from now on."""
        least = max(1, rows // 2)
        self.ceiling = least if self.ceiling is None else min(self.ceiling, least)

    def most_rows(self, standing: int = 0) -> int:
        """The rows to give a call at most, when so many stand ready.

        All of them where one call takes no longer than one of the good size and another of the rest: who is left
        over is served, too.
        """
        tried = {rows: min(times) for rows, times in self.seconds.items() if len(times) >= TRIED}
        if not tried:
            most = max(self.seconds, default=FIRST)
        else:
            best = max(rows / seconds for rows, seconds in tried.items())
            good = min(rows for rows, seconds in tried.items() if rows / seconds >= NEAR * best)
            most = 2 * good if good == max(tried) else good
            if most < standing <= max(tried) and _between(tried, standing) <= (
                _between(tried, most) + _between(tried, standing - most)
            ):
                most = standing
        return most if self.ceiling is None else min(most, self.ceiling)


def _between(seconds: Mapping[int, float], rows: int) -> float:
    """The seconds of a call of so many rows, on straight lines through those that are known."""
    sizes = sorted(seconds)
    index = bisect_left(sizes, rows)
    if index == len(sizes):
        return seconds[sizes[-1]] * rows / sizes[-1]
    if sizes[index] == rows or index == 0:
        return seconds[sizes[index]]
    low, high = sizes[index - 1], sizes[index]
    return seconds[low] + (seconds[high] - seconds[low]) * (rows - low) / (high - low)


class Learned:
    """Curves by key."""

    def __init__(self) -> None:
        self.curves: dict[Hashable, Curve] = {}

    def most_rows(self, call: Sized, standing: int = 0) -> int:
        """The rows that a call like this one should have at most, when so many stand ready for it; never less than
        it has by itself."""
        return max(call.rows, self._curve(call).most_rows(standing))

    def took(self, call: Sized, rows: int, seconds: float) -> None:
        """A call like this one, of so many rows, took so long."""
        if call.key is not None:
            self._curve(call).took(rows, seconds)

    def alone_s(self, call: Sized) -> float | None:
        """Seconds that a call like this one usually takes by itself; None when none has been seen."""
        times = self.curves[call.key].seconds.get(call.rows) if call.key in self.curves else None
        return median(times) if times else None

    def too_many(self, call: Sized, rows: int) -> None:
        """A call like this one, of so many rows, ran out of memory."""
        if call.key is not None:
            self._curve(call).too_many(rows)

    def _curve(self, call: Sized) -> Curve:
        return self.curves.setdefault(call.key, Curve())
