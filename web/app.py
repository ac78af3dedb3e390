"""Starting everything: the handler, the dispatcher, the hub and the routes, in one ASGI app behind the gate."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from events.jobs import JobEdited, JobSubmitted
from events.webhooks import CALLBACK, WebhookSecrets
from service import commands as ask
from service import protocol as say
from service.artifacts import ArtifactStore
from service.auth import check_key, make_key
from service.config import Config
from service.dispatch import Dispatcher
from service.handle import Handler
from service.planner import Planner
from service.polled_sessions import PolledSessions
from service.sweeps import Sweeps
from service.webhooks.address import parse_allowed
from service.webhooks.office import WebhookOffice
from service.webhooks.signing import SECRET_BYTES, make_secret
from web import (
    artifacts_api,
    events_api,
    health_api,
    job_control_api,
    jobs_api,
    keys_api,
    openapi,
    queues_api,
    webhooks_api,
    worker_http,
    worker_socket,
    workers_api,
)
from web.errors import HANDLERS
from web.gate import Gate, is_loopback
from web.hub import Hub
from web.rate_limits import RateLimits
from web.resources import eta_resource, progress_resource

if TYPE_CHECKING:
    from service.webhooks.post import Post

TICK_S = 0.5
STATIC = Path(__file__).parent / "static"

logger = logging.getLogger("safelight.app")


class NeedsKey(Exception):
    """The service was told to listen beyond this machine, and nobody has a key."""


@asynccontextmanager
async def open_app(config: Config) -> AsyncIterator[Gate]:
    """The whole service as an ASGI app, ready to answer; closing it finishes what was asked.

    Raises NeedsKey, or LogBusy when another service has the data folder.
    """
    handler = Handler(config.data, clock=_now_us, catalog=config.catalog)
    try:
        await _first_start(handler, config)
        await _after_crash(handler, config)
        artifacts = ArtifactStore(config.data / "artifacts")
        dispatcher = Dispatcher(
            handler,
            monotonic=time.monotonic,
            new_id=lambda: secrets.token_hex(8),
            is_stored=lambda digest: artifacts.path(digest) is not None,
            lease_s=config.lease_s,
            beat_s=config.beat_s,
            first_eta_s=lambda job: planner.first_s(job),
        )
        polled = PolledSessions(handler, dispatcher, monotonic=time.monotonic, new_id=lambda: secrets.token_hex(8))
        hub = Hub(
            handler.log,
            on_previews_wanted=dispatcher.want_previews,
            queue_of=lambda job: _queue_of(handler, job),
        )
        dispatcher.tell(_HubAudience(hub))
        planner = Planner(
            handler,
            monotonic=time.monotonic,
            clock=_now_us,
            progress=dispatcher.progress,
            connected=lambda: dispatcher.connected,
            tell=lambda job, queue, eta, at_us: hub.eta(job, queue, eta_resource(eta, at_us)),
        )
        handler.listen(hub.publish)
        sweeps = Sweeps(handler, clock=_now_us)
        app = Starlette(routes=_routes(), exception_handlers=HANDLERS)
        app.state.rate_limits, app.state.planner = RateLimits(), planner
        app.state.handler, app.state.dispatcher, app.state.hub = handler, dispatcher, hub
        app.state.artifacts, app.state.polled_sessions = artifacts, polled
        app.state.webhooks = webhooks = _open_webhooks(handler, config)
        app.state.webhook_allowed = parse_allowed(config.webhook_allow)
        ticking = asyncio.create_task(_tick(dispatcher.tick, polled.tick, sweeps.tick, planner.tick))
        try:
            yield _gated(app, handler, config, polled.close)
        finally:
            ticking.cancel()
            await sweeps.close()
            await hub.close()
            await webhooks.close()
    finally:
        await handler.close()
    _running_mark(config).unlink(missing_ok=True)  # it came to a good end


def _now_us() -> int:
    return time.time_ns() // 1000


async def page(request: Request) -> Response:
    """The live page."""
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


def worker_key_file(config: Config) -> Path:
    """Where the key of this machine's own workers lies."""
    return config.data / "keys" / "worker.key"


