"""What waits to be sent to the service, and in which order.

Control words first, then the journal's numbered messages in order, then the newest progress of each
attempt, then its newest preview. The next message is chosen only when the one before has left, so nothing
ever waits behind more than one preview.
"""

from __future__ import annotations

import asyncio
from collections import deque

from service.protocol import Accept, Beat, Decline, Drain, FromWorker, Preview, Progress, Ready, Reported
from service.worker.journal import Journal

Control = Ready | Accept | Decline | Beat | Drain


class Outbox:
    """The outgoing side of the agent, over all sessions. Closed between them: then only the journal grows."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._is_open = False
        self._sent = 0  # highest number that was sent in this session
        self._control: deque[Control] = deque()
        self._numbered: deque[Reported] = deque()
        self._progress: dict[tuple[str, int], Progress] = {}
        self._previews: dict[tuple[str, int], Preview] = {}
        self._woken = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._is_open

    def open(self) -> None:
        """Begin a session: everything unacknowledged in the journal is due again."""
        self._is_open, self._sent = True, 0
        self._woken.set()

    def close(self) -> None:
        """End a session: what may be lost is dropped."""
        self._is_open = False
        for waiting in (self._control, self._numbered, self._progress, self._previews):
            waiting.clear()

    def say(self, word: Control) -> None:
        """Send `word` before everything that is not control; dropped without a session."""
        if self._is_open:
            self._control.append(word)
            self._woken.set()

    def report(self, message: Reported) -> None:
        """Journal a numbered message and have it sent, now or in a later session, once it is durable."""
        self._journal.write(message)
        self._woken.set()

    def progress(self, progress: Progress) -> None:
        """Send this in place of an older one that still waits; dropped without a session."""
        if self._is_open:
            self._progress[(progress.job, progress.attempt)] = progress
            self._woken.set()

    def preview(self, preview: Preview) -> None:
        """As `progress`."""
        if self._is_open:
            self._previews[(preview.job, preview.attempt)] = preview
            self._woken.set()

    def forget(self, job: str, attempt: int) -> None:
        """Send nothing more of an attempt that is over or dropped, the journal apart."""
        self._progress.pop((job, attempt), None)
        self._previews.pop((job, attempt), None)
        self._numbered.clear()  # read again from the journal, which knows what was dropped

    async def next(self) -> FromWorker:
        """The next message to send; waits until there is one."""
        while (message := self._take()) is None:
            self._woken.clear()
            await self._woken.wait()
        return message

    def _take(self) -> FromWorker | None:
        if not self._is_open:
            return None
        if self._control:
            return self._control.popleft()
        if not self._numbered:
            self._numbered.extend(self._journal.after(self._sent))
        if self._numbered:
            self._journal.sync()  # here and not in `report`: what was written together is synced together
            self._sent = self._numbered[0].number
            return self._numbered.popleft()
        for waiting in (self._progress, self._previews):
            if waiting:
                return waiting.pop(next(iter(waiting)))
        return None
