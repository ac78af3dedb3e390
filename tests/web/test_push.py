"""The push over real sockets: each event once and in order, whatever happens to the connection.

Run over both ways out: uvicorn's protocol with prebuilt frames, and plain ASGI send.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from service import commands as ask
from service import protocol as say
from service.config import Config
from tests.history import submission
from web.app import open_app
from web.hub import Hub
from web.transport import PushProtocol

pytestmark = pytest.mark.anyio


class Quick(PushProtocol):
    """Gives up on a stalled peer sooner, for the tests."""

    stalled_s = 1.0


class Service:
    """The whole app on a real port in this loop, with handles on what is inside."""

    def __init__(self, app: Any, url: str) -> None:
        self.state = app._app.state
        self.url = url
        self.submitted = 0

    async def ask(self, command: ask.Command) -> None:
        await self.state.handler.ask(command, actor="tester", cause="test")

    async def submit(self, count: int = 1, **fields: Any) -> None:
        jobs = [f"job-{self.submitted + n}" for n in range(count)]
        self.submitted += count
        await asyncio.gather(*(self.ask(submission(job, **fields)) for job in jobs))

    @property
    def hub(self) -> Hub:
        hub: Hub = self.state.hub
        return hub

    @property
    def head(self) -> int:
        return int(self.state.handler.log.head())

    def listen(self, query: str = "") -> Any:
        return connect(
            f"{self.url}/v1/events?{query}",
            subprotocols=[Subprotocol("safelight.v1")],
            compression=None,
            max_size=None,
        )


@asynccontextmanager
async def serving(data: Path, ws: Any = Quick) -> AsyncIterator[Service]:
    async with open_app(Config(data=data)) as app:
        config = uvicorn.Config(
            app, port=0, ws=ws, ws_per_message_deflate=False, lifespan="off", log_level="warning"
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        running = asyncio.create_task(server._serve())
        async with asyncio.timeout(10):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        service = Service(app, f"ws://127.0.0.1:{port}")
        try:
            yield service
        finally:
            await service.hub.close()
            server.should_exit = True
            await running


@pytest.fixture(params=[Quick, "websockets-sansio"], ids=["prebuilt frames", "plain send"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "data", request.param) as running:
        yield running


async def messages(socket: ClientConnection) -> AsyncIterator[Any]:
    async for frame in socket:
        if isinstance(frame, bytes):
            yield frame
        else:
            decoded = msgspec.json.decode(frame)
            for message in decoded if isinstance(decoded, list) else [decoded]:
                yield message


async def positions_until(socket: ClientConnection, last: int) -> list[int]:
    """Positions of the events that come, up to and with `last`."""
    found: list[int] = []
    async with asyncio.timeout(20):
        async for message in messages(socket):
            if not isinstance(message, bytes) and message["op"] == "event":
                found.append(message["position"])
                if message["position"] >= last:
                    return found
    raise AssertionError(f"the socket ended after {found[-5:]}")


async def some_events(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    """The next events that come."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        async for message in messages(socket):
            found += [message] if message["op"] == "event" else []
            if len(found) == count:
                return found
    raise AssertionError(f"the socket ended after {found[-5:]}")


async def test_every_subscriber_gets_every_event_once_and_in_order(service: Service) -> None:
    sockets = [await service.listen("after=0") for _ in range(5)]
    await service.submit(100)
    for socket in sockets:
        assert await positions_until(socket, service.head) == list(range(1, service.head + 1))
        await socket.close()


async def test_an_event_says_what_the_log_says(service: Service) -> None:
    async with service.listen("after=0") as socket:
        stream = messages(socket)
        hello = await anext(stream)
        assert (hello["op"], hello["epoch"]) == ("hello", service.state.handler.log.log_id)
        await service.submit(params={"steps": 3})
        async for message in stream:
            if message["type"] == "job-submitted":
                break
        assert message["stream"] == "job/job-0"
        assert message["data"]["params"]["steps"] == 3
        assert message["actor"] == "tester"


