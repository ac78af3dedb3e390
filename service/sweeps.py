"""What time alone causes: jobs become due, deadlines pass, old jobs leave the views."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from events.log import LogReader
from projections.job_queries import finished_beyond, has_finished_through
from service import commands as ask
from service.handle import Handler

SWEEP = 256
"""Jobs moved on in one commit."""

RETENTION_S = 60.0
"""Seconds between two looks at what is too old."""

logger = logging.getLogger("safelight.sweeps")


class Sweeps:
    """Call `tick` every half second or so."""

    def __init__(self, handler: Handler, *, clock: Callable[[], int]) -> None:
        """`clock` gives UTC microseconds."""
        self._handler = handler
        self._clock = clock
        self._sweeping: asyncio.Future[None] | None = None
        self._pruned_at_us = 0

    def tick(self) -> None:
        """Begin what is due, unless it is under way."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.ensure_future(self._sweep())

    async def close(self) -> None:
        """Let what is under way end."""
        if self._sweeping is not None:
            await asyncio.gather(self._sweeping, return_exceptions=True)

    async def _sweep(self) -> None:
        try:
            while self._is_due():
                await self._ask(ask.Sweep(limit=SWEEP))
            if self._clock() - self._pruned_at_us >= RETENTION_S * 1e6:
                self._pruned_at_us = self._clock()
                await self._prune()
        except Exception as error:  # a full disk, views that cannot be read: the next tick tries again
            logger.warning("what time has brought was not kept (%s); trying again", error)

    def _is_due(self) -> bool:
        timers = self._handler.state.timers
        return bool(timers) and timers[0][0] <= self._clock()

    async def _prune(self) -> None:
        await self._handler.shown()
        for queue in list(self._handler.state.queues.values()):
            through = await asyncio.to_thread(self._too_old, queue.name, queue.rules.keep_s, queue.rules.keep_jobs)
            if through > queue.pruned_through:
                await self._ask(ask.PruneQueue(queue=queue.name, through=through))

    def _too_old(self, queue: str, keep_s: float | None, keep_jobs: int | None) -> int:
        """The position through which finished jobs have been kept long enough; 0 when there are none."""
        reader = self._handler.views.reader()
        through = 0
        if keep_jobs is not None:
            through = finished_beyond(reader, queue, keep_jobs)
        if keep_s is not None:
            through = max(through, newest_before(self._handler.log, self._clock() - round(keep_s * 1e6)))
        return through if has_finished_through(reader, queue, through) else 0

    async def _ask(self, command: ask.Command) -> None:
        await self._handler.ask(command, actor="sweep", cause="time")


def newest_before(log: LogReader, at_us: int) -> int:
    """The newest position recorded at `at_us` or before, 0 when there is none: time never falls along the log."""
    low, high = 0, log.head()
    while low < high:
        middle = (low + high + 1) // 2
        if log.read(middle - 1, 1)[0].at_us <= at_us:
            low = middle
        else:
            high = middle - 1
    return low
