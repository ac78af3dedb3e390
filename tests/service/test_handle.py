"""Asked, durable, taken in, shown: what a caller may rely on, also when the views' disk fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.envelope import Record
from projections.job_queries import find_job
from projections.live import LiveState
from projections.store import read_snapshot
from service import commands as ask
from service.handle import Handler, ViewsBehind
from service.refusals import UnknownQueue
from service.tasks.catalog import EMBEDDED
from tests.history import submission

pytestmark = pytest.mark.anyio


@pytest.fixture
async def handler(tmp_path: Path) -> AsyncIterator[Handler]:
    ticks = itertools.count(1_000_000)
    opened = Handler(tmp_path, clock=lambda: next(ticks), catalog=EMBEDDED)
    await asked(opened, ask.CreateQueue(queue="default"))
    await opened.shown()
    yield opened
    await opened.close()


async def asked(handler: Handler, command: ask.Command) -> list[Record]:
    async with asyncio.timeout(10):
        return await handler.ask(command, actor="tester", cause="test")


async def test_what_is_answered_is_durable_and_in_live_state(handler: Handler) -> None:
    records = await asked(handler, submission("j"))
    assert handler.log.read(records[-1].position - 1, 1) == records
    assert handler.state.jobs["j"].status == "queued"


async def test_who_reads_after_shown_sees_every_answered_command(handler: Handler) -> None:
    async def write_and_read(number: int) -> None:
        await asked(handler, submission(f"j-{number}"))
        await handler.shown()
        view = find_job(handler.views.reader(), f"j-{number}")
        assert view is not None

    await asyncio.gather(*(write_and_read(number) for number in range(200)))


async def test_who_reads_after_hearing_of_an_event_sees_it(handler: Handler) -> None:
    heard: list[int] = []  # may begin with the queue's creation
    reading: list[asyncio.Task[bool]] = []

    async def is_shown(job: str) -> bool:
        await handler.shown()
        return find_job(handler.views.reader(), job) is not None

    def listen(records: Sequence[Record]) -> None:
        heard.extend(record.position for record in records)
        jobs = [record.subject for record in records if record.category == "job"]
        assert all(job in handler.state.jobs for job in jobs)
        reading.extend(asyncio.create_task(is_shown(job)) for job in jobs)

    handler.listen(listen)
    await asyncio.gather(*(asked(handler, submission(f"j-{number}")) for number in range(50)))
    async with asyncio.timeout(10):
        while len(reading) < 50:  # noqa: ASYNC110 - what is heard is told to nobody else
            await asyncio.sleep(0)
        assert await asyncio.gather(*reading) == [True] * 50
    assert heard[-50:] == list(range(2, 52))


async def test_views_are_folded_also_when_nobody_reads(handler: Handler) -> None:
    await asyncio.gather(*(asked(handler, submission(f"j-{number}")) for number in range(50)))
    async with asyncio.timeout(10):
        while handler.views.position < 51:  # noqa: ASYNC110 - a reader would have them folded
            await asyncio.sleep(0.001)
    assert find_job(handler.views.reader(), "j-49") is not None


async def test_a_command_that_causes_nothing_is_answered(handler: Handler) -> None:
    assert await asked(handler, ask.CreateQueue(queue="default")) == []


async def test_a_refusal_comes_back_and_the_next_command_is_taken(handler: Handler) -> None:
    with pytest.raises(UnknownQueue):
        await asked(handler, submission("j", queue="nowhere"))
    assert await asked(handler, submission("j"))


async def test_while_views_cannot_be_written_commands_are_kept_and_readers_told(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.handle.RETRY_S", 0.01)
    works = handler.views.apply
    is_broken = True

    def apply(*arguments: Any) -> None:
        if is_broken:
            raise OSError(28, "no space left on device")
        works(*arguments)

    monkeypatch.setattr(handler.views, "apply", apply)
    assert await asked(handler, submission("j"))
    with pytest.raises(ViewsBehind):
        async with asyncio.timeout(10):
            await handler.shown()
    assert not handler.is_ready
    with pytest.raises(ViewsBehind, match="stand at 1 of 2"):
        await handler.shown()
    is_broken = False
    async with asyncio.timeout(10):
        while not handler.is_ready:  # noqa: ASYNC110 - the folder tries again by itself
            await asyncio.sleep(0.01)
        await handler.shown()
    assert find_job(handler.views.reader(), "j") is not None


async def test_the_wal_of_the_log_is_kept_short_and_a_snapshot_is_kept(
    handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.handle.SNAPSHOT_EVERY", 500)
    for wave in range(8):
        await asyncio.gather(*(asked(handler, submission(f"j-{wave}-{number}")) for number in range(250)))
    async with asyncio.timeout(10):
        while handler.log.is_checkpoint_due:  # noqa: ASYNC110 - made by itself, told to nobody
            await asyncio.sleep(0.001)
    await asked(handler, submission("last"))
    await handler.shown()
    snapshot = read_snapshot(tmp_path / "views.db", handler.log)
    assert snapshot is not None
    assert snapshot.position >= 1500
    assert len(msgspec.msgpack.decode(snapshot.state, type=LiveState).jobs) == snapshot.position - 1
