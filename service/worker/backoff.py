"""Pauses between tries: doubling, bounded and jittered, so that many workers do not come back in one instant."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST_S = 0.2
MOST_S = 5.0


def pauses(first_s: float = FIRST_S, most_s: float = MOST_S) -> Iterator[float]:
    """Seconds to wait before each further try, without end: each between `first_s` and `most_s`."""
    pause_s = first_s
    while True:
        yield max(first_s, pause_s * random.uniform(0.5, 1.0))
        pause_s = min(most_s, pause_s * 2)
