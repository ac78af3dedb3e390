"""Fan-out: every committed event to every subscriber that wants it, once, in order, whatever the others do.

Published after commit. An event is encoded once; a frame is built once for all subscribers of the same filter
that stand at the head. There is no queue and no task for a subscriber that keeps up, only a cursor. One that
does not is skipped; when it can be written to again it is served from a bounded ring of encoded events, and
where that no longer reaches back, from the log itself.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import msgspec

from events.envelope import Record
from events.jobs import JobEdited
from events.log import LogReader
from web.resources import EtaResource, ProgressResource, event_resource
from web.transport import Sink, binary_frame, text_frame

TICK_S = 0.02  # joins what happens meanwhile into one write; the first event after idle goes at once
MARK_S = 5.0
PROGRESS_S = 0.1  # at most ten progress messages a second for a job
RING_BYTES = 4 << 20
PAGE = 500
KINDS = {"image/jpeg": 1, "image/png": 2, "image/webp": 3}


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber wants; None and () do not filter. Equal filters share frames.

    `queue` lets through what happens to jobs that are in it, and the edit by which one leaves it.
    """

    queue: str | None = None
    job: str | None = None
    types: tuple[str, ...] = ()
    progress: bool = True


class Encoded(msgspec.Struct, frozen=True):
    """An event ready to be sent, with what filters look at."""

    position: int
    type: str
    job: str | None
    queue: str | None
    left: str | None  # the queue that its job was in before it
    json: bytes


class Subscriber(msgspec.Struct, eq=False):
    """One socket: `cursor` is the position up to which it has everything it wants."""

    sink: Sink
    filter: Filter
    cursor: int
    wants_previews: bool = False
    is_live: bool = False  # stands at the head: gets frames as they are built
    marked: int = 0
    catching_up: asyncio.Task[None] | None = None


