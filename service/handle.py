"""Ask, decide, append, fold, publish: how a command becomes durable and visible.

The event loop keeps its own live state from what was committed, answers the callers and tells the listeners;
the folder, a thread, brings the views up, some milliseconds of commits at once. Whoever reads the views has them
folded now and waits until they show all that was durable when it came (`shown`), so that a client always reads
its own writes and whatever it was told of, and nobody who writes waits for views.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from events.envelope import Record
from events.log import Asked, LogReader, Request
from events.sqlite import SqliteLog
from projections.live import LiveState
from projections.store import Snapshot, ViewStore, read_snapshot
from service.commands import Command
from service.decisions.decide import decide
from service.group_commit import Answer, GroupCommit
from service.tasks.catalog import Catalog

SNAPSHOT_EVERY = 10_000
"""Events between two snapshots of live state: a start folds at most that many (about 0.1 s)."""

FOLD_S = 0.02
"""What is committed within so many seconds is folded at once, unless somebody reads sooner: folded after each
commit, views took a fifth of a submission's time from the thread that answers (docs/performance.md)."""

RETRY_S = 1.0
"""Pause before views are tried again after their disk failed."""


class ViewsBehind(Exception):
    """The views cannot be written now, so nothing that is up to date can be read."""


Listener = Callable[[Sequence[Record]], None]
logger = logging.getLogger("safelight.handle")


class Handler:
    """The open log, its live state and its views."""

    def __init__(self, data: Path, *, clock: Callable[[], int], catalog: Catalog) -> None:
        """Open or create log and views in the folder `data`; `clock` gives UTC microseconds, `catalog` what can be
        generated.

        Raises LogBusy when another service has the folder.
        """
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.catalog = catalog
        self._views_path = data / "views.db"
        self._to_fold: queue.SimpleQueue[tuple[list[Record], Snapshot | None] | None] = queue.SimpleQueue()
        self._unfolded: list[Record] = []
        self._snapshot: Snapshot | None = None  # the newest that is not handed to the folder
        self._folding: asyncio.TimerHandle | None = None
        self._snapshot_at = 0  # position of the newest snapshot
        self.log: SqliteLog[LiveState] = SqliteLog(data / "log.db", restore=self._restore, clock=clock)
        self.views = ViewStore(self._views_path, self.log)
        self.state = self._state_of_loop()
        self.is_ready = True
        self._listeners: list[Listener] = []
        self._reading: deque[tuple[int, asyncio.Future[None]]] = deque()  # positions wanted, rising
        self._is_tidying = False
        self._loop = asyncio.get_running_loop()
        self._commits = GroupCommit(self.log, self._take_in, self._hand_on)
        self._ending = threading.Event()
        self._folder = threading.Thread(target=self._fold, name="safelight-views", daemon=True)
        self._folder.start()

    def listen(self, listener: Listener) -> None:
        """Have `listener` called in the event loop with every batch of records, once `state` has taken them in."""
        self._listeners.append(listener)

    def ask(self, command: Command, *, actor: str, cause: str) -> Answer:
        """Decide `command` now, in the order of the calls; the future gives its records once they are durable.

        `state` has taken them in by then. It raises the Refusal that the decision met, or LogFull when the disk
        has no room.
        """
        request = Request(actor=actor, cause=cause)
        return self._commits.ask(Asked(lambda tx: decide(tx, command, self.catalog), request, command.many))

    async def shown(self) -> None:
        """Return once every view shows what is durable now. Raises ViewsBehind while they cannot be written."""
        position = self.log.head()
        if self.views.position >= position:
            return
        if not self.is_ready:
            raise ViewsBehind(f"the views stand at {self.views.position} of {position} and cannot be written")
        shown: asyncio.Future[None] = self._loop.create_future()
        self._reading.append((position, shown))
        self._fold_now()
        await shown

    async def close(self) -> None:
        """Finish what was asked, let go of the files."""
        await self._commits.close()
        self._ending.set()
        self._fold_now()
        self._to_fold.put(None)
        await asyncio.to_thread(self._folder.join)
        self.log.close()
        self.views.close()

    # the log's thread, between commits

    def _restore(self, log: LogReader) -> LiveState:
        """Live state as of the newest snapshot of this log, or an empty one."""
        snapshot = read_snapshot(self._views_path, log)
        return msgspec.msgpack.decode(snapshot.state, type=LiveState) if snapshot else LiveState()

    def _tidy(self) -> Snapshot | None:
        """A snapshot if one is due; and a checkpoint of the log's file, which is due about as often."""
        self.log.checkpoint()
        state = self.log.state
        if not self._is_snapshot_due(state.position):
            return None
        return Snapshot(state.position, msgspec.msgpack.encode(state))

    # the folder thread

    def _fold(self) -> None:
        while (batch := self._to_fold.get()) is not None:
            self._fold_batch(*batch)
            self._wake(self._show)

    def _fold_batch(self, records: Sequence[Record], snapshot: Snapshot | None) -> None:
        """Fold until it works: the log has these records, so the views must come to show them."""
        while True:
            try:
                self.views.apply(self.log, records, snapshot)
                self.is_ready = True
                return
            except Exception:
                self.is_ready = False
                self._wake(self._give_up_readers)
                logger.exception("views could not be brought to position %d; trying again", records[-1].position)
                if self._ending.wait(RETRY_S):
                    return  # the next start folds what is missing

    # the event loop

    def _take_in(self, records: Sequence[Record]) -> None:
        for record in records:
            self.state.apply(record)
        if not self._is_tidying and (self.log.is_checkpoint_due or self._is_snapshot_due(self.state.position)):
            self._is_tidying = True
            self._commits.between(self._tidy, self._tidied)

    def _tidied(self, snapshot: Snapshot | None) -> None:
        self._is_tidying = False
        if snapshot is not None:
            self._snapshot = snapshot
            self._snapshot_at = snapshot.position

    def _is_snapshot_due(self, position: int) -> bool:
        return position - self._snapshot_at >= SNAPSHOT_EVERY

    def _hand_on(self, records: Sequence[Record]) -> None:
        self._unfolded.extend(records)
        if self._reading:
            self._fold_now()
        elif self._folding is None:
            self._folding = self._loop.call_later(FOLD_S, self._fold_now)
        for listener in self._listeners:
            listener(records)

    def _fold_now(self) -> None:
        if self._folding is not None:
            self._folding.cancel()
            self._folding = None
        if self._unfolded:
            self._to_fold.put((self._unfolded, self._snapshot))
            self._unfolded, self._snapshot = [], None

    def _show(self) -> None:
        """Let in who waited for what the views show now."""
        while self._reading and self._reading[0][0] <= self.views.position:
            _, shown = self._reading.popleft()
            if not shown.done():
                shown.set_result(None)

    def _give_up_readers(self) -> None:
        behind, self._reading = self._reading, deque()
        for position, shown in behind:
            if not shown.done():
                shown.set_exception(ViewsBehind(f"the views cannot be brought to position {position} now"))

    def _state_of_loop(self) -> LiveState:
        """The loop's own copy of live state: each thread folds what it owns, and nothing is locked."""
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self.log.state), type=LiveState)

    def _wake(self, act: Callable[..., None], *values: object) -> None:
        """Have the loop act, from another thread."""
        with suppress(RuntimeError):  # the loop is gone: log and views are what counts
            self._loop.call_soon_threadsafe(act, *values)
