"""An event loop whose time passes only when everybody waits: a day of waiting takes no time at all."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
START_US = 1_800_000_000_000_000
"""UTC microseconds at which every simulation begins."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; with nothing ready, the time of the next timer is now."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Leap(self))

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.now_s

    def utc_us(self) -> int:
        """The same as an instant."""
        return START_US + int(self.now_s * 1e6)


class _Leap(selectors.SelectSelector):
    """Where a loop waits for files, time passes. No file ever has anything: nothing here is outside of the loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing, `timeout` later."""
        assert timeout is not None, "everybody waits, and nobody for a time"
        self._loop.now_s += max(0.0, timeout)
        return []


def play(work: Coroutine[Any, Any, T], seed: int) -> T:
    """The result of `work` in virtual time; the same one for the same seed."""
    kept = random.getstate()
    random.seed(seed)  # the pauses between a worker's tries to connect
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(_watched(work))
    finally:
        random.setstate(kept)


async def _watched(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, unless something breaks beside it: then that is raised, and nobody waits in vain."""
    working = asyncio.ensure_future(work)
    broken: list[BaseException] = []

    def breaks(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        broken.append(context.get("exception") or AssertionError(context["message"]))
        working.cancel()

    asyncio.get_running_loop().set_exception_handler(breaks)
    await asyncio.wait([working])
    if broken:
        raise broken[0]
    return working.result()


def clock() -> VirtualLoop:
    """The loop that runs now."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