async def test_resuming_behind_a_position_misses_and_repeats_nothing(service: Service) -> None:
    rng = random.Random(5)
    seen: list[int] = []
    await service.submit(30)
    submitting = asyncio.create_task(service.submit(200))
    while not seen or seen[-1] < service.head or not submitting.done():
        async with service.listen(f"after={seen[-1] if seen else 0}") as socket:
            wanted = rng.randint(1, 60)
            seen += await positions_until(socket, min(service.head, (seen[-1] if seen else 0) + wanted))
    await submitting
    assert seen == list(range(1, len(seen) + 1))


async def test_a_snapshot_and_the_events_behind_it_leave_no_gap(service: Service) -> None:
    submitting = asyncio.create_task(service.submit(150))
    async with service.listen() as socket:
        stream = messages(socket)
        assert (await anext(stream))["op"] == "hello"
        snapshot = await anext(stream)
        assert snapshot["op"] == "snapshot"
        jobs = {job["id"] for job in snapshot["jobs"]}
        assert snapshot["last"]
        assert [q["name"] for q in snapshot["queues"]] == ["default"]
        await submitting
        last = snapshot["as_of"]
        while last < service.head:
            message = await anext(stream)
            if message["op"] != "event":
                continue
            assert message["position"] == last + 1
            last = message["position"]
            job = message["stream"].partition("/")[2]
            assert job not in jobs
            jobs.add(job)
    assert len(jobs) == 150


async def test_a_snapshot_has_every_job_that_has_not_ended(service: Service) -> None:
    later_us = int(time.time() * 1e6) + 3_600_000_000
    await service.submit()
    await service.submit(is_held=True)
    await service.submit(not_before_us=later_us)
    async with service.listen() as socket:
        stream = messages(socket)
        await anext(stream)
        jobs = (await anext(stream))["jobs"]
    assert {job["status"] for job in jobs} == {"queued", "held", "scheduled"}
    assert all(job["order"] for job in jobs)


async def test_a_job_that_goes_to_another_queue_is_heard_of_there_and_leaves_its_own(service: Service) -> None:
    await service.ask(ask.CreateQueue(queue="other"))
    await service.submit()
    before = service.head
    here, there = f"after={before}&queue=default", f"after={before}&queue=other"
    async with service.listen(here) as at_home, service.listen(there) as abroad:
        await service.ask(ask.HoldJob(job="job-0"))
        await service.ask(ask.EditJob(job="job-0", seed=1, queue="other"))
        await service.ask(ask.CancelJob(job="job-0"))
        await service.submit()
        at_home_types = ["job-held", "job-edited", "job-submitted"]
        assert [event["type"] for event in await some_events(abroad, 2)] == ["job-edited", "job-cancelled"]
        told = await some_events(at_home, 3)
        assert [event["type"] for event in told] == at_home_types
        assert (told[1]["data"]["queue"], told[1]["data"]["left"]) == ("other", "default")
    async with service.listen(here) as resumed:
        assert [event["type"] for event in await some_events(resumed, 3)] == at_home_types


async def test_who_was_away_is_told_that_a_job_has_left_its_queue(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as service:
        await service.ask(ask.CreateQueue(queue="other"))
        await service.submit()
        seen = service.head
        await service.ask(ask.EditJob(job="job-0", seed=1, queue="other"))
    # The next service has no event in its ring, only in its log.
    async with serving(tmp_path / "data") as service, service.listen(f"after={seen}&queue=default") as socket:
        (event,) = await some_events(socket, 1)
        assert (event["type"], event["data"]["left"]) == ("job-edited", "default")


async def test_another_epoch_gets_a_snapshot_instead_of_a_resume(service: Service) -> None:
    await service.submit()
    async with service.listen("after=1&epoch=another") as socket:
        stream = messages(socket)
        await anext(stream)
        assert (await anext(stream))["op"] == "snapshot"
    async with service.listen("after=999999") as socket:
        stream = messages(socket)
        await anext(stream)
        assert (await anext(stream))["op"] == "snapshot", "a position from the future is of another history"


async def test_who_is_too_far_behind_for_its_own_taste_gets_a_snapshot(service: Service) -> None:
    await service.submit(20)
    for query, op in ((f"after={service.head - 10}&most=10", "event"), ("after=1&most=10", "snapshot")):
        async with service.listen(query) as socket:
            stream = messages(socket)
            await anext(stream)
            assert (await anext(stream))["op"] == op


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("job=job-1", lambda m: m["stream"] == "job/job-1"),
        ("types=job-cancelled", lambda m: m["type"] == "job-cancelled"),
        ("queue=other", lambda m: "other" in (m["stream"], m["data"].get("queue"), m["data"].get("name"))),
        ("queue=default&types=job-edited", lambda m: m["data"].get("left") == "default"),
    ],
)
async def test_a_filter_lets_through_what_it_says(service: Service, query: str, matches: Any) -> None:
    await service.ask(ask.CreateQueue(queue="other"))
    async with service.listen(f"after=0&{query}") as socket:
        await service.submit(3)
        await service.submit(3, queue="other")
        await service.ask(ask.CancelJob(job="job-1"))
        await service.ask(ask.EditJob(job="job-0", seed=1, queue="other"))
        await service.ask(ask.EditJob(job="job-4", seed=1, priority=60))
        expected = [r.position for r in service.state.handler.log.read(0, 100) if matches(_shape(r))]
        assert await positions_until(socket, expected[-1]) == expected


