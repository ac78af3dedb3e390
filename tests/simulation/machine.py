"""A worker: the real desk, outbox, journal and session, around a fake GPU and a wire that can break."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from websockets.exceptions import ConnectionClosed

from service import protocol as say
from service.worker.backoff import pauses
from service.worker.desk import Desk
from service.worker.journal import Journal
from service.worker.outbox import Outbox
from service.worker.session import RefusedByService, converse, greet
from service.worker.spool import Spool
from service.worker.transfers import Transfers
from tests.service.scheduling.fake_gpus import TASK
from tests.simulation.gpu import LAWS, Gpu, Key, Meter
from tests.simulation.network import Link, Socket

LOST = (OSError, TimeoutError, ConnectionClosed)
IN_MEMORY = Path("/dev/shm")
MODELS_OF = {TASK: tuple(LAWS)}


def spools() -> TemporaryDirectory[str]:
    """A folder for spools, in memory where the system has such a place: a disk that others use too is slow."""
    return TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)


class Machine:
    """One worker by name. It dies and comes back as another process, with its journal."""

    def __init__(
        self,
        name: str,
        folder: Path,
        dice: random.Random,
        *,
        noise: float,
        keeps: int,
        meter: Meter,
        connect: Callable[[], Link],
    ) -> None:
        """`connect` gives a wire to the service. Raises OSError while there is none."""
        self.name = name
        self._folder = folder
        self._dice = dice
        self._noise = noise
        self._keeps = keeps
        self._meter = meter
        self._connect = connect
        self._boots = itertools.count(1)
        self._link: Link | None = None
        self._is_cut = False
        self._gpu: Gpu | None = None
        self.start()

    @property
    def computing(self) -> Key | None:
        """The (job, attempt) that its device works on."""
        return self._gpu.computing if self._gpu is not None else None

    def holds(self) -> tuple[say.RunningAttempt, ...]:
        """What it believes to have."""
        return self._desk.running()

    def start(self) -> None:
        """Begin a process."""
        self._boot = f"{self.name}-{next(self._boots)}"
        self._spool = Spool(self._folder)
        self._journal = Journal(self._spool.journal_path)
        self._outbox = Outbox(self._journal)
        self._desk = Desk(MODELS_OF, self._journal, self._outbox, self._spool, Transfers("http://nowhere", None))
        self.start_child()
        self._living = asyncio.create_task(self._live())

    def start_child(self) -> None:
        """Begin a child with a cold device."""
        desk = self._desk
        self._gpu = Gpu(self._dice, self._noise, self._keeps, self._meter, desk.from_child)
        desk.child_up(self._gpu)

    def kill_child(self) -> None:
        """The child dies of something in its device."""
        if self._gpu is not None:
            self._gpu.kill()
            self._gpu = None
            self._desk.child_died("killed by signal 11 (SIGSEGV)")

    async def kill(self) -> None:
        """The whole machine goes down: nobody says anything."""
        if self._gpu is not None:
            self._gpu.kill()
            self._gpu = None
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)
        if self._link is not None:
            self._link.hang(True)
            self._link = None
        self._journal.close()
        self._spool.close()

    def cut(self, is_noticed: bool) -> None:
        """Lose the network; both ends see it at once, or everything hangs."""
        self._is_cut = True
        if self._link is not None and is_noticed:
            self._link.close()
        elif self._link is not None:
            self._link.hang(True)

    def mend(self) -> None:
        """Have the network again; what hung goes on."""
        self._is_cut = False
        if self._link is not None:
            self._link.hang(False)

    async def _live(self) -> None:
        """As the agent keeps its session."""
        waits = pauses()
        while True:
            try:
                welcome = await self._greet()
                waits = pauses()
                self._desk.welcomed(welcome)
                assert self._link is not None
                await converse(Socket(self._link), self._outbox, self._desk.from_service, welcome.beat_s)  # type: ignore[arg-type]
            except RefusedByService as refused:
                if not refused.retry:  # a newer process has the name
                    raise
            except LOST:
                pass
            self._desk.disconnected()
            if self._link is not None:
                self._link.close()
                self._link = None
            await asyncio.sleep(next(waits))

    async def _greet(self) -> say.Welcome:
        if self._is_cut:
            raise OSError("no network")
        self._link = self._connect()
        hello = say.Hello(
            protocol=say.PROTOCOL_VERSION,
            worker=self.name,
            boot=self._boot,
            models=MODELS_OF,
            device=say.DeviceInfo(kind="cuda", name="Fake"),
            slots=1,
            versions={},
            running=self._desk.running(),
        )
        return await greet(Socket(self._link), hello)  # type: ignore[arg-type]
