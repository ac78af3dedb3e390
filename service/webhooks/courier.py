"""Delivers what the outbox owes: tries what is due, keeps how it went, tells the log how it ended.

At most PER_LANE requests to one endpoint and MAX_ON_WAY in all are on their way, so that one that hangs delays
nobody but itself. It runs in one event loop; time, chance, the network and the log are given to it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from service.commands import Command, SettleDelivery
from service.webhooks.answer import Answer
from service.webhooks.outbox import Attempt, Due, Outbox, ToTell, Verdict
from service.webhooks.schedule import asked_pause_s, next_attempt
from service.webhooks.signing import signed_headers

PER_LANE = 4
MAX_ON_WAY = 128

RETRY_S = 5.0
"""Pause after the outbox could not be written or the log not be told."""

KEEP_US = 30 * 24 * 3600 * 1_000_000
"""How long a delivery that has ended can be read and sent again."""

PRUNE_US = 3600 * 1_000_000

Send = Callable[[str, dict[str, str], bytes], Awaitable[Answer]]
Tell = Callable[[Command], Awaitable[object]]
logger = logging.getLogger("safelight.webhooks")


class Courier:
    """Brings an outbox's deliveries to their endpoints until it is cancelled."""

    def __init__(
        self, outbox: Outbox, send: Send, tell: Tell, *, clock: Callable[[], int], chance: Callable[[], float]
    ) -> None:
        """`clock` gives UTC microseconds, `chance` a number from 0 to below 1; `tell` asks the log a command."""
        self._outbox = outbox
        self._send = send
        self._tell = tell
        self._clock = clock
        self._chance = chance
        self._on_way: dict[str, asyncio.Task[None]] = {}
        self._telling: asyncio.Task[None] | None = None
        self._pruned_at_us = 0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look what is due now."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver, without end. What is on its way when it is cancelled is sent again by the next run."""
        try:
            while True:
                self._wake.clear()
                try:
                    self._step()
                    rest_s = self._rest_s()
                except Exception:
                    logger.exception("the outbox cannot be used; trying again")
                    await asyncio.sleep(RETRY_S)
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), rest_s)
        finally:
            tasks = [*self._on_way.values(), *([self._telling] if self._telling else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _step(self) -> None:
        self._outbox.catch_up()  # there is something only where it could not be taken in when it came
        now_us = self._clock()
        for due in self._outbox.due(now_us, self._on_way, PER_LANE)[: MAX_ON_WAY - len(self._on_way)]:
            self._on_way[due.id] = asyncio.create_task(self._deliver(due))
        if self._telling is None and self._outbox.to_tell(1):
            self._telling = asyncio.create_task(self._tell_log())
        if now_us - self._pruned_at_us >= PRUNE_US:
            self._pruned_at_us = now_us
            self._outbox.prune(now_us - KEEP_US)

    def _rest_s(self) -> float | None:
        """Seconds until something more is due; what is due already waits for one on its way to end."""
        now_us = self._clock()
        at_us = self._outbox.next_at_us(now_us)
        return None if at_us is None else (at_us - now_us) / 1_000_000

    async def _deliver(self, due: Due) -> None:
        try:
            began_us, began_s = self._clock(), time.perf_counter()
            answer = await self._try(due, began_us)
            attempt = Attempt(
                at_us=began_us,
                duration_ms=round(1000 * (time.perf_counter() - began_s)),
                status=answer.status,
                error=answer.error or answer.text or None,
            )
            self._outbox.record(due, attempt, verdict(due, answer, began_us, self._clock(), self._chance()))
        except Exception:
            logger.exception("how delivery %s went could not be kept; sending it again", due.id)
            await asyncio.sleep(RETRY_S)
        finally:
            del self._on_way[due.id]
            self.wake()

    async def _try(self, due: Due, now_us: int) -> Answer:
        endpoint = self._outbox.endpoint(due)
        if endpoint is None:
            return Answer(error="the webhook was removed")
        try:
            body = self._outbox.body(due)
            headers = signed_headers(endpoint.secrets_at(now_us), due.id, now_us // 1_000_000, body)
            return await self._send(endpoint.url, headers, body)
        except Exception:  # a fault of ours is an attempt too: it must not be tried without pause and end
            logger.exception("delivery %s could not be sent", due.id)
            return Answer(error="the service failed to send it; its log says why")

    async def _tell_log(self) -> None:
        """Have the log say how deliveries ended; it does so once, however often it is told."""
        try:
            while ended := self._outbox.to_tell(PER_LANE * MAX_ON_WAY):
                await asyncio.gather(*(self._tell(_settled(said)) for said in ended))
                for said in ended:
                    self._outbox.told(said)
        except Exception as error:
            logger.warning("the log could not be told how deliveries ended (%s); trying again", error)
            await asyncio.sleep(RETRY_S)
        finally:
            self._telling = None
            self.wake()


def verdict(due: Due, answer: Answer, began_us: int, now_us: int, chance: float) -> Verdict:
    """What follows from an answer: 2xx delivers, 410 ends the endpoint, anything else is tried again for a day."""
    if answer.status is not None and 200 <= answer.status < 300:
        return Verdict("delivered")
    if answer.status == 410:
        return Verdict("gone")
    if due.type == "webhook-pinged":  # a test is of now
        return Verdict("gave-up")
    asked_s = asked_pause_s(answer.retry_after, now_us) if answer.status in (429, 503) else 0.0
    at_us = next_attempt(
        due.tries + 1,
        first_at_us=due.first_at_us or began_us,
        now_us=now_us,
        random=chance,
        asked_s=asked_s,
    )
    return Verdict("gave-up") if at_us is None else Verdict(None, at_us)


def _settled(said: ToTell) -> SettleDelivery:
    return SettleDelivery(
        webhook=said.endpoint, delivery=said.id, round=said.round, attempts=said.attempts, outcome=said.outcome
    )
