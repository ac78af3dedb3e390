"""Every attempt in the agent's hands, from Start to the acknowledgement of its last message.

The rules of the worker stand here: when it takes work, what each word of the service and each frame of the
child means for an attempt, and what is reported. Sockets and processes are elsewhere; nothing here waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from service import protocol as say
from service.tasks.registry import TASKS
from service.tasks.task import inputs_of
from service.worker import frames
from service.worker.child_process import Child
from service.worker.credit import NONE, Credit, credit_of
from service.worker.fetching import fetch_all
from service.worker.held import Held, completed, failed, stopped
from service.worker.journal import Journal, Result
from service.worker.outbox import Outbox
from service.worker.resuming import Resuming
from service.worker.spool import Spool
from service.worker.transfers import TransferRefused, Transfers

HALT_GRACE_S = 10.0  # or two steps, if they take longer: then the child is taken to hang and is killed

logger = logging.getLogger("safelight.worker")


class Desk:
    """The attempts in hand and the credit given for more."""

    def __init__(
        self,
        models: Mapping[str, tuple[str, ...]],
        journal: Journal,
        outbox: Outbox,
        spool: Spool,
        transfers: Transfers,
    ) -> None:
        """`models` maps the tasks to the models offered. Takes up what an earlier agent left in the journal."""
        self._models = models
        self._journal = journal
        self._outbox = outbox
        self._spool = spool
        self._transfers = transfers
        self._child: Child | None = None
        self._hand: dict[tuple[str, int], Held] = {}
        self._offers: dict[str, say.Offer] = {}
        self._credit = NONE  # what the service believes
        self._worth = 1  # how many jobs the child gains from computing at once
        self._resuming = Resuming()
        self._is_another_blamed = False  # for the end of the child that is dying: by what it had beside the rest
        self._is_resting = False  # the service wants no more work done in this session
        self._is_draining = False  # this process wants none any more
        self._previews_wanted = False
        self.moved = asyncio.Event()  # set whenever something may have changed
        for left in journal.held():
            stage: Literal["reported", "delivering"] = (
                "reported" if journal.has_outcome(left.job, left.attempt) else "delivering"
            )
            self._hand[(left.job, left.attempt)] = Held(
                job=left.job, attempt=left.attempt, token=left.token, stage=stage
            )

    # what the rest of the agent asks

    def running(self) -> tuple[say.RunningAttempt, ...]:
        """Everything still held, for Hello."""
        return tuple(
            say.RunningAttempt(job=held.job, attempt=held.attempt, token=held.token, step=held.step)
            for held in self._hand.values()
            if held.is_wanted
        )

    @property
    def is_computing(self) -> bool:
        """Whether the child has an attempt, or soon will."""
        return any(held.is_in_child or held.stage == "fetching" for held in self._hand.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is computed, delivered, or waits for an acknowledgement."""
        return not self._hand and not self._offers

    def drain(self) -> None:
        """Take no new work; what runs goes on."""
        self._is_draining, self._credit = True, NONE
        self._outbox.say(say.Drain())

    def release(self) -> None:
        """Hand back what is not computed, reported as stopped. A result on disk stays, for the next start."""
        for held in list(self._hand.values()):
            if held.is_in_child or held.stage == "fetching":
                self._stop(held)

    # the session

    def welcomed(self, welcome: say.Welcome) -> None:
        """A session begins: apply the verdicts, then send what waits."""
        for verdict in welcome.verdicts:
            held = self._hand.get((verdict.job, verdict.attempt))
            if held is None:
                continue
            if not verdict.keep:
                self._drop(held, "the service no longer wants it")
            elif verdict.token and verdict.token != held.token:
                held.token = verdict.token
                self._journal.restamp(held.job, held.attempt, verdict.token)
        for result in self._journal.results():
            self._deliver(result)
        self._outbox.open()
        self._credit, self._is_resting = NONE, False
        if self._is_draining:
            self._outbox.say(say.Drain())
        self._settle()

    def disconnected(self) -> None:
        """The session is over; what is computed goes on."""
        self._outbox.close()
        self._offers.clear()
        self._credit = NONE
        self._watch(False)

    def from_service(self, message: say.ToWorker) -> None:
        """Act on a message of the service."""
        match message:
            case say.Offer():
                self._on_offer(message)
            case say.Start():
                self._on_start(message)
            case say.Withdraw(offer=offer):
                withdrawn = self._offers.pop(offer, None)
                if withdrawn is not None:  # the service gives the credit back by itself
                    self._credit = self._credit.plus(withdrawn.seat, 1)
            case say.Acknowledge(through=through):
                self._on_acknowledge(through)
            case say.Stale(job=job, attempt=attempt, why=why):
                if (held := self._hand.get((job, attempt))) is not None:
                    self._drop(held, why)
            case say.Cancel(job=job, attempt=attempt, token=token):
                self._on_cancel(job, attempt, token)
            case say.Previews(wanted=wanted):
                self._watch(wanted)
            case say.Drain():
                self._is_resting = True
            case say.Welcome() | say.Refused():
                logger.warning("ignored %s in the middle of a session", type(message).__name__)
        self._settle()

    def _on_offer(self, offer: say.Offer) -> None:
        why = self._why_not(offer)
        if why is not None:  # the service gives the credit back, as after Withdraw
            self._outbox.say(say.Decline(offer=offer.offer, why=why))
            return
        self._credit = self._credit.plus(offer.seat, -1)
        self._offers[offer.offer] = offer
        self._outbox.say(say.Accept(offer=offer.offer))

    def _why_not(self, offer: say.Offer) -> str | None:
        if offer.model not in self._models.get(offer.task, ()):
            return f"this worker does not have model {offer.model} for task {offer.task}"
        return None if any(self._free()) else "this worker has no free slot"

    def _on_start(self, start: say.Start) -> None:
        offer = self._offers.pop(start.offer, None)
        held = Held(job=start.job, attempt=start.attempt, token=start.token, stage="computing")
        self._hand[(held.job, held.attempt)] = held
        digests = {} if offer is None else inputs_of(TASKS[offer.task], offer.params)
        if offer is not None and digests:
            held.stage = "fetching"
            held.transfer = asyncio.get_running_loop().create_task(self._fetch(held, offer, digests))
        else:
            self._begin(held, offer)

    async def _fetch(self, held: Held, offer: say.Offer, digests: Mapping[str, str]) -> None:
        """Bring the pictures that the job starts from to this machine, then begin it."""
        end = await fetch_all(digests, held, self._transfers, self._spool)
        if end is None:
            held.stage, held.transfer = "computing", None
            self._begin(held, offer)
        elif end == "stale":
            self._drop(held, "fetching its pictures was refused as stale")
        else:
            self._end(held, end)
        self._settle()

    def _begin(self, held: Held, offer: say.Offer | None) -> None:
        if offer is None or self._child is None:  # the child died since Accept: nothing was begun
            self._end(held, stopped(held))
            return
        held.begun = frames.Begin(
            job=held.job,
            attempt=held.attempt,
            task=offer.task,
            model=offer.model,
            params=offer.params,
            priority=offer.priority,
            inputs={field: str(path) for field, path in held.inputs.items()},
            tape=str(self._spool.new_tape()),
        )
        self._child.send(held.begun)

    def _is_in_this_child(self, held: Held) -> bool:
        return held.is_in_child and held not in self._resuming

    def _on_acknowledge(self, through: int) -> None:
        for job, attempt in self._journal.acknowledge(through):
            self._spool.remove(self._journal.drop(job, attempt))
            self._hand.pop((job, attempt), None)

    def _on_cancel(self, job: str, attempt: int, token: int) -> None:
        held = self._hand.get((job, attempt))
        if held is None:  # nothing of it is here any more; the service shall not wait for an answer
            held = Held(job=job, attempt=attempt, token=token, stage="computing")
            self._hand[(job, attempt)] = held
            self._end(held, stopped(held))
        else:
            self._stop(held)

    # the child

    def child_up(self, child: Child) -> None:
        """A child is ready for work."""
        self._child, self._worth = child, 1
        child.send(frames.Watch(wanted=self._previews_wanted))
        self._settle()

    def child_died(self, words: str) -> None:
        """The child is gone. What it had begins again in the next one, or has failed with these words."""
        self._child = None
        left = [held for held in self._hand.values() if self._is_in_this_child(held)]
        had_company = len(left) > 1 or self._is_another_blamed
        self._is_another_blamed = False
        for held in left:
            if not held.is_wanted:
                self._let_go(held)
            elif held.timer is not None:
                self._end(held, stopped(held))
            elif not self._resuming.takes(held, had_company=had_company):
                self._end(held, failed(held, "crash", words))
        self._settle()

    def from_child(self, frame: frames.FromChild) -> None:
        """Act on a frame about an attempt."""
        assert not isinstance(frame, frames.Up | frames.Unfit | frames.Loading | frames.Loaded), frame
        if isinstance(frame, frames.Worth):
            self._worth = frame.jobs
            self._settle()
            return
        held = self._hand.get((frame.job, frame.attempt))
        if held is None or not held.is_in_child or not held.is_wanted:
            self._on_unwanted(frame, held)
        else:
            self._on_frame(frame, held)
        self._settle()

    def _on_unwanted(self, frame: frames.FromChild, held: Held | None) -> None:
        """The attempt was dropped or ended meanwhile; all that matters is when the child is done with it."""
        if isinstance(frame, frames.Finished):
            self._spool.remove(frame.files)
        is_over = isinstance(frame, frames.Freed | frames.Finished | frames.Broke | frames.Halted)
        if is_over and held is not None and held.is_in_child:
            self._let_go(held)

    def _on_frame(self, frame: frames.FromChild, held: Held) -> None:
        about: dict[str, Any] = {"job": held.job, "attempt": held.attempt, "token": held.token}
        match frame:
            case frames.Entered(phase=phase):
                self._outbox.report(say.Phase(number=0, phase=phase, **about))
            case frames.Stepped(phase=phase, step=step, steps=steps, step_s=step_s):
                held.step, held.step_s = step, step_s
                self._outbox.progress(say.Progress(phase=phase, step=step, steps=steps, **about))
            case frames.Shown(step=step, width=width, height=height, data=data):
                self._outbox.preview(
                    say.Preview(step=step, media_type="image/jpeg", width=width, height=height, data=data, **about)
                )
            case frames.Freed():
                held.stage = "writing"
            case frames.Finished(files=files, facts=facts):
                self._on_finished(held, Result(files=files, facts=facts, **about))
            case frames.Broke(kind=kind, message=message, detail=detail):
                if kind == "crash":
                    self._is_another_blamed = True
                    self._child = None  # it is about to end itself: no credit and no job for it any more
                self._end(held, failed(held, kind, message, detail))
            case frames.Halted(step=step):
                held.step = step
                self._end(held, stopped(held))

    # the end of an attempt

    def _on_finished(self, held: Held, result: Result) -> None:
        """The result is on disk: note it, then deliver it. A cancel that comes now comes late and is obeyed."""
        if not result.files:
            self._end(held, completed(held, result))
            return
        self._journal.keep(result)
        held.stage = "delivering"
        self._quiet(held)
        self._deliver(result)

    def _deliver(self, result: Result) -> None:
        held = self._hand.get((result.job, result.attempt))
        if held is not None and held.stage == "delivering" and held.transfer is None:
            held.transfer = asyncio.get_running_loop().create_task(self._upload(held, result))

    async def _upload(self, held: Held, result: Result) -> None:
        try:
            for file in result.files:
                where = self._spool.path(file)
                fate = await self._transfers.deliver(where, file, held.job, held.attempt, lambda: held.token)
                if fate == "stale":
                    self._drop(held, "its upload was refused as stale")
                    return
        except TransferRefused as error:
            self._end(held, failed(held, "internal", f"the service does not take the result: {error}"))
        except OSError as error:
            words = f"the result's file cannot be read any more ({error.strerror}); retry the job"
            self._end(held, failed(held, "internal", words))
        else:
            self._end(held, completed(held, result))
        self._settle()

    def _end(self, held: Held, message: say.Reported) -> None:
        """Journal and send the last message of an attempt."""
        held.stage = "reported"
        self._quiet(held)
        self._outbox.report(message)

    def _stop(self, held: Held) -> None:
        """Stop what is not yet reported: in the child within a step, a result not yet delivered at once."""
        if not held.is_wanted or held.stage == "reported":
            return  # crossed on the way: what was reported stands
        if held.stage == "computing" and not self._resuming.forget(held):
            self._halt(held)
        else:
            self._end(held, stopped(held))

    def _halt(self, held: Held) -> None:
        if held.timer is not None or self._child is None:
            return
        self._child.send(frames.Halt(job=held.job, attempt=held.attempt))
        patience_s = max(HALT_GRACE_S, 2 * held.step_s)
        held.timer = asyncio.get_running_loop().call_later(patience_s, self._overdue, held)

    def _overdue(self, held: Held) -> None:
        """The child did not let go of a halted attempt: end the child, and the attempt as if it had obeyed."""
        logger.warning("job %s did not stop in time; ending the process that runs it", held.job)
        if held.is_wanted:
            self._end(held, stopped(held))
        else:
            self._let_go(held)
        if self._child is not None:
            self._child.kill()
            self._is_another_blamed = True
            self._child = None  # it takes a moment to die: no credit and no job for it any more
        self._settle()

    def _drop(self, held: Held, why: str) -> None:
        """The service does not want the attempt any more: forget it, and stop it where it runs."""
        logger.info("dropped attempt %d of job %s: %s", held.attempt, held.job, why)
        self._spool.remove(self._journal.drop(held.job, held.attempt))
        if held.stage == "computing" and self._child is not None and not self._resuming.forget(held):
            held.is_wanted = False
            self._outbox.forget(held.job, held.attempt)
            self._halt(held)
        else:
            self._let_go(held)

    def _let_go(self, held: Held) -> None:
        self._quiet(held)
        self._hand.pop((held.job, held.attempt), None)

    def _quiet(self, held: Held) -> None:
        """End everything that goes on for the attempt on this side."""
        self._outbox.forget(held.job, held.attempt)
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        transfer, held.transfer = held.transfer, None
        if transfer is not None and transfer is not asyncio.current_task():
            transfer.cancel()
        self._spool.discard(held.inputs.values())
        held.inputs = {}
        if held.begun is not None:
            self._spool.discard([Path(held.begun.tape)])

    # credit

    def _free(self) -> Credit:
        """How many more offers can be taken now."""
        if self._is_draining or self._is_resting or self._child is None:
            return NONE
        return credit_of([held.stage for held in self._hand.values()], len(self._offers), self._worth)

    def _settle(self) -> None:
        """Begin again what waits for that, and tell the service when its idea of the credit is no longer right."""
        is_empty = not any(self._is_in_this_child(held) for held in self._hand.values())
        again = self._resuming.next() if self._child is not None and is_empty else None
        if again is not None and again.begun is not None and self._child is not None:
            self._child.send(again.begun)
        free = self._free()
        if self._outbox.is_open and not self._is_draining and free != self._credit:
            self._credit = free
            self._outbox.say(say.Ready(**free._asdict()))
        self.moved.set()

    def _watch(self, wanted: bool) -> None:
        self._previews_wanted = wanted
        if self._child is not None:
            self._child.send(frames.Watch(wanted=wanted))
