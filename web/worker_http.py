"""The workers' protocol over plain HTTP, /v1/worker/sessions: each request is what a socket would say in one frame.

For workers in any language (docs/http-worker.md). Bodies are checked here; what they mean is the dispatcher's.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import protocol as say
from service.artifacts import MEDIA_TYPES, ArtifactStore
from service.polled_sessions import PolledSession, PolledSessions
from service.refusals import InvalidField, UnknownTask
from service.reports import MAX_DETAIL, MAX_MESSAGE, MAX_PHASE
from service.tasks.registry import TASKS
from web.requests import body_as, cause_of, json_response

MAX_PREVIEW_BYTES = 64 << 10
MAX_WAIT_S = 60.0

Word = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Ordinal = Annotated[int, Meta(ge=1, le=2**53)]
Side = Annotated[int, Meta(ge=1, le=1 << 20)]  # px


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every body a worker sends."""


class HeldAttempt(Said, frozen=True, kw_only=True):
    """An attempt, with the token it was claimed or kept under."""

    job: Word
    attempt: Ordinal
    token: Ordinal


class WorkerDevice(Said, frozen=True, kw_only=True):
    """What the worker computes on: workers of the same device are taken to be equally fast."""

    kind: Literal["cuda", "mps", "cpu"]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    memory_bytes: Count = 0  # 0 where it is not known


class Hello(Said, frozen=True, kw_only=True):
    """The body of POST /v1/worker/sessions. `boot` is one for each start of the process, `models` are ids by task;
    `running` is every attempt it still has."""

    worker: Name
    boot: Word
    models: Annotated[dict[str, tuple[Word, ...]], Meta(min_length=1)]
    device: WorkerDevice
    slots: Annotated[int, Meta(ge=1, le=256)] = 1
    versions: dict[str, str] = {}
    running: tuple[HeldAttempt, ...] = ()


class Claim(Said, frozen=True, kw_only=True):
    """The body of a claim: `claim` is a word of the worker's, a new one for each answer it has had."""

    claim: Word
    wait_s: Annotated[float, Meta(ge=0, le=MAX_WAIT_S)] = 0.0


class Heartbeat(Said, frozen=True, kw_only=True):
    """The body of a heartbeat: every attempt that the worker has."""

    running: tuple[HeldAttempt, ...]


class SaidPreview(Said, frozen=True, kw_only=True):
    """A passing picture; `data` is base64 of at most 64 KiB."""

    media_type: Literal["image/jpeg", "image/webp", "image/png"]
    width: Side
    height: Side
    data: Annotated[bytes, Meta(min_length=1, max_length=MAX_PREVIEW_BYTES)]


class SaidProgress(HeldAttempt, frozen=True, kw_only=True):
    """How far an attempt has come."""

    phase: Annotated[str, Meta(max_length=MAX_PHASE)] = ""
    step: Count
    steps: Count
    message: Annotated[str, Meta(max_length=MAX_MESSAGE)] = ""
    preview: SaidPreview | None = None


class SaidPhase(HeldAttempt, frozen=True, kw_only=True):
    """The phase that an attempt has entered."""

    phase: Annotated[str, Meta(min_length=1, max_length=MAX_PHASE)]


