"""The thread that outbox and courier live in: nothing of a delivery is done in the thread that answers.

Committed records are handed over a few times a second, all at once; whoever reads deliveries has them handed over
now. What is not in memory any more after a crash is read from the log.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import apsw

from events.envelope import Record
from events.jobs import JobSubmitted
from service.commands import Command
from service.handle import Handler, ViewsBehind
from service.webhooks.courier import Courier, Send
from service.webhooks.outbox import Outbox

HAND_OVER_S = 0.05
"""Records of so long are handed over together: the outbox may be that late, the answering thread is spared."""

logger = logging.getLogger("safelight.webhooks")


class WebhookOffice:
    """Owns the thread. All of it is called from the service's event loop."""

    def __init__(
        self,
        path: Path,
        handler: Handler,
        send: Send,
        *,
        clock: Callable[[], int],
        chance: Callable[[], float],
        callback_of: Callable[[Record, JobSubmitted], str | None],
    ) -> None:
        """Open the outbox at `path` and begin to deliver; the other arguments as Courier and Outbox have them."""
        self._handler = handler
        self._main = asyncio.get_running_loop()
        self._heard: list[Record] = []
        self._handing: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._outbox = Outbox(path, handler.log, callback_of)
        self._courier = Courier(self._outbox, send, self._tell, clock=clock, chance=chance)
        self._loop = asyncio.new_event_loop()
        self._running = self._loop.create_task(self._courier.run())
        self._thread = threading.Thread(target=self._run, name="safelight-webhooks", daemon=True)
        self._thread.start()
        handler.listen(self._hear)

    def reader(self) -> apsw.Connection:
        """This thread's own read-only connection to the outbox."""
        return self._outbox.reader()

    async def shown(self) -> None:
        """Return once the outbox shows what is durable now. Raises ViewsBehind while it cannot be written."""
        position = self._handler.log.head()
        await asyncio.wrap_future(self._hand_over())
        if self._outbox.position < position:
            raise ViewsBehind(f"the outbox stands at {self._outbox.position} of {position} and cannot be written")

    async def close(self) -> None:
        """End what is on its way and let go of the file. What was not delivered stays owed."""
        self._is_closed = True
        if self._handing is not None:
            self._handing.cancel()
        self._loop.call_soon_threadsafe(self._running.cancel)
        await asyncio.to_thread(self._thread.join)
        self._outbox.close()

    # the service's event loop

    def _hear(self, records: Sequence[Record]) -> None:
        self._heard.extend(records)
        if self._handing is None and not self._is_closed:
            self._handing = self._main.call_later(HAND_OVER_S, self._hand_over)

    def _hand_over(self) -> Future[None]:
        if self._handing is not None:
            self._handing.cancel()
            self._handing = None
        heard, self._heard = self._heard, []
        return asyncio.run_coroutine_threadsafe(self._take_in(heard), self._loop)

    async def _ask(self, command: Command) -> None:
        await self._handler.ask(command, actor="outbox", cause="delivery")

    # the thread

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._running)
        self._loop.close()

    async def _take_in(self, records: Sequence[Record]) -> None:
        try:
            self._outbox.take_in(records)
        except Exception:
            logger.exception("the outbox could not take in what was committed; the courier tries again")
        self._courier.wake()

    async def _tell(self, command: Command) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._ask(command), self._main))
