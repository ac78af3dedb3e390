"""Ticks: one denoiser call at a time, over rows of as many jobs as it pays to join.

Each job is a member: its whole pipeline call, stock code, in a greenlet of its own, which stands still wherever it
asks for something: a denoiser call, or a model that loads. The engine answers the calls of some members together
and lets each go on. So jobs join and leave at step boundaries, one can be cancelled or left standing without
touching the others, and each keeps its own scheduler, generator, latents and embeddings: they are the local
variables of its own call. All of it runs in one thread; greenlets are switched, never preempted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

from service.worker.engine.learning import Learned, Size
from service.worker.engine.turns import Standing, choose

PARKED_S = 1.0
"""Who stands for so long while others are served is told that it is parked."""

SLICE_S = 5.0
"""How long jobs that cannot be joined compute in turn, where they are of one priority."""

_BY_YOURSELF = object()


class Call(Protocol):
    """What a member asks for: a denoiser call (calls.py), or anything that takes the device for a while."""

    rows: int
    """Samples in it."""
    key: Any
    """Calls of one key can be made as one; None for one that cannot be joined."""
    is_step: bool
    """Whether it is a step of the job, of which there will be more."""

    def alone(self) -> Any:
        """Make the call; gives its answer."""

    @staticmethod
    def together(calls: Sequence[Any]) -> list[Any]:
        """Make several calls of one key as one; gives their answers."""


class Member(greenlet):
    """A job in the engine. It runs only while the engine lets it."""

    def __init__(
        self,
        engine: Engine,
        work: Callable[[], Any],
        name: str,
        priority: int,
        on_parked: Callable[[bool], None],
    ) -> None:
        """`work` is its pipeline call. `priority` as jobs have it: 0 to 100; a background job is below, at -1.
        `on_parked` is told when others are served for long, and when it is its turn again."""
        super().__init__(self._work)
        self.name = name
        self.priority = priority
        self.call: Call | None = None  # the denoiser call that it stands at
        self.waits_for: Future[Any] | None = None  # or what it stands for otherwise
        self.halt_with: BaseException | None = None  # to be raised where it stands; any thread may set it
        self.served_s = 0.0  # seconds of the calls that it had rows in
        self.share_s = 0.0  # the same, each shared out by rows
        self.steps_share_s = 0.0  # of that, in steps
        self.stood_s = 0.0  # seconds that it stood at a call while others were served
        self.shared: dict[int, int] = {}  # rows of a step -> steps of so many that it was part of
        self.beside: set[str] = set()  # names of those whose rows were in a call with its own
        self.size: Size | None = None  # of its newest step
        self.result: Any = None
        self.error: BaseException | None = None
        self.stands_since: float | None = None  # by the engine's clock, while others are served
        self.is_parked = False
        self.on_parked = on_parked
        self._engine = engine
        self._job = work

    def ask(self, call: Call) -> Any:
        """From inside: stand until the engine has answered the call."""
        self.call = call
        try:
            answer = self.parent.switch()
            return self._engine.run_alone(self, call) if answer is _BY_YOURSELF else answer
        finally:
            self.call = None

    def wait(self, future: Future[Any]) -> Any:
        """From inside: stand until the future is done while others go on; gives its result."""
        if not future.done():
            future.add_done_callback(lambda _: self._engine.wake())
            self.waits_for = future
            try:
                self.parent.switch()
            finally:
                self.waits_for = None
        return future.result()

    def _work(self, *_: Any) -> None:
        try:
            if self.halt_with is not None:
                raise self.halt_with
            self.result = self._job()
        except BaseException as error:
            self.error = error


def current() -> Member:
    """The member whose code runs. Raises AssertionError outside of all of them."""
    running = getcurrent()
    assert isinstance(running, Member), "no job of the engine runs here"
    return running


class Engine:
    """The members on one device. Used by one thread, but for Member.halt_with."""

    def __init__(
        self,
        learned: Learned,
        *,
        clock: Callable[[], float] = time.perf_counter,
        settle: Callable[[], None] = lambda: None,
        is_out_of_memory: Callable[[BaseException], bool] = lambda error: False,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`settle` waits until the device has done what it was told, so that a call's seconds are its own. `wake`
        is called, by any thread, when somebody who waited can go on."""
        self.wake = wake
        self._learned = learned
        self._clock = clock
        self._settle = settle
        self._is_out_of_memory = is_out_of_memory
        self._members: list[Member] = []  # in the order of arrival
        self._worth = 1

    def __len__(self) -> int:
        return len(self._members)

    def join(
        self,
        work: Callable[[], Any],
        name: str = "",
        priority: int = 50,
        on_parked: Callable[[bool], None] = lambda is_parked: None,
    ) -> Member:
        """Take a job in: it begins with the next tick. Arguments as Member has them."""
        member = Member(self, work, name, priority, on_parked)
        self._members.append(member)
        return member

    def tick(self) -> list[Member]:
        """Let everybody go on who can, and make one call. Gives the members that are over.

        Does nothing when everybody waits for a future that is not done (`is_stuck`).
        """
        for member in self._members:
            if member and member.halt_with is not None:  # true once it has begun
                member.throw(member.halt_with)
            elif member.call is None and (member.waits_for is None or member.waits_for.done()):
                member.switch()
        standing = [member for member in self._members if member.call is not None]
        if standing:
            chosen = choose(
                [_standing(member) for member in standing],
                lambda index: self._learned.most_rows(_call(standing[index]), _rows_like(standing, index)),
            )
            self._park(standing, chosen)
            self._answer([standing[index] for index in chosen])
        over = [member for member in self._members if member.dead]
        self._members = [member for member in self._members if not member.dead]
        return over

    def worth(self) -> int:
        """From how many jobs at once the device gains, as far as is known of those at a step of which one is served
        first; 1 when there is no job."""
        steps = [member for member in self._members if member.call is not None and member.call.is_step]
        if not self._members:
            self._worth = 1
        elif steps:
            call = _call(steps[choose([_standing(member) for member in steps], lambda index: 0)[0]])
            self._worth = max(1, self._learned.most_rows(call) // call.rows) if call.key is not None else 1
        return self._worth

    def is_stuck(self) -> bool:
        """Whether a tick would do nothing."""
        return all(
            member.waits_for is not None and not member.waits_for.done() and member.halt_with is None
            for member in self._members
        )

    def _park(self, standing: Sequence[Member], chosen: Sequence[int]) -> None:
        """Note who is served and who stands, and tell those for whom that has come to mean something."""
        now = self._clock()
        for index, member in enumerate(standing):
            if index in chosen:
                member.stood_s += 0.0 if member.stands_since is None else now - member.stands_since
                member.stands_since, is_parked = None, False
            else:
                member.stands_since = now if member.stands_since is None else member.stands_since
                is_parked = now - member.stands_since >= PARKED_S
            if is_parked != member.is_parked:
                member.is_parked = is_parked
                member.on_parked(is_parked)

    def run_alone(self, member: Member, call: Call) -> Any:
        """A call by itself, in the member that makes it: what it raises goes through that job's own pipeline."""
        began = self._clock()
        try:
            answer = call.alone()
            self._settle()
        except BaseException as error:
            if self._is_out_of_memory(error):
                self._learned.too_many(call, call.rows)
            raise
        self._note([member], [call], self._clock() - began)
        return answer

    def _answer(self, members: Sequence[Member]) -> None:
        if len(members) == 1:
            members[0].switch(_BY_YOURSELF)
            return
        calls = [_call(member) for member in members]
        answers = self._together(members, calls)
        for index, member in enumerate(members):
            member.switch(_BY_YOURSELF if answers is None else answers[index])

    def _together(self, members: Sequence[Member], calls: Sequence[Call]) -> list[Any] | None:
        """The answers to calls made as one; None when that fails: then each is made by itself, so that one bad job
        does not fail its neighbours."""
        began = self._clock()
        try:
            answers = type(calls[0]).together(calls)
            self._settle()
        except Exception as error:
            if self._is_out_of_memory(error):
                self._learned.too_many(calls[0], sum(call.rows for call in calls))
            return None
        self._note(members, calls, self._clock() - began)
        return answers

    def _note(self, members: Sequence[Member], calls: Sequence[Call], seconds: float) -> None:
        rows = sum(call.rows for call in calls)
        self._learned.took(calls[0], rows, seconds)
        for member, call in zip(members, calls, strict=True):
            member.served_s += seconds
            member.share_s += seconds * call.rows / rows
            member.beside.update(other.name for other in members if other is not member)
            if call.is_step:
                member.steps_share_s += seconds * call.rows / rows
                member.shared[rows] = member.shared.get(rows, 0) + 1
                member.size = Size(call.key, call.rows)


def _call(member: Member) -> Call:
    assert member.call is not None
    return member.call


def _rows_like(standing: Sequence[Member], index: int) -> int:
    """The rows of all calls that could be made with that one."""
    key = _call(standing[index]).key
    return sum(_call(member).rows for member in standing if _call(member).key == key)


def _standing(member: Member) -> Standing:
    call = _call(member)
    turns = int(member.served_s / SLICE_S)
    return Standing(priority=member.priority, turns=turns, rows=call.rows, key=call.key)