class SaidArtifact(say.Artifact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that was uploaded; `digest` is the hex SHA-256 of its bytes."""

    width: Side | None = None
    height: Side | None = None


class Complete(HeldAttempt, frozen=True, kw_only=True):
    """The result of an attempt; `facts` are kept with it."""

    artifacts: tuple[SaidArtifact, ...]
    facts: dict[str, Any] = {}


class Fail(HeldAttempt, frozen=True, kw_only=True):
    """Why an attempt failed: its class, words for people, and details such as a traceback."""

    kind: Literal["invalid-input", "model-missing", "out-of-memory", "crash", "internal"]
    message: Annotated[str, Meta(min_length=1, max_length=MAX_MESSAGE)]
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] | None = None


class Stopped(HeldAttempt, frozen=True, kw_only=True):
    """The step at which an attempt was stopped."""

    step: Count = 0


class KeptAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an attempt that the worker has: it goes on under `token`, or is forgotten."""

    job: str
    attempt: int
    keep: bool
    token: int


class SessionResource(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a session, and a verdict for every attempt that hello named."""

    session: str
    lease_s: float
    beat_s: float
    verdicts: tuple[KeptAttempt, ...]


async def hello(request: Request) -> Response:
    """Begin a worker's session; an older process of its name is replaced."""
    said = await body_as(request, Hello)
    for task in said.models:
        if task not in TASKS:
            raise UnknownTask(task, list(TASKS))
    sessions: PolledSessions = request.app.state.polled_sessions
    fields = {name: getattr(said, name) for name in ("worker", "boot", "models", "slots", "versions")}
    welcome = await sessions.open(
        say.Hello(
            protocol=say.PROTOCOL_VERSION,
            device=msgspec.convert(said.device, say.DeviceInfo, from_attributes=True),
            running=_running(said.running),
            **fields,
        )
    )
    answer = msgspec.convert(welcome, SessionResource, from_attributes=True)
    return json_response(answer, 201, {"Location": f"/v1/worker/sessions/{answer.session}"})


async def drain(request: Request) -> Response:
    """End a worker's session: it takes no more jobs."""
    _session(request).drain()
    return Response(status_code=204)


async def claim(request: Request) -> Response:
    """Give the worker its next job, waiting for one as long as it asks; 204 when there was none."""
    said = await body_as(request, Claim)
    gone = asyncio.ensure_future(request.receive())  # the body was read: this ends when the client has gone
    try:
        lease = await _session(request).claim(said.claim, said.wait_s, gone)
    finally:
        gone.cancel()
    return Response(status_code=204) if lease is None else json_response(lease)


async def heartbeat(request: Request) -> Response:
    """Keep what the worker has, and tell which of it is to be stopped or forgotten."""
    said = await body_as(request, Heartbeat)
    return json_response(_session(request).heartbeat(_running(said.running)))


async def progress(request: Request) -> Response:
    """Tell how far an attempt has come, with a preview if there is one."""
    said = await body_as(request, SaidProgress)
    held = _held(said)
    preview = None if said.preview is None else say.Preview(step=said.step, **held, **_fields(said.preview))
    moved = say.Progress(phase=said.phase, step=said.step, steps=said.steps, message=said.message, **held)
    return json_response(_session(request).progress(moved, preview))


async def phase(request: Request) -> Response:
    """Record the phase that an attempt has entered."""
    said = await body_as(request, SaidPhase)
    return await _report(request, say.Phase(number=0, phase=said.phase, **_held(said)))


async def complete(request: Request) -> Response:
    """Record the result of an attempt; its files must have been uploaded."""
    said = await body_as(request, Complete)
    for number, artifact in enumerate(said.artifacts):
        _check_stored(request, f"artifacts[{number}]", artifact)
    completed = say.Completed(number=0, artifacts=said.artifacts, facts=said.facts, **_held(said))
    return await _report(request, completed)


async def fail(request: Request) -> Response:
    """Record why an attempt failed; its job is tried again, or fails."""
    said = await body_as(request, Fail)
    failed = say.Failed(number=0, kind=said.kind, message=said.message, detail=said.detail, **_held(said))
    return await _report(request, failed)


async def stopped(request: Request) -> Response:
    """Record that an attempt was stopped; a job that nobody wanted stopped waits again."""
    said = await body_as(request, Stopped)
    return await _report(request, say.Stopped(number=0, step=said.step, **_held(said)))


ROUTES = [
    Route("/v1/worker/sessions", hello, methods=["POST"]),
    Route("/v1/worker/sessions/{session}", drain, methods=["DELETE"]),
    *(
        Route(f"/v1/worker/sessions/{{session}}/{act.__name__}", act, methods=["POST"])
        for act in (claim, heartbeat, progress, phase, complete, fail, stopped)
    ),
]


def _session(request: Request) -> PolledSession:
    sessions: PolledSessions = request.app.state.polled_sessions
    return sessions.find(request.path_params["session"])


async def _report(request: Request, message: say.Reported) -> Response:
    """Answer once the report is durable. It has no number: over HTTP the answer is what acknowledges it."""
    return json_response(await _session(request).report(message, cause_of(request)))


def _held(said: HeldAttempt) -> dict[str, Any]:
    return {"job": said.job, "attempt": said.attempt, "token": said.token}


def _fields(said: Said) -> dict[str, Any]:
    return {name: getattr(said, name) for name in said.__struct_fields__}


def _running(said: tuple[HeldAttempt, ...]) -> tuple[say.RunningAttempt, ...]:
    return tuple(say.RunningAttempt(**_held(attempt)) for attempt in said)


def _check_stored(request: Request, field: str, artifact: SaidArtifact) -> None:
    """Refuse a file that is not in the store, or is described as another one."""
    store: ArtifactStore = request.app.state.artifacts
    path = store.path(artifact.digest)
    if path is None:
        raise InvalidField(
            f"{field}.digest",
            f"{artifact.digest[:80]!r} is not in the artifact store; PUT it to /v1/worker/artifacts/<digest> first",
        )
    if artifact.media_type not in MEDIA_TYPES:
        known = ", ".join(MEDIA_TYPES)
        raise InvalidField(f"{field}.media_type", f"{artifact.media_type[:80]!r} is not stored; use one of {known}")
    if (size := path.stat().st_size) != artifact.bytes:
        raise InvalidField(
            f"{field}.bytes", f"{artifact.bytes} is not the size of the file that was uploaded: {size}"
        )
