"""How fast a key may submit: so many jobs in any minute, counted in memory.

A restart forgets the last minute. What must be exact, how many jobs may wait, is decided under the log's lock.
"""

from __future__ import annotations

import math
import time
from functools import cached_property
from typing import TYPE_CHECKING

from events.keys import Limits
from service.refusals import LimitReached

if TYPE_CHECKING:
    from limits.strategies import MovingWindowRateLimiter


class RateLimits:
    """The submissions of the last minute, by submitter."""

    @cached_property
    def _limiter(self) -> MovingWindowRateLimiter:
        # 60 ms of imports, which a service whose keys have no such limit need not wait for
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        return MovingWindowRateLimiter(MemoryStorage())

    def check(self, submitter: str, limits: Limits, jobs: int) -> None:
        """Count `jobs` submissions, or refuse them and count none when they are more than the key may have."""
        most = limits.jobs_per_minute
        if most is None:
            return
        from limits import RateLimitItemPerMinute

        item = RateLimitItemPerMinute(max(most, 1))
        if most > 0 and self._limiter.hit(item, submitter, cost=jobs):
            return
        reset_at, remaining = self._limiter.get_window_stats(item, submitter)
        wait_s = max(1, math.ceil(reset_at - time.time()))
        raise LimitReached("submissions a minute", most - remaining, most, wait_s)
