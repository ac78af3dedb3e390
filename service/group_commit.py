"""Who waits for the log together commits together, and the event loop waits for no slow disk.

What is asked within one turn of the loop goes to the log's thread as a group, and whatever has gathered there
while a commit ran shares the next one. When nobody else waits and commits are quicker than going to that thread
and back, the loop commits by itself.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec

from events.envelope import Record
from events.log import Asked, Committed, Log, LogClosed, State

MAX_GROUP = 256
"""Decisions in one commit: beyond it the loss of latency outgrows the fsync saved (docs/performance.md)."""

QUICK_S = 0.0005
"""A commit that takes less is made in the event loop: the two hand-overs that it saves are a third of such a one.
Measured in the thread a commit takes a little longer, which must not keep it there."""

ALONE = 1.5
"""Decisions in a typical commit below which those who ask are taken to ask one at a time: with more of them, each
committed alone in the loop would wait for the one before instead of sharing its commit."""

MAX_QUICK = 4
"""Records of a decision that may be made there: a batch of a thousand takes the thread 20 ms."""

SMOOTHING = 0.2
"""Weight of the newest commit in the typical one. A slow one counts for at most twice QUICK_S: one stall is no slow
disk, but after three in a row commits go to the thread, and come back when they have been quick again."""

Answer = asyncio.Future[list[Record]]
T = TypeVar("T")
logger = logging.getLogger("safelight.commit")


class _Waiting(msgspec.Struct, Generic[State]):
    asked: Asked[State]
    answer: Answer


class GroupCommit(Generic[State]):
    """Commits for an event loop. All of it is used in that loop; only the thread's part runs in its thread."""

    def __init__(
        self,
        log: Log[State],
        take_in: Callable[[Sequence[Record]], None],
        hand_on: Callable[[Sequence[Record]], None],
        *,
        quick_s: float = QUICK_S,
    ) -> None:
        """Both are called in the loop with the records of each commit: `take_in` before their callers are
        answered, `hand_on` once the callers have gone on.

        Commits that take less than `quick_s` seconds may be made in the loop.
        """
        self._log = log
        self._take_in = take_in
        self._hand_on = hand_on
        self._quick_s = quick_s
        self._commit_s = quick_s  # a typical commit, seconds; the first ones are made in the thread
        self._together = 1.0  # decisions in a typical commit
        self._asked: list[_Waiting[State]] = []  # in this turn of the loop
        self._handed: deque[_Waiting[State]] = deque()  # to the thread
        self._errands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()  # of the thread
        self._in_hand = 0  # decisions and errands that the thread has not brought back: while 0 it is idle
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="safelight-log", daemon=True)
        self._thread.start()

    def ask(self, asked: Asked[State]) -> Answer:
        """Decide in the order of the calls. The future gives the records once they are durable, or raises what the
        decision raised, or the LogError for which nothing of it was kept."""
        answer: Answer = self._loop.create_future()
        if self._is_closed:
            answer.set_exception(LogClosed("the service is shutting down; ask again later"))
            return answer
        self._asked.append(_Waiting(asked, answer))
        if len(self._asked) == 1:
            self._loop.call_soon(self._hand_over)
        return answer

    def between(self, errand: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run `errand` in the thread while no commit runs, then `then` with what it gave in the loop."""
        self._in_hand += 1
        self._errands.put(lambda: self._wake(self._come_back, then, errand()))

    async def close(self) -> None:
        """Finish what was asked and let the thread end."""
        self._is_closed = True
        self._hand_over()
        self._errands.put(None)
        await asyncio.to_thread(self._thread.join)

    # the event loop

    def _hand_over(self) -> None:
        group, self._asked = self._asked, []
        is_alone = len(group) == 1 and self._in_hand == 0 and self._together < ALONE
        if is_alone and group[0].asked.many <= MAX_QUICK and self._commit_s < self._quick_s:
            self._answer(group, self._commit(group))
            return
        self._in_hand += len(group)
        self._handed.extend(group)
        self._errands.put(self._commit_handed)

    def _bring_back(self, group: Sequence[_Waiting[State]], committed: Committed) -> None:
        self._in_hand -= len(group)
        self._answer(group, committed)

    def _come_back(self, then: Callable[[T], None], gave: T) -> None:
        self._in_hand -= 1
        then(gave)

    def _answer(self, group: Sequence[_Waiting[State]], committed: Committed) -> None:
        if committed.records:
            self._take_in(committed.records)
        for waiting, outcome in zip(group, committed.outcomes, strict=True):
            if waiting.answer.done():
                continue  # its caller has left
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
        if committed.records:
            self._loop.call_soon(self._hand_on, committed.records)  # behind the callers who were woken above

    # the thread

    def _run(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand()

    def _commit_handed(self) -> None:
        """Everybody who waits now, up to MAX_GROUP at a time: they share a commit."""
        while self._handed:
            group = [self._handed.popleft() for _ in range(min(len(self._handed), MAX_GROUP))]
            self._wake(self._bring_back, group, self._commit(group))

    def _commit(self, group: Sequence[_Waiting[State]]) -> Committed:
        began = time.perf_counter()
        committed = self._log.commit([waiting.asked for waiting in group])
        took_s = min(time.perf_counter() - began, 2 * self._quick_s)
        self._commit_s += SMOOTHING * (took_s - self._commit_s)
        self._together += SMOOTHING * (len(group) - self._together)
        return committed

    def _wake(self, act: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the loop is gone: what is committed stays committed
            self._loop.call_soon_threadsafe(act, *values)
