"""The hub's promise under any order of things: all that lies behind a cursor, once, in order, whatever the ring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from events.envelope import Record
from events.jobs import JobEdited
from projections.live import LiveState
from service import commands as ask
from tests.history import History
from web.hub import Filter, Hub, Subscriber

EVENTS = 40


class Peer:
    """A subscriber's end of the wire, which can stop reading."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.is_writable = True
        self.is_idle = True
        self._resumed: Callable[[], None] = lambda: None

    def write(self, frame: bytes) -> None:
        assert self.is_writable, "written to while it does not read"
        start = {126: 4, 127: 10}.get(frame[1], 2)
        decoded = msgspec.json.decode(frame[start:])
        for message in decoded if isinstance(decoded, list) else [decoded]:
            if message["op"] == "event":
                self.positions.append(message["position"])

    def on_writable(self, callback: Callable[[], None]) -> None:
        self._resumed = callback

    def reads(self, wanted: bool) -> None:
        self.is_writable = wanted
        if wanted:
            self._resumed()


def history() -> History:
    """Two queues, a job that stays in one and a job that goes to and fro between both."""
    past = History().with_queue().with_queue("other")
    for job in ("stays", "roams"):
        past.submit(job)
    while past.head() < EVENTS:
        past.ask(ask.PauseQueue(queue="default"))
        past.ask(ask.HoldJob(job="stays"))
        past.ask(ask.EditJob(job="roams", seed=1, queue="other"))
        past.ask(ask.ResumeQueue(queue="default"))
        past.ask(ask.ReleaseJob(job="stays"))
        past.ask(ask.EditJob(job="roams", seed=1, queue="default"))
    return past


ACTS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 12)),
    st.tuples(st.just("join"), st.integers(0, EVENTS)),
    st.tuples(st.sampled_from(["join default", "join other"]), st.integers(0, EVENTS)),
    st.tuples(st.just("stop reading"), st.integers(0, 5)),
    st.tuples(st.just("read again"), st.integers(0, 5)),
    st.tuples(st.just("let time pass"), st.integers(0, 2)),
)


@settings(max_examples=300, deadline=None)
@given(acts=st.lists(ACTS, max_size=30), ring_bytes=st.sampled_from([1, 700, 2_000, 1 << 20]))
def test_every_subscriber_gets_what_lies_behind_its_position_once_and_in_order(acts, ring_bytes):  # type: ignore[no-untyped-def]
    asyncio.run(_play(acts, ring_bytes))


def test_who_joins_ahead_of_what_is_published_gets_nothing_twice() -> None:
    asyncio.run(_play([("join", EVENTS), ("publish", 12), ("publish", 12)], 1 << 20))


def test_a_ring_smaller_than_one_tick_loses_nobody() -> None:
    acts = [("publish", 1), ("publish", 12), ("join", 0), ("let time pass", 2), ("publish", 5)]
    asyncio.run(_play(acts, 1))


def test_who_listens_to_a_queue_is_told_of_every_job_that_leaves_it_from_the_ring_and_from_the_log() -> None:
    acts = [("join default", 0), ("publish", 12), ("join other", 3), ("publish", 12), ("join default", 2)]
    for ring_bytes in (1, 1 << 20):
        asyncio.run(_play(acts, ring_bytes))


async def _play(acts: list[tuple[str, int]], ring_bytes: int) -> None:
    past = history()
    records, published = list(past.records), 0
    past.records = []  # the hub opens on an empty log; decided and durable is only what comes back below
    state = LiveState()
    hub = Hub(past, tick_s=0.001, ring_bytes=ring_bytes, queue_of=lambda job: state.jobs[job].queue)
    past.records = records  # the log is ahead of what is published, as in the service
    peers: list[tuple[Subscriber, int, Peer]] = []

    def publish(count: int) -> None:
        nonlocal published
        batch = records[published : published + count]
        published += len(batch)
        for record in batch:
            state.apply(record)
        if batch:
            hub.publish(batch)

    for what, number in acts:
        if what == "publish":
            publish(number)
        elif what.startswith("join"):
            peer = Peer()
            wanted = Filter(queue=what.removeprefix("join").strip() or None)
            peers.append((hub.subscribe(peer, wanted, number), number, peer))
        elif what == "let time pass":
            await asyncio.sleep(0.001 * number)
        elif peers:
            peers[number % len(peers)][2].reads(what == "read again")
    publish(len(records))
    for *_, peer in peers:
        peer.reads(True)
    async with asyncio.timeout(5):
        while any(subscriber.cursor < len(records) for subscriber, _, _ in peers):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for subscriber, after, peer in peers:
        behind = records[after:]
        assert peer.positions == sorted(set(peer.positions))
        assert {r.position for r in behind if must_hear(subscriber.filter, r)} <= set(peer.positions)
        assert set(peer.positions) <= {r.position for r in behind if may_hear(subscriber.filter, r)}
    await hub.close()


def must_hear(wanted: Filter, record: Record) -> bool:
    """Whether the event belongs to the queue wherever its job is by now."""
    if wanted.queue is None:
        return True
    if isinstance(record.event, JobEdited):
        return wanted.queue == record.event.left
    return wanted.queue == ("default" if record.stream == "job/stays" else record.subject)


def may_hear(wanted: Filter, record: Record) -> bool:
    """What happens to the job that roams is told in the queue where it is when that is told."""
    return must_hear(wanted, record) or record.stream == "job/roams"