def _shape(record: Any) -> dict[str, Any]:
    data = msgspec.to_builtins(record.event)
    return {"stream": record.stream.removeprefix("queue/") if "queue" in record.stream else record.stream,
            "type": record.event.type, "data": data}  # fmt: skip


async def test_who_has_passed_the_ring_catches_up_from_the_log(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as service:
        service.hub._ring_bytes = 2_000
        await service.submit(1_200)
        async with asyncio.timeout(20):
            while service.hub._ring_after <= 1_000:  # noqa: ASYNC110 - published soon after the answers
                await asyncio.sleep(0.001)
        async with service.listen("after=0") as socket:
            await service.submit(5)
            assert await positions_until(socket, service.head) == list(range(1, service.head + 1))


async def test_a_peer_that_never_reads_is_cut_off_and_delays_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rsplit(":", 1)[1]), limit=1024)
        host = service.url.removeprefix("ws://")
        writer.write(
            f"GET /v1/events?after=0 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: safelight.v1\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        async with service.listen("after=0") as healthy:
            big = {"task": None, "params": {"prompt": "x" * 4000}}
            last: list[int] = []
            for _ in range(30):
                await service.submit(100, **big)
                last = await positions_until(healthy, service.head)
            assert last[-1] == service.head
            async with asyncio.timeout(15):
                while service.hub.subscribers > 1:  # noqa: ASYNC110 - the hub has no event for it
                    await asyncio.sleep(0.05)
        assert service.hub._ring_size <= 4 << 20
        writer.close()


async def test_progress_is_told_and_the_latest_wins(service: Service) -> None:
    from web.resources import ProgressResource

    async with service.listen("after=0") as socket:
        await service.submit()
        await positions_until(socket, service.head)
        for step in range(1, 501):
            service.hub.progress(
                "job-0", "default", ProgressResource(phase="denoising", step=step, steps=500, percent=step / 5)
            )
        told: list[int] = []
        async with asyncio.timeout(10):
            async for message in messages(socket):
                if message["op"] == "eph":
                    told.append(message["data"]["step"])
                    if told[-1] == 500:
                        break
        assert told == sorted(told)
        assert len(told) <= 3


async def test_previews_go_to_who_looks_and_the_workers_know_whether_anybody_does(service: Service) -> None:
    heard: list[bool] = []
    service.hub._on_previews_wanted = heard.append
    async with service.listen("after=0") as blind, service.listen("after=0&previews=1") as looking:
        await service.submit()
        await positions_until(blind, service.head)
        await positions_until(looking, service.head)
        assert heard == [True]
        service.hub.preview("job-0", "default", 3, "image/jpeg", 64, 64, b"\xff\xd8\xffpicture")
        async with asyncio.timeout(10):
            async for message in messages(looking):
                if isinstance(message, bytes):
                    break
        version, kind, length = struct.unpack("!BBH", message[:4])
        header = msgspec.json.decode(message[4 : 4 + length])
        assert (version, kind, header) == (1, 1, {"job": "job-0", "step": 3, "width": 64, "height": 64})
        assert message[4 + length :] == b"\xff\xd8\xffpicture"
        await looking.send('{"op":"previews","wanted":false}')
        async with asyncio.timeout(10):
            while heard != [True, False]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_who_hears_nothing_is_told_how_far_it_is(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.hub.MARK_S", 0.05)
    async with service.listen(f"after={service.head}&types=job-completed") as socket:
        stream = messages(socket)
        await anext(stream)
        await service.submit(3)
        async with asyncio.timeout(10):
            mark = await anext(stream)
            while mark["through"] < service.head:
                mark = await anext(stream)
        assert mark["op"] == "mark"


@pytest.mark.parametrize(
    ("query", "subprotocol", "code"),
    [("", "other.v9", 4406), ("after=x", "safelight.v1", 4400), ("after=-1", "safelight.v1", 4400)],
)
async def test_what_is_not_spoken_here_is_closed_with_a_code(
    service: Service, query: str, subprotocol: str, code: int
) -> None:
    address = f"{service.url}/v1/events?{query}"
    async with connect(address, subprotocols=[Subprotocol(subprotocol)]) as socket:
        await asyncio.wait_for(socket.wait_closed(), 10)
    assert socket.close_code == code


@pytest.mark.parametrize("message", ["{", "[]", '{"op":"drop"}', '{"op":"previews"}', b"\x00", "[" * 50_000])
async def test_a_bad_message_ends_the_connection_and_nothing_else(service: Service, message: Any) -> None:
    async with service.listen("after=0") as socket, service.listen("after=0") as other:
        await socket.send(message)
        await asyncio.wait_for(socket.wait_closed(), 10)
        assert socket.close_code == 4400
        await service.submit()
        await positions_until(other, service.head)


async def test_the_end_of_the_service_is_said_so_that_clients_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as service:
        socket = await service.listen("after=0")
    await asyncio.wait_for(socket.wait_closed(), 10)
    assert socket.close_code == 1012


async def test_a_restart_of_the_service_is_resumed_across(tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(3):
        async with serving(tmp_path / "data") as service:
            service.submitted = len(seen) * 7
            async with service.listen(f"after={seen[-1] if seen else 0}") as socket:
                await service.submit(20)
                seen += await positions_until(socket, service.head)
    assert seen == list(range(1, len(seen) + 1))


async def test_a_preview_of_a_worker_reaches_a_subscriber(service: Service) -> None:
    """From the dispatcher's side: what a worker session sends comes out of the socket."""
    heard: list[Any] = []
    from service.sessions import Session
    from tests.history import PRETEND

    session = Session(id="s", send=heard.append, end=lambda: None)
    await service.state.dispatcher.hello(
        session,
        say.Hello(
            protocol=1, worker="w", boot="b", models=PRETEND, slots=1, versions={},
            device=say.DeviceInfo(kind="cpu", name="t"),
        ),
    )  # fmt: skip
    async with service.listen("after=0&previews=1") as socket:
        stream = messages(socket)
        assert (await anext(stream))["op"] == "hello"
        await service.submit()
        await positions_until(socket, service.head)
        assert any(isinstance(m, say.Previews) and m.wanted for m in heard)
        service.state.dispatcher.receive(session, say.Ready(slots=1))
        offer = next(m for m in heard if isinstance(m, say.Offer))
        service.state.dispatcher.receive(session, say.Accept(offer=offer.offer))
        async with asyncio.timeout(10):
            while not any(isinstance(m, say.Start) for m in heard):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        start = next(m for m in heard if isinstance(m, say.Start))
        await positions_until(socket, service.head)
        preview = say.Preview(
            job=start.job,
            attempt=1,
            token=start.token,
            step=2,
            media_type="image/webp",
            width=8,
            height=8,
            data=b"RIFF",
        )
        service.state.dispatcher.receive(session, preview)
        async with asyncio.timeout(10):
            async for message in stream:
                if isinstance(message, bytes):
                    assert message.endswith(b"RIFF")
                    return
