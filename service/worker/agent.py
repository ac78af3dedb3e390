"""The agent process: keeps a child and a session going, and ends in good order.

What attempts go through is decided at the desk; here are only the tasks around it, the signals and the
exit code. Nothing here may block: the beat comes from this loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Coroutine
from functools import partial

import msgspec
from websockets.exceptions import InvalidStatus, WebSocketException

from service.protocol import PROTOCOL_VERSION, Hello
from service.tasks.catalog import Model
from service.worker import frames, models
from service.worker.backoff import MOST_S, pauses
from service.worker.child_process import ChildProcess
from service.worker.credit import SLOTS
from service.worker.desk import Desk
from service.worker.journal import Journal
from service.worker.outbox import Outbox
from service.worker.parent import die_with_parent, on_end_of_stdin
from service.worker.session import BadAnswer, RefusedByService, connected, converse, greet
from service.worker.spool import Spool
from service.worker.transfers import Transfers

CLEAN, FORCED, MISUSE, REFUSED = 0, 1, 2, 3

GRACE_S = 10.0  # how long what runs may go on after the first SIGTERM
LAST_WORDS_S = 3.0  # and how long the rest then has to be said
STEADY_S = 30.0  # a child that lived so long was no failed start
CANCEL_AGAIN_S = 1.0
REPEAT_S = 60.0  # between two log lines about the same unreachable service
LOST = (OSError, TimeoutError, WebSocketException, BadAnswer, msgspec.DecodeError)

logger = logging.getLogger("safelight.worker")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is told; see the command line for the meaning and the defaults."""

    server: str
    models: tuple[Model, ...]
    key: str | None = None
    name: str | None = None
    device: str = "auto"
    threads: int = 0
    is_preloading: bool = True
    has_parent: bool = False


