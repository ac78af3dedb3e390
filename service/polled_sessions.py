"""Sessions of workers that ask over HTTP: what a socket would push waits here until it is asked for.

To the dispatcher such a session is one like any other. Its credit are the claims that wait; an offer is accepted at
once and is a lease before any claim is answered. What a worker must hear (cancel, stale) is read from live state at
every answer, so that an answer lost on the way loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from projections.live import LiveState
from service import protocol as say
from service.decisions.report import holding
from service.dispatch import Dispatcher
from service.handle import Handler
from service.refusals import FencedBoot, StaleAttempt, UnknownSession
from service.sessions import Session

MOST_CLAIMS = 1_000
"""Answered claims that a session remembers, so that a repeated one has the same answer."""

KEPT_S = 600.0
"""How long an ended session is remembered: a process that another has replaced is told so, and does not say hello
again, which would take the name back."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A job for the worker that claimed it: to be computed as `attempt` and reported under `token`."""

    job: str
    attempt: int
    token: int
    task: str
    model: str
    params: dict[str, Any]
    lease_s: float  # another worker may have it when nothing was said of it for so long


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that the worker has."""

    job: str
    attempt: int


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker is to do with attempts it has: stop those in `cancel`, forget those in `stale`."""

    cancel: list[Held]
    stale: list[Held]
    previews: bool  # whether anybody looks at them