class Hub:
    """All subscribers of one service. Everything here runs in the event loop."""

    def __init__(
        self,
        log: LogReader,
        *,
        on_previews_wanted: Callable[[bool], None] = lambda wanted: None,
        queue_of: Callable[[str], str | None] = lambda job: None,
        tick_s: float = TICK_S,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        """`queue_of` tells the queue of a job, for filters. `tick_s` joins events, `ring_bytes` bounds the ring."""
        self._log = log
        self._on_previews_wanted = on_previews_wanted
        self._queue_of = lru_cache(maxsize=10_000)(queue_of)
        self._tick_s = tick_s
        self._ring_bytes = ring_bytes
        self._ring: deque[Encoded] = deque()
        self._ring_size = 0
        self._ring_after = log.head()  # everything above this position that was published is in the ring
        self._pending: list[Encoded] = []
        self._passing: dict[tuple[str, str], tuple[str, ProgressResource | EtaResource]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._groups: dict[Filter, set[Subscriber]] = {}
        self._closed = asyncio.Event()
        self.position = log.head()

    # subscribing

    @property
    def subscribers(self) -> int:
        """How many sockets listen."""
        return sum(map(len, self._groups.values()))

    def subscribe(self, sink: Sink, wanted: Filter, after: int, *, wants_previews: bool = False) -> Subscriber:
        """Send everything wanted above position `after`, from now on."""
        subscriber = Subscriber(sink=sink, filter=wanted, cursor=after, marked=after)
        self._groups.setdefault(wanted, set()).add(subscriber)
        sink.on_writable(lambda: self._resume(subscriber))
        self.want_previews(subscriber, wants_previews)
        self._resume(subscriber)
        self._later("mark", MARK_S, self._mark)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Send nothing more."""
        self.want_previews(subscriber, False)
        group = self._groups.get(subscriber.filter, set())
        group.discard(subscriber)
        if not group:
            self._groups.pop(subscriber.filter, None)
        if subscriber.catching_up is not None:
            subscriber.catching_up.cancel()

    def want_previews(self, subscriber: Subscriber, wanted: bool) -> None:
        """Turn previews on or off for one subscriber; workers are told when the first or last one changes."""
        before = self._previews_wanted()
        subscriber.wants_previews = wanted
        if self._previews_wanted() != before:
            self._on_previews_wanted(not before)

    async def until_closed(self) -> None:
        """Return when the service is about to end."""
        await self._closed.wait()

    async def close(self) -> None:
        """Send what is pending and let every socket handler end."""
        self._flush()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._closed.set()

    # publishing

    def publish(self, records: Sequence[Record]) -> None:
        """Send committed records: at once after idle, else with the next tick."""
        for record in records:
            if isinstance(record.event, JobEdited):
                self._queue_of.cache_clear()  # the job may be in another queue from here on
            encoded = self._encode(record)
            self._pending.append(encoded)
            self._keep(encoded)
        if "tick" not in self._timers:
            self._flush()
            self._later("tick", self._tick_s, self._on_tick)

    def progress(self, job: str, queue: str, progress: ProgressResource) -> None:
        """Send how far a job is: the latest wins, at most ten times a second, only to who keeps up."""
        self._pass_on("progress", job, queue, progress)

    def eta(self, job: str, queue: str, eta: EtaResource) -> None:
        """Send when a job is thought to start and end, like progress."""
        self._pass_on("eta", job, queue, eta)

    def preview(
        self, job: str, queue: str, step: int, media_type: str, width: int, height: int, data: bytes
    ) -> None:
        """Send a passing picture to those who look and have nothing else on the way."""
        header = msgspec.json.encode({"job": job, "step": step, "width": width, "height": height})
        payload = struct.pack("!BBH", 1, KINDS[media_type], len(header)) + header + data
        frame = binary_frame(payload)
        for wanted, group in self._groups.items():
            if wanted.job in (None, job) and wanted.queue in (None, queue):
                for subscriber in group:
                    sink = subscriber.sink
                    if subscriber.wants_previews and sink.is_writable and sink.is_idle:
                        subscriber.sink.write(frame)

    # the head

    def _on_tick(self) -> None:
        if self._pending:
            self._flush()
            self._later("tick", self._tick_s, self._on_tick)

    def _flush(self) -> None:
        """One frame for each group, to every member at the head that keeps up; the others catch up later."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        first, self.position = pending[0].position, pending[-1].position
        for wanted, group in list(self._groups.items()):
            frame = _frame(pending, wanted)
            for subscriber in group:
                if not subscriber.is_live:
                    continue
                unseen = frame if subscriber.cursor < first else _frame(_above(subscriber.cursor, pending), wanted)
                if unseen is None:
                    subscriber.cursor = max(subscriber.cursor, self.position)
                elif subscriber.sink.is_writable:
                    subscriber.sink.write(unseen)
                    subscriber.cursor = subscriber.marked = self.position
                else:
                    subscriber.is_live = False

    def _pass_on(self, kind: str, job: str, queue: str, data: ProgressResource | EtaResource) -> None:
        self._passing[kind, job] = (queue, data)
        if "passing" not in self._timers:
            self._flush_passing()
            self._later("passing", PROGRESS_S, self._on_passing_tick)

    def _on_passing_tick(self) -> None:
        if self._passing:
            self._flush_passing()
            self._later("passing", PROGRESS_S, self._on_passing_tick)

    def _flush_passing(self) -> None:
        latest, self._passing = self._passing, {}
        for wanted, group in self._groups.items():
            if not wanted.progress:
                continue
            told = [
                {"op": "eph", "kind": kind, "job": job, "data": data}
                for (kind, job), (queue, data) in latest.items()
                if wanted.job in (None, job) and wanted.queue in (None, queue)
            ]
            if told:
                self._tell_live(group, text_frame(msgspec.json.encode(told)))

    def _mark(self) -> None:
        """Tell who has heard nothing for a while that there was nothing to hear."""
        for group in self._groups.values():
            frame = text_frame(msgspec.json.encode({"op": "mark", "through": self.position}))
            for subscriber in group:
                if subscriber.is_live and subscriber.marked < self.position and subscriber.sink.is_writable:
                    subscriber.sink.write(frame)
                    subscriber.marked = self.position
        if self._groups:
            self._later("mark", MARK_S, self._mark)

    def _tell_live(self, group: Iterable[Subscriber], frame: bytes) -> None:
        for subscriber in group:
            if subscriber.is_live and subscriber.sink.is_writable:
                subscriber.sink.write(frame)

    # behind the head

    def _resume(self, subscriber: Subscriber) -> None:
        """The subscriber can be written to and is behind: serve it from the ring, or begin to read the log."""
        if subscriber.is_live or subscriber.catching_up is not None:
            return
        if self._is_behind_the_ring(subscriber):
            subscriber.catching_up = asyncio.get_running_loop().create_task(self._catch_up(subscriber))
            return
        missed = [event for event in _above(subscriber.cursor, self._ring) if event.position <= self.position]
        if self._write_events(subscriber, missed):
            # It may be ahead: a snapshot shows all that is durable, and events wait for the next tick.
            subscriber.cursor = max(subscriber.cursor, self.position)
            subscriber.is_live = True

    async def _catch_up(self, subscriber: Subscriber) -> None:
        """Read the log in pages while the subscriber has room, until the ring reaches back far enough."""
        try:
            while self._is_behind_the_ring(subscriber) and subscriber.sink.is_writable:
                records = await asyncio.to_thread(self._log.read, subscriber.cursor, PAGE)
                missed = [self._encode(record) for record in records if record.position <= self.position]
                if not self._write_events(subscriber, missed):
                    return  # called again when there is room
                subscriber.cursor = missed[-1].position
        finally:
            subscriber.catching_up = None
        if subscriber.sink.is_writable:
            self._resume(subscriber)

    def _is_behind_the_ring(self, subscriber: Subscriber) -> bool:
        """Whether events it wants now stand in the log only. What waits for the next tick may have left a small
        ring already, but comes to everybody at the head with that tick."""
        return subscriber.cursor < min(self._ring_after, self.position)

    # small parts

    def _encode(self, record: Record) -> Encoded:
        job = record.subject if record.category == "job" else None
        body = msgspec.json.encode(event_resource(record))
        return Encoded(
            record.position,
            record.event.type,
            job,
            self._queue_of(job) if job is not None else _queue_named(record),
            record.event.left if isinstance(record.event, JobEdited) else None,
            b'{"op":"event",' + body[1:],
        )

    def _keep(self, encoded: Encoded) -> None:
        self._ring.append(encoded)
        self._ring_size += len(encoded.json)
        while self._ring_size > self._ring_bytes:
            oldest = self._ring.popleft()
            self._ring_size -= len(oldest.json)
            self._ring_after = oldest.position

    def _write_events(self, subscriber: Subscriber, events: Sequence[Encoded]) -> bool:
        """Send what the subscriber wants of `events`; False when there is no room for it now."""
        frame = _frame(events, subscriber.filter)
        if frame is not None:
            if not subscriber.sink.is_writable:
                return False
            subscriber.sink.write(frame)
            subscriber.marked = events[-1].position
        return True

    def _previews_wanted(self) -> bool:
        return any(s.wants_previews for group in self._groups.values() for s in group)

    def _later(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        if name in self._timers or self._closed.is_set():
            return

        def fire() -> None:
            del self._timers[name]
            act()

        self._timers[name] = asyncio.get_running_loop().call_later(seconds, fire)


def _above(position: int, events: Iterable[Encoded]) -> list[Encoded]:
    return [event for event in events if event.position > position]


def _queue_named(record: Record) -> str | None:
    return record.subject if record.category == "queue" else None


def _frame(events: Iterable[Encoded], wanted: Filter) -> bytes | None:
    """One text frame: a JSON array of the events that a filter lets through; None when there are none."""
    bodies = [event.json for event in events if _matches(event, wanted)]
    return text_frame(b"[" + b",".join(bodies) + b"]") if bodies else None


def _matches(event: Encoded, wanted: Filter) -> bool:
    return (
        (wanted.job is None or wanted.job == event.job)
        and (wanted.queue is None or wanted.queue in (event.queue, event.left))
        and (not wanted.types or event.type in wanted.types)
    )