class Agent:
    """One worker: a boot of a name, over any number of sessions and children."""

    def __init__(self, settings: Settings, spool: Spool, journal: Journal) -> None:
        self._settings = settings
        self._spool = spool
        self._boot = uuid.uuid4().hex
        self._outbox = Outbox(journal)
        self._transfers = Transfers(settings.server, settings.key)
        self._desk = Desk(models.by_task(settings.models), journal, self._outbox, spool, self._transfers)
        self._child: ChildProcess | None = None
        self._up: frames.Up | None = None
        self._is_up = asyncio.Event()
        self._stops = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: asyncio.Future[int] | None = None
        self._failure_said = ("", 0.0)

    async def run(self) -> int:
        """Work until told to stop; gives the exit code."""
        loop = asyncio.get_running_loop()
        self._ending = loop.create_future()
        loop.set_exception_handler(self._on_unhandled)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        if self._settings.has_parent:
            die_with_parent(signal.SIGTERM)
            on_end_of_stdin(partial(loop.call_soon_threadsafe, self._finish, CLEAN))
        self._start(self._keep_child())
        self._start(self._keep_session())
        try:
            return await self._ending
        finally:
            await self._close()

    async def _close(self) -> None:
        going_on = set(self._tasks)
        while going_on:  # again and again: a library may have lost a cancel to an error of the same instant
            for task in going_on:
                task.cancel()
            _, going_on = await asyncio.wait(going_on, timeout=CANCEL_AGAIN_S)
        await self._transfers.close()
        if self._child is not None:
            self._child.kill()
            await self._child.end()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._on_task_done)
        self._tasks.append(task)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """A task that fails is a fault of this program or of its disk: the agent ends with it."""
        if not task.cancelled() and (error := task.exception()) and self._ending and not self._ending.done():
            self._ending.set_exception(error)

    def _on_unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        loop.default_exception_handler(context)
        self._finish(FORCED)

    def _finish(self, code: int) -> None:
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(code)

    # the child

    async def _keep_child(self) -> None:
        restarts = pauses(most_s=30.0)
        while True:
            started_at = time.monotonic()
            self._child = await ChildProcess.start(self._setup())
            async for frame in self._child.frames():
                self._from_child(self._child, frame)
            words = await self._child.end()
            self._child = None
            self._desk.child_died(words)
            logger.warning("%s; starting another", words)
            if time.monotonic() - started_at > STEADY_S:
                restarts = pauses(most_s=30.0)
            await asyncio.sleep(next(restarts))

    def _setup(self) -> frames.Setup:
        settings = self._settings
        real = [model.id for model in settings.models if models.is_real(model)]
        return frames.Setup(
            parent=os.getpid(),
            device=settings.device,
            threads=settings.threads,
            models=settings.models,
            preload=real[0] if real and settings.is_preloading else None,
            spool=str(self._spool.results),
        )

    def _from_child(self, child: ChildProcess, frame: frames.FromChild) -> None:
        match frame:
            case frames.Up():
                self._up = frame
                self._is_up.set()
                self._desk.child_up(child)
            case frames.Unfit(why=why):
                logger.error("%s", why)
                self._finish(MISUSE)
            case frames.Loading(model=model):
                logger.info("loading model %s", model)
            case frames.Loaded(model=model, why_not=None):
                logger.info("model %s is warm after %.1f s", model, frame.seconds)
            case frames.Loaded(model=model, why_not=why_not):
                logger.error("model %s could not be loaded: %s", model, why_not)
            case _:
                self._desk.from_child(frame)

    # the session

    async def _keep_session(self) -> None:
        await self._is_up.wait()
        waits = pauses()
        while True:
            try:
                async with connected(self._settings.server, self._settings.key) as socket_:
                    hello = self._hello()
                    welcome = await greet(socket_, hello)
                    logger.info("connected to %s as worker %s", self._settings.server, hello.worker)
                    waits = pauses()
                    self._desk.welcomed(welcome)
                    await converse(socket_, self._outbox, self._desk.from_service, welcome.beat_s)
            except RefusedByService as refusal:
                if not refusal.retry:
                    logger.error("the service refused this worker: %s", refusal)
                    self._finish(REFUSED)
                    return
                self._say_failure(f"the service ended the session: {refusal}")
            except LOST as error:
                self._say_failure(f"no session with {self._settings.server}: {_words(error)}")
            self._desk.disconnected()
            await asyncio.sleep(next(waits))

    def _hello(self) -> Hello:
        up = self._up
        assert up is not None, "the session starts after the child's first frame"
        return Hello(
            protocol=PROTOCOL_VERSION,
            worker=self._settings.name or f"{socket.gethostname()}-{up.label}",
            boot=self._boot,
            models=models.by_task(self._settings.models),
            device=up.device,
            slots=SLOTS,
            versions=up.versions,
            running=self._desk.running(),
        )

    def _say_failure(self, words: str) -> None:
        """Log a failure once, and again only when it changes or a minute has passed."""
        said, said_at = self._failure_said
        if words != said or time.monotonic() - said_at > REPEAT_S:
            logger.warning("%s; trying again every %g s or less", words, MOST_S)
            self._failure_said = (words, time.monotonic())

    # the end

    def _asked_to_stop(self) -> None:
        self._stops += 1
        if self._stops == 1:
            logger.info("stopping: what runs has %g s; a second signal stops at once", GRACE_S)
            self._start(self._drain())
        else:
            self._finish(FORCED)

    async def _drain(self) -> None:
        """Take nothing new, let what runs end or hand it back, and have everything said."""
        self._desk.drain()
        if not await self._moved_to(self._is_done, GRACE_S):
            self._desk.release()
            await self._moved_to(self._is_done, LAST_WORDS_S)
        self._finish(CLEAN)

    def _is_done(self) -> bool:
        """Without a session, what is in the journal can wait for the next start."""
        return self._desk.is_idle or (not self._outbox.is_open and not self._desk.is_computing)

    async def _moved_to(self, is_there: Callable[[], bool], within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                while not is_there():
                    self._desk.moved.clear()
                    await self._desk.moved.wait()
        except TimeoutError:
            return False
        return True


def _words(error: BaseException) -> str:
    if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
        return f"it does not accept the key (HTTP {error.response.status_code}); give one with the scope worker"
    return f"{type(error).__name__}: {error}".rstrip(": ")