class PolledSession:
    """One session of a worker that asks over HTTP."""

    def __init__(
        self,
        name: str,
        dispatcher: Dispatcher,
        *,
        state: Callable[[], LiveState],
        monotonic: Callable[[], float],
        closing: asyncio.Future[None],
    ) -> None:
        """`state` gives live state as it is now; once `closing` is done, no claim waits."""
        self.session = Session(id=name, send=self._hear, end=self._end)
        self.ended_at: float | None = None  # monotonic seconds
        self._dispatcher = dispatcher
        self._state = state
        self._monotonic = monotonic
        self._closing = closing
        self._welcome: say.Welcome | None = None
        self._is_fenced = False
        self._wants_previews = False
        self._asking: dict[str, asyncio.Future[Lease | None]] = {}  # claim -> who waits for its answer
        self._given: dict[str, Lease] = {}  # claim -> its answer
        self._offers: dict[str, say.Offer] = {}  # accepted and not yet leased
        self._unclaimed: deque[Lease] = deque()  # leased when nobody waited any more
        self._named_at: dict[tuple[str, int], float] = {}  # (job, attempt) -> when the worker last spoke of it

    def rules(self) -> say.Welcome:
        """The rules of this session. Refuses when it has ended."""
        if self._is_fenced:
            raise FencedBoot(self.session.worker, self.session.boot)
        if self.ended_at is not None or self._welcome is None:
            raise UnknownSession(self.session.id)
        return self._welcome

    async def claim(self, name: str, wait_s: float, gone: asyncio.Future[Any]) -> Lease | None:
        """The next job, waited for until `wait_s` are over or who asks is `gone`; None when there was none.

        The same claim is answered with the same job, and with none once its attempt has ended. A job that was
        leased for a claim whose asker had gone is the answer to the next one.
        """
        if name not in self._given and (unclaimed := self._next_unclaimed()) is not None:
            self._remember(name, unclaimed)
        if name in self._given:
            return self._again(self._given[name])
        waiting = self._wait(name)
        ends = {waiting, gone, self._closing}
        longest_s = min(wait_s, self.rules().lease_s / 2)  # who waits says nothing meanwhile
        await asyncio.wait(ends, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
        if name in list(self._asking)[: len(self._offers)]:  # its job is being leased, within a commit
            await asyncio.wait(ends, timeout=say.OFFER_S, return_when=asyncio.FIRST_COMPLETED)
        if self._asking.get(name) is waiting:
            self._wait_no_more(name)
        self.rules()
        return waiting.result()

    def heartbeat(self, running: Iterable[say.RunningAttempt]) -> Orders:
        """What to do with the attempts that the worker has; those it holds are not given to others."""
        stale = []
        for attempt in running:
            try:
                self._name(attempt.job, attempt.attempt, attempt.token)
            except StaleAttempt:
                stale.append(Held(job=attempt.job, attempt=attempt.attempt))
        return self._orders(stale)

    def progress(self, progress: say.Progress, preview: say.Preview | None) -> Orders:
        """Tell where an attempt stands. Refuses one that no longer holds its job."""
        self._name(progress.job, progress.attempt, progress.token)
        for message in (progress, preview):
            if message is not None:
                self._dispatcher.receive(self.session, message)
        return self._orders()

    async def report(self, message: say.Reported, cause: str) -> Orders:
        """Have a report kept. Refuses one of an attempt that no longer holds its job."""
        await self._dispatcher.report(self.session, message, cause)
        self._named_at[message.job, message.attempt] = self._monotonic()
        return self._orders()

    def drain(self) -> None:
        """End the session: the worker takes no more. What it still has it may report in another one."""
        self._dispatcher.receive(self.session, say.Drain())
        self._end()

    def give_up_unnamed(self) -> None:
        """Have attempts that the worker has not spoken of for a whole lease given to others: it may never have
        heard of them, and beats all the same."""
        now = self._monotonic()
        for (job, attempt), named_at in list(self._named_at.items()):
            live = self._state().jobs.get(job)
            is_mine = live is not None and live.status == "running" and live.worker == self.session.worker
            if live is None or not is_mine or live.attempt != attempt:
                del self._named_at[job, attempt]
            elif now - named_at > self.rules().lease_s:
                self._dispatcher.give_up(job, attempt)

    # what the dispatcher says

    def _hear(self, message: say.ToWorker) -> None:
        match message:
            case say.Welcome():
                self._welcome = message
                now = self._monotonic()
                self._named_at = {(v.job, v.attempt): now for v in message.verdicts if v.keep}
            case say.Offer(offer=offer):
                self._offers[offer] = message
                self._dispatcher.receive(self.session, say.Accept(offer=offer))
            case say.Withdraw(offer=offer):
                self._offers.pop(offer, None)
                self.session.credit = {"slots": self._credit()}
            case say.Start() if self.ended_at is None:  # else its lease runs out, or the next hello gives it up
                self._start(message)
            case say.Previews(wanted=wanted):
                self._wants_previews = wanted
            case say.Refused(retry=retry):
                self._is_fenced = not retry
            case say.Cancel() | say.Stale() | say.Acknowledge() | say.Drain() | say.Start():
                pass  # every answer tells what is to be cancelled and what is stale

    def _start(self, start: say.Start) -> None:
        """Answer the claim that has waited longest."""
        offer = self._offers.pop(start.offer)
        lease = Lease(
            job=offer.job,
            attempt=start.attempt,
            token=start.token,
            task=offer.task,
            model=offer.model,
            params=offer.params,
            lease_s=self.rules().lease_s,
        )
        self._named_at[lease.job, lease.attempt] = self._monotonic()
        if not self._asking:
            self._unclaimed.append(lease)
            return
        name = next(iter(self._asking))
        self._remember(name, lease)
        self._asking.pop(name).set_result(lease)

    def _end(self) -> None:
        if self.ended_at is None:
            self.ended_at = self._monotonic()
            self._dispatcher.ended(self.session)
            for name in list(self._asking):
                self._wait_no_more(name)
            self._given.clear()

    # claims

    def _wait(self, name: str) -> asyncio.Future[Lease | None]:
        if name in self._asking:  # asked again: nobody hears the first answer any more
            self._wait_no_more(name)
        waiting = self._asking[name] = asyncio.get_running_loop().create_future()
        self._dispatcher.receive(self.session, say.Ready(slots=self._credit()))
        return waiting

    def _wait_no_more(self, name: str) -> None:
        self._asking.pop(name).set_result(None)
        self.session.credit = {"slots": self._credit()}

    def _credit(self) -> int:
        return max(0, len(self._asking) - len(self._offers))

    def _remember(self, name: str, lease: Lease) -> None:
        self._given[name] = lease
        if len(self._given) > MOST_CLAIMS:
            del self._given[next(iter(self._given))]

    def _next_unclaimed(self) -> Lease | None:
        self._unclaimed = deque(filter(self._holds, self._unclaimed))
        return self._unclaimed.popleft() if self._unclaimed else None

    def _again(self, lease: Lease) -> Lease | None:
        if not self._holds(lease):
            return None
        self._named_at[lease.job, lease.attempt] = self._monotonic()
        return lease

    # attempts

    def _holds(self, lease: Lease) -> bool:
        live = self._state().jobs.get(lease.job)
        return live is not None and live.status == "running" and live.token == lease.token

    def _name(self, job: str, attempt: int, token: int) -> None:
        """Note that the worker has the attempt. Refuses when it no longer holds its job."""
        holding(self._state(), job, attempt, token)
        self._named_at[job, attempt] = self._monotonic()

    def _orders(self, stale: Iterable[Held] = ()) -> Orders:
        mine = self._state().attempts_of(self.session.worker)
        cancel = [Held(job=job.id, attempt=job.attempt) for job in mine if job.cancel_requested]
        return Orders(cancel=cancel, stale=list(stale), previews=self._wants_previews)


class PolledSessions:
    """Every session over HTTP, by its id."""

    def __init__(
        self,
        handler: Handler,
        dispatcher: Dispatcher,
        *,
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._handler = handler
        self._dispatcher = dispatcher
        self._monotonic = monotonic
        self._new_id = new_id
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sessions: dict[str, PolledSession] = {}

    async def open(self, hello: say.Hello) -> say.Welcome:
        """Begin a session: its rules, and what becomes of every attempt that the worker says it has."""
        polled = PolledSession(
            self._new_id(),
            self._dispatcher,
            state=lambda: self._handler.state,
            monotonic=self._monotonic,
            closing=self._closing,
        )
        try:
            await self._dispatcher.hello(polled.session, hello)
        except BaseException:
            self._dispatcher.ended(polled.session)
            raise
        self._sessions[polled.session.id] = polled
        return polled.rules()

    def find(self, name: str) -> PolledSession:
        """The session, which has been heard now. Refuses one that has ended."""
        polled = self._sessions.get(name)
        if polled is None:
            raise UnknownSession(name)
        polled.rules()
        self._dispatcher.receive(polled.session, say.Beat())
        return polled

    def tick(self) -> None:
        """What time alone causes. Call it every second or so."""
        for name, polled in list(self._sessions.items()):
            if polled.ended_at is None:
                polled.give_up_unnamed()
            elif self._monotonic() - polled.ended_at > KEPT_S:
                del self._sessions[name]

    def close(self) -> None:
        """The service ends: no claim waits any longer."""
        if not self._closing.done():
            self._closing.set_result(None)