def _routes() -> list[BaseRoute]:
    modules = (
        jobs_api, job_control_api, queues_api, workers_api, artifacts_api, events_api, keys_api, webhooks_api,
        health_api, openapi, worker_http, worker_socket,
    )  # fmt: skip
    routes: list[BaseRoute] = [route for module in modules for route in module.ROUTES]
    return [
        *routes,
        Route("/", page, methods=["GET"], include_in_schema=False),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def _open_webhooks(handler: Handler, config: Config) -> WebhookOffice:
    @cache
    def post() -> Post:
        # With httpx and the certificates of the authorities 70 ms, which a start need not wait for.
        from service.webhooks.post import Post

        return Post(parse_allowed(config.webhook_allow))

    return WebhookOffice(
        config.data / "outbox.db",
        handler,
        lambda url, headers, body: post().send(url, headers, body),
        clock=lambda: time.time_ns() // 1000,
        chance=random.random,
        callback_of=lambda record, submitted: (
            _callback_of(handler, record.subject, submitted.batch) if submitted.has_callback else None
        ),
    )


def _callback_of(handler: Handler, *subjects: str | None) -> str | None:
    """The address that the first of a job and its batch asked to be told at."""
    for subject in subjects:
        records = handler.log.read_stream(f"callback/{subject}") if subject is not None else []
        if records and records[0].private:
            return msgspec.json.decode(records[0].private, type=WebhookSecrets).url
    return None


def _gated(app: Starlette, handler: Handler, config: Config, end_waits: Callable[[], None]) -> Gate:
    is_local = is_loopback(config.host)
    hosts = config.allow_hosts if is_local else (config.host, *config.allow_hosts)
    return Gate(app, hosts=hosts, keys=lambda: handler.state.keys, needs_key=not is_local, end_waits=end_waits)


def _queue_of(handler: Handler, job: str) -> str | None:
    live = handler.state.jobs.get(job)
    if live is not None:
        return live.queue
    events = [record.event for record in handler.log.read_stream(f"job/{job}")]
    return next((e.queue for e in reversed(events) if isinstance(e, JobSubmitted | JobEdited)), None)


class _HubAudience:
    """The dispatcher's audience: everybody the hub knows."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def progress(self, job: str, queue: str, progress: say.Progress) -> None:
        self._hub.progress(job, queue, progress_resource(progress))

    def preview(self, job: str, queue: str, preview: say.Preview) -> None:
        self._hub.preview(job, queue, preview.step, preview.media_type, preview.width, preview.height, preview.data)


async def _tick(*ticks: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        try:
            for tick in ticks:
                tick()
        except Exception:
            logger.exception("a sweep failed; the next one tries again")


async def _first_start(handler: Handler, config: Config) -> None:
    """What every data folder has: the default queue, a secret for callbacks, a key for local workers."""
    await handler.ask(ask.CreateQueue(queue="default"), actor="system", cause="start")
    secret = make_secret(secrets.token_bytes(SECRET_BYTES))
    callback = ask.CreateWebhook(webhook=CALLBACK, url="", secret=secret, events=())
    await handler.ask(callback, actor="system", cause="start")
    await _make_worker_key(handler, worker_key_file(config))
    if not is_loopback(config.host) and not any(set(k.scopes) - {"worker"} for k in handler.state.keys.values()):
        raise NeedsKey(
            f"--host {config.host} lets other machines in, and no key exists; start on 127.0.0.1, "
            "run `safelight keys create NAME --scope admin`, then start again"
        )


async def _after_crash(handler: Handler, config: Config) -> None:
    """Note that the service runs; where it was still running when it last ended, pause its queues if configured."""
    mark = _running_mark(config)
    if mark.exists() and config.pause_after_crash:
        for queue in handler.state.queues:
            await handler.ask(ask.PauseQueue(queue=queue, reason="crash"), actor="system", cause="start")
        logger.warning("the service did not come to a good end: its queues are paused until they are resumed")
    mark.touch()


def _running_mark(config: Config) -> Path:
    return config.data / "running"


async def _make_worker_key(handler: Handler, path: Path) -> None:
    if path.exists() and check_key(path.read_text().strip(), handler.state.keys) is not None:
        return
    text, key, digest = make_key(secrets.token_bytes(38))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    command = ask.CreateKey(key=key, name="local workers", scopes=("worker",), secret_digest=digest)
    await handler.ask(command, actor="system", cause="start")
