"""Handing jobs to workers: sessions, credit, offers, leases in time, and what workers report.

Everything durable goes through the handler; what lives here (sessions, offers, when a worker was last heard,
the newest progress) may be lost in a restart at no cost: all leases then begin anew. Runs in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

import msgspec

from events.envelope import Record
from events.jobs import JobCancelRequested, JobExpired, JobFailed, JobLeased, JobPhaseEntered, JobRequeued
from events.workers import Device, LossReason
from projections.jobs import params_of
from projections.live import LiveWorker
from service import commands as ask
from service import protocol as say
from service.decisions.workers import keeps
from service.group_commit import Answer
from service.handle import Handler
from service.refusals import NotLeasable, Refusal, StaleAttempt
from service.reports import command_of
from service.scheduling.beside import pick_beside, rank
from service.scheduling.pick import Pick, in_turn, pick
from service.sessions import Audience, Session
from service.watchdog import Watchdog

logger = logging.getLogger("safelight.dispatch")


class Offered(msgspec.Struct, frozen=True):
    """An offer that is out."""

    session: Session
    picked: Pick
    seat: say.Seat
    lapses_at: float  # monotonic seconds


class Dispatcher:
    """The workers' side of the service."""

    def __init__(
        self,
        handler: Handler,
        *,
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
        is_stored: Callable[[str], bool],
        lease_s: float = say.LEASE_S,
        beat_s: float = say.BEAT_S,
        first_eta_s: Callable[[str], float | None] = lambda job: None,
    ) -> None:
        """`is_stored` tells whether an artifact is in the store, by digest; `first_eta_s` the first estimate of a
        job from submission to end. Who is silent for `lease_s` loses its jobs; every `beat_s` it must be heard."""
        self._handler = handler
        self._monotonic = monotonic
        self._new_id = new_id
        self._is_stored = is_stored
        self._lease_s = lease_s
        self._beat_s = beat_s
        self._first_eta_s = first_eta_s
        self._sessions: dict[str, Session] = {}  # worker name -> its session
        self._offers: dict[str, Offered] = {}  # offer id -> offer
        self._offered: dict[str, str] = {}  # job id -> offer id
        self._started_at = monotonic()
        self._heard_at: dict[str, float] = {}  # worker name -> monotonic seconds
        self._expiring: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchdog = Watchdog(handler, monotonic)
        self._previews_wanted = False
        self._audience: Audience | None = None
        self.progress: dict[str, say.Progress] = {}  # job id -> newest progress of its running attempt
        handler.listen(self._on_records)

    def tell(self, audience: Audience) -> None:
        """Have progress and previews told to `audience`."""
        self._audience = audience

    @property
    def connected(self) -> dict[str, str]:
        """The boot of every worker that has a session, by worker name."""
        return {name: session.boot for name, session in self._sessions.items()}

    def want_previews(self, wanted: bool) -> None:
        """Tell every worker whether anybody looks at previews."""
        self._previews_wanted = wanted
        for session in self._sessions.values():
            session.send(say.Previews(wanted=wanted))

    # sessions

    async def hello(self, session: Session, hello: say.Hello) -> None:
        """Begin a session: register the worker, settle what it holds, fence an older boot of its name."""
        if hello.protocol != say.PROTOCOL_VERSION:
            why = f"protocol {hello.protocol} is not spoken here, {say.PROTOCOL_VERSION} is; upgrade the older side"
            session.send(say.Refused(why=why, retry=False))
            session.end()
            return
        self._replace(hello)
        session.worker, session.boot = hello.worker, hello.boot
        self._sessions[hello.worker] = session
        self._heard_at[hello.worker] = self._monotonic()
        held = tuple(ask.HeldAttempt(job=r.job, attempt=r.attempt, token=r.token) for r in hello.running)
        await self._handler.ask(
            ask.RegisterWorker(
                worker=hello.worker,
                boot=hello.boot,
                models=hello.models,
                device=msgspec.convert(hello.device, Device, from_attributes=True),
                slots=hello.slots,
                versions=hello.versions,
                held=held,
                lease_s=self._lease_s,
            ),
            actor=f"worker/{hello.worker}",
            cause=session.id,
        )
        session.send(
            say.Welcome(
                session=session.id,
                lease_s=self._lease_s,
                beat_s=self._beat_s,
                verdicts=tuple(self._verdict(attempt) for attempt in held),
            )
        )
        session.send(say.Previews(wanted=self._previews_wanted))
        self._cancel_again(session)

    def ended(self, session: Session) -> None:
        """The socket is gone: its offers lapse, its leases run on, its worker may come back."""
        for offer in list(session.offers):
            self._drop_offer(offer)
        if self._sessions.get(session.worker) is not session:
            return
        del self._sessions[session.worker]
        if session.is_drained and not self._handler.state.attempts_of(session.worker):
            self._lose(session.worker, session.boot, "disconnected")
        self._match()

    def receive(self, session: Session, message: say.FromWorker) -> None:
        """Act on a message of a session that said hello. Any message extends the worker's leases."""
        self._heard_at[session.worker] = self._monotonic()
        match message:
            case say.Ready(slots=slots, beside=beside, before=before):
                session.credit = {"slots": slots, "beside": beside, "before": before}
                self._match()
            case say.Accept(offer=offer):
                self._spawn(self._lease(session, offer))
            case say.Decline(offer=offer, why=why):
                logger.info("worker %s declined an offer: %s", session.worker, why)
                self._give_back(offer)
            case say.Phase() | say.Completed() | say.Failed() | say.Stopped():
                self._report(session, message)
            case say.Progress():
                self._on_progress(session, message)
            case say.Preview():
                self._on_preview(message)
            case say.Drain():
                session.credit, session.is_drained = {}, True

    def report(self, session: Session, message: say.Reported, cause: str) -> Answer:
        """Decide a report of a session that said hello, in the order of the calls. It refuses a stale attempt."""
        command = command_of(message, self._is_stored)
        return self._handler.ask(command, actor=f"worker/{session.worker}", cause=cause)

    def give_up(self, job: str, attempt: int) -> None:
        """Have a job wait again whose attempt nobody speaks of."""
        self._sweep(f"{job}/{attempt}", ask.ExpireLease(job=job, attempt=attempt))

    def tick(self) -> None:
        """What time alone causes: offers lapse, leases of silent workers expire. Call it every second or so."""
        now = self._monotonic()
        for offer, offered in list(self._offers.items()):
            if offered.lapses_at <= now:
                self._withdraw(offered.session, offer, "not accepted in time")
        for late in self._watchdog.overdue():
            self._sweep(f"{late.job}/{late.attempt}/time", late)
        state = self._handler.state
        for name, worker in list(state.workers.items()):
            if now - self._heard_at.get(name, self._started_at) > self._lease_s:
                self._expire(worker)
        for job, name in list(state.running.items()):
            if name not in state.workers and now - self._heard_at.get(name, self._started_at) > self._lease_s:
                self.give_up(job, state.jobs[job].attempt)
        self._match()

    # handing out

    def _match(self) -> None:
        """Offer waiting jobs against credit until one of the two is used up: first to who is idle."""
        state, catalog = self._handler.state, self._handler.catalog
        free: list[LiveWorker] = []
        busy: list[LiveWorker] = []
        for session in self._sessions.values():
            worker = state.workers.get(session.worker)
            if worker is None or worker.boot != session.boot:
                continue
            if session.credit.get("slots", 0) > 0:
                free.append(worker)
            elif any(session.credit.values()):
                busy.append(worker)
        for worker in in_turn(state, free, self._offered, catalog):
            session = self._sessions[worker.name]
            for picked in pick(state, worker, session.credit["slots"], self._offered, catalog):
                self._offer(session, picked, "slots")
        for worker in sorted(busy, key=lambda one: len(state.attempts_of(one.name))):
            self._offer_beside(self._sessions[worker.name], worker)

    def _offer_beside(self, session: Session, worker: LiveWorker) -> None:
        """Fill the seats of a worker that computes."""
        while seats := [seat for seat, left in session.credit.items() if left > 0]:
            state, catalog, given = self._handler.state, self._handler.catalog, list(session.offers.values())
            if (found := pick_beside(state, worker, seats, given, self._offered, catalog)) is None:
                return
            self._offer(session, found.picked, found.seat)

    def _offer(self, session: Session, picked: Pick, seat: say.Seat) -> None:
        job = picked.job
        live = self._handler.state.jobs[job]
        (described,) = self._handler.log.read(live.described - 1, 1)  # views may not show it yet
        offer = self._new_id()
        session.credit[seat] -= 1
        session.offers[offer] = job
        self._offered[job] = offer
        self._offers[offer] = Offered(session, picked, seat, self._monotonic() + say.OFFER_S)
        session.send(
            say.Offer(
                offer=offer,
                within_s=say.OFFER_S,
                job=job,
                task=live.task,
                model=live.model,
                params=params_of(described),
                priority=rank(live),
                seat=seat,
            )
        )

    async def _lease(self, session: Session, offer: str) -> None:
        """Make an accepted offer a lease; the worker computes only once that is durable."""
        job, offered = session.offers.get(offer), self._offers.get(offer)
        if job is None or offered is None:
            return  # it lapsed, and the worker was told
        command = ask.LeaseJob(
            job=job,
            worker=session.worker,
            boot=session.boot,
            lease_s=self._lease_s,
            passed=offered.picked.passed,
            eta_s=self._first_eta_s(job),
        )
        try:
            records = await self._handler.ask(command, actor=f"worker/{session.worker}", cause=offer)
        except Exception as error:  # refused, or no room in the log: the worker must not compute
            self._withdraw(session, offer, error.why if isinstance(error, NotLeasable) else str(error))
            return
        self._drop_offer(offer)
        leased = records[-1].event
        assert isinstance(leased, JobLeased)
        session.send(say.Start(offer=offer, job=job, attempt=leased.attempt, token=records[-1].position))

    def _withdraw(self, session: Session, offer: str, why: str) -> None:
        """Take an offer back; the worker has its credit again."""
        self._give_back(offer)
        session.send(say.Withdraw(offer=offer, why=why))

    def _give_back(self, offer: str) -> None:
        """Drop an offer that nothing came of: the worker has its credit again."""
        if (offered := self._offers.get(offer)) is not None:
            self._drop_offer(offer)
            offered.session.credit[offered.seat] = offered.session.credit.get(offered.seat, 0) + 1

    def _drop_offer(self, offer: str) -> None:
        offered = self._offers.pop(offer, None)
        if offered is None:
            return
        offered.session.offers.pop(offer, None)
        if self._offered.get(offered.picked.job) == offer:
            del self._offered[offered.picked.job]

    # reports

    def _report(self, session: Session, message: say.Reported) -> None:
        """Decide a numbered report at once, in order; acknowledge when it and all before it are settled."""
        task = self.report(session, message, f"{session.boot}/{message.number}")
        session.reports.append((message.number, task, message))
        task.add_done_callback(lambda _: self._acknowledge(session))

    def _acknowledge(self, session: Session) -> None:
        through = None
        while session.reports and session.reports[0][1].done():
            number, task, message = session.reports.popleft()
            error = task.exception()
            if isinstance(error, StaleAttempt):
                session.send(say.Stale(job=message.job, attempt=message.attempt, why=str(error)))
            elif error is not None and not isinstance(error, Refusal):
                logger.error("a report of worker %s was not kept (%s); it comes again", session.worker, error)
                session.end()  # it reconnects and replays what was not acknowledged
                return
            through = number
        if through is not None:
            session.send(say.Acknowledge(through=through))

    def _on_progress(self, session: Session, message: say.Progress) -> None:
        job = self._handler.state.jobs.get(message.job)
        if job is None or (job.attempt, job.token) != (message.attempt, message.token) or job.status != "running":
            session.send(say.Stale(job=message.job, attempt=message.attempt, why="another attempt has the job"))
            return
        self._watchdog.moved(message)
        self.progress[message.job] = message
        if self._audience is not None:
            self._audience.progress(message.job, job.queue, message)

    def _on_preview(self, message: say.Preview) -> None:
        job = self._handler.state.jobs.get(message.job)
        if job is not None and job.token == message.token and self._audience is not None:
            self._audience.preview(message.job, job.queue, message)

    # what was committed

    def _on_records(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.category != "job":
                continue
            live = self._handler.state.jobs.get(record.subject)
            if live is None or live.status != "running":
                self.progress.pop(record.subject, None)
                self._watchdog.ended(record.subject)
            elif isinstance(record.event, JobLeased | JobPhaseEntered):
                self._watchdog.moved(record)
            self._recall(record)
            if isinstance(record.event, JobCancelRequested):
                self._send_cancel(record.subject)
        if any(not isinstance(record.event, JobPhaseEntered) for record in records):
            self._match()

    def _recall(self, record: Record) -> None:
        """Tell the worker of an attempt that time has ended: it does not know."""
        match record.event:
            case JobExpired(attempt=int() as attempt):
                why = "its deadline passed"
            case JobRequeued(reason="timeout", attempt=attempt):
                why = "it took too long"
            case JobFailed(attempt=attempt, error=error) if error.kind == "timeout":
                why = "it took too long"
            case _:
                return
        for session in self._sessions.values():  # which of them had it is forgotten; the others do not mind
            session.send(say.Stale(job=record.subject, attempt=attempt, why=why))

    def _send_cancel(self, job: str) -> None:
        live = self._handler.state.jobs.get(job)
        session = self._sessions.get(live.worker) if live is not None else None
        if live is not None and session is not None:
            session.send(say.Cancel(job=job, attempt=live.attempt, token=live.token))

    def _cancel_again(self, session: Session) -> None:
        """After a reconnect: cancels that the worker may not have heard."""
        for job in self._handler.state.attempts_of(session.worker):
            if job.cancel_requested:
                session.send(say.Cancel(job=job.id, attempt=job.attempt, token=job.token))

    # what time and other boots cause

    def _replace(self, hello: say.Hello) -> None:
        """End the session that has the name now: the same boot came back, or a newer one takes over."""
        old = self._sessions.pop(hello.worker, None)
        if old is None:
            return
        if old.boot != hello.boot:
            why = f"a newer process took the name {hello.worker}; give each worker its own --name"
            old.send(say.Refused(why=why, retry=False))
        for offer in list(old.offers):
            self._drop_offer(offer)
        old.end()

    def _verdict(self, attempt: ask.HeldAttempt) -> say.Verdict:
        """What became of an attempt after RegisterWorker: kept, kept under a new token, or not."""
        job = self._handler.state.jobs.get(attempt.job)
        if job is not None and keeps(job, attempt):
            return say.Verdict(job=attempt.job, attempt=attempt.attempt, keep=True, token=job.token)
        return say.Verdict(job=attempt.job, attempt=attempt.attempt, keep=False)

    def _expire(self, worker: LiveWorker) -> None:
        """A silent worker: its jobs wait again. Should its process still live, it must say hello anew."""
        session = self._sessions.pop(worker.name, None)
        if session is not None:
            session.send(say.Refused(why="not heard for longer than the lease; say hello again", retry=True))
            session.end()
        for job in self._handler.state.attempts_of(worker.name):
            self.give_up(job.id, job.attempt)
        self._lose(worker.name, worker.boot, "lease-expired")

    def _lose(self, worker: str, boot: str, reason: LossReason) -> None:
        self._sweep(f"{worker}/{boot}", ask.LoseWorker(worker=worker, boot=boot, reason=reason))

    def _sweep(self, key: str, command: ask.Command) -> None:
        """Ask for what time caused, once until it is answered; what fails is asked again at a later tick."""
        if key not in self._expiring:
            self._expiring.add(key)
            self._spawn(self._swept(key, command))

    async def _swept(self, key: str, command: ask.Command) -> None:
        try:
            await self._handler.ask(command, actor="sweep", cause="lease")
        except Exception as error:
            logger.warning("%s was not kept (%s); trying again", type(command).__name__, error)
        finally:
            self._expiring.discard(key)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
