"""The machine room: one service, its workers, who asks, and what goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from events.envelope import Record
from events.jobs import JobCompleted, JobLeased
from events.queues import Policy, Rules
from service import commands as ask
from service import protocol as say
from service.dispatch import Dispatcher, Session
from service.planner import Planner, Tell
from tests.simulation.clock import clock
from tests.simulation.gpu import Meter
from tests.simulation.ledger import Ledger
from tests.simulation.machine import Machine
from tests.simulation.network import Link

TICK_S = 1.0
Done = Callable[[str, str], None]


class Room:
    """Everything of one simulation. `done` is called with job and submitter when a job has completed, `tell` as
    service/planner.py says. Forecasts are made when somebody calls `planner.tick`."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        machines: int = 1,
        noise: float = 0.1,
        keeps: int = 1,
        policy: Policy = "fifo",
        done: Done = lambda job, submitter: None,
        tell: Tell = lambda job, queue, eta, at_us: None,
    ) -> None:
        self.dice = random.Random(seed)
        self.ledger = Ledger()
        self.meter = Meter()
        self.submitter_of: dict[str, str] = {}
        self.completed: dict[str, int] = {}  # job -> attempt
        self.violations: list[str] = []
        self._leased: dict[str, int] = {}  # job -> newest attempt
        self._done, self._tell = done, tell
        self._jobs, self._ids = itertools.count(1), itertools.count(1)
        self._wires: dict[asyncio.Task[None], Link] = {}  # in the order of their beginnings, as everything here
        self.is_up = False
        self.start()
        self.ask(ask.ConfigureQueue(queue="default", rules=Rules(policy=policy)))
        self.machines = [
            Machine(
                f"w{n}", folder / f"w{n}", random.Random(self.dice.random()),
                noise=noise, keeps=keeps, meter=self.meter, connect=self.connect,
            )
            for n in range(machines)
        ]  # fmt: skip

    # the service

    def start(self) -> None:
        """Begin a service process over the log there is."""
        self.dispatcher = Dispatcher(
            self.ledger,  # type: ignore[arg-type]
            monotonic=clock().time,
            new_id=lambda: f"o{next(self._ids)}",
            is_stored=lambda digest: True,
            first_eta_s=lambda job: self.planner.first_s(job),
        )
        self.planner = Planner(
            self.ledger,  # type: ignore[arg-type]
            monotonic=clock().time,
            clock=clock().utc_us,
            progress=self.dispatcher.progress,
            connected=lambda: self.dispatcher.connected,
            tell=self._tell,
        )
        self.ledger.listen(self._on_records)
        self._ticking = asyncio.create_task(self._tick())
        self.is_up = True

    def stop(self) -> None:
        """Kill the service process."""
        self.is_up = False
        self._ticking.cancel()
        self.ledger.listeners.clear()
        for wire, link in list(self._wires.items()):
            wire.cancel()
            link.close()

    def connect(self) -> Link:
        """A wire to the service, which serves it as web/worker_socket.py does."""
        if not self.is_up:
            raise ConnectionRefusedError("no service")
        link = Link()
        wire = asyncio.create_task(self._serve(link, self.dispatcher))
        self._wires[wire] = link
        wire.add_done_callback(self._wires.pop)
        return link

    async def _serve(self, link: Link, dispatcher: Dispatcher) -> None:
        session = Session(
            id=f"s{next(self._ids)}",
            send=lambda message: link.down.put(say.encode(message)),
            end=lambda: link.down.put(None),
        )
        try:
            first = say.from_worker(await link.up.get())
            assert isinstance(first, say.Hello)
            await dispatcher.hello(session, first)
            while True:
                dispatcher.receive(session, say.from_worker(await link.up.get()))
        except ConnectionClosed:
            dispatcher.ended(session)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.dispatcher.tick()
            timers = self.ledger.state.timers
            if timers and timers[0][0] <= clock().utc_us():
                self.ask(ask.Sweep(limit=100))
            self._check()

    # who asks

    def ask(self, command: ask.Command) -> Sequence[Record]:
        """Have the service do it."""
        return self.ledger.ask(command).result()

    def submit(self, submitter: str, model: str, steps: int, side: int = 512, *, priority: int = 50) -> str:
        """A new job."""
        job = f"j{next(self._jobs)}"
        self.submitter_of[job] = submitter
        params = {"prompt": "x", "steps": steps, "width": side, "height": side, "guidance": 1.0}
        self.ask(ask.SubmitJob(job=job, submitter=submitter, seed=1, model=model, params=params, priority=priority))
        return job

    # what must hold

    def _on_records(self, records: Sequence[Record]) -> None:
        for record in records:
            match record.event:
                case JobCompleted(attempt=attempt):
                    if record.subject in self.completed:
                        self.violations.append(f"{record.subject} completed twice")
                    if attempt != self._leased[record.subject]:
                        self.violations.append(f"{record.subject} completed by attempt {attempt}, which lost it")
                    self.completed[record.subject] = attempt
                    self._done(record.subject, self.submitter_of[record.subject])
                case JobLeased(attempt=attempt):
                    self._leased[record.subject] = attempt
                    self._check()

    def _check(self) -> None:
        """No job is computed by two workers that both hold a valid token."""
        valid = [key for machine in self.machines for key in self._valid(machine)]
        self.violations += [f"{key} runs twice at {clock().time():.1f} s" for key in valid if valid.count(key) > 1]

    def _valid(self, machine: Machine) -> list[str]:
        """The jobs that the machine computes under the token that the log knows."""
        if machine.computing is None:
            return []
        jobs = self.ledger.state.jobs
        return [
            held.job
            for held in machine.holds()
            if (held.job, held.attempt) == machine.computing
            and (job := jobs.get(held.job)) is not None
            and (job.status, job.token) == ("running", held.token)
        ]
