"""The words between service and worker: WebSocket `/v1/worker`, subprotocol `safelight.worker.v1`, msgpack frames.

One binary frame is one message. Identity is worker name + boot (one per process start) + session (one per
socket). Every message about a job carries (job, attempt, token); the token is the log position of the lease.
Messages with a `number` are journalled by the worker and sent again until acknowledged: at-least-once
delivery and a conditional append make exactly one effect. The others may be lost.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SUBPROTOCOL = "safelight.worker.v1"
PROTOCOL_VERSION = 1

LEASE_S = 30.0  # 30 s and adoption is the knee of the lease simulation (docs/protocol.md)
BEAT_S = 5.0
OFFER_S = 5.0  # an offer not accepted by then lapses at no cost
MAX_FRAME_BYTES = 1 << 20


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag=str.lower):
    """Base of every message; the tag is the class name in lower case."""


# shared parts


class RunningAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt the worker still has: computing, or finished with its result not yet acknowledged."""

    job: str
    attempt: int
    token: int
    step: int = 0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a RunningAttempt after a reconnect. A kept attempt goes on under `token`."""

    job: str
    attempt: int
    keep: bool
    token: int = 0


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One compute device; `memory_bytes` is 0 where the driver does not tell."""

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    memory_bytes: int = 0


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file the worker has uploaded: `digest` is the hex SHA-256 of its bytes."""

    digest: str
    media_type: str
    bytes: int
    width: int | None = None  # px
    height: int | None = None  # px
    frames: int | None = None  # of a video
    fps: float | None = None  # frames a second
    seconds: float | None = None  # of a sound
    sample_rate_hz: int | None = None


Seat = Literal["slots", "beside", "before"]
"""By which of its credit a worker takes a job."""


# worker -> service


class Hello(Message, frozen=True, kw_only=True):
    """First message of a session. A new boot of the same name fences the old boot at once.

    `models` maps a task to the ids of the models this worker can run it with. `running` lists everything the
    worker still holds, results of an earlier boot found in its journal included.
    """

    protocol: int
    worker: str
    boot: str
    models: dict[str, tuple[str, ...]]
    device: DeviceInfo
    slots: int
    versions: dict[str, str]
    running: tuple[RunningAttempt, ...] = ()


class Ready(Message, frozen=True, kw_only=True):
    """Credit: how many more offers the worker takes right now, by seat. Replaces the credit said before.

    `slots` are free. While it computes, `beside` is how many more jobs it would compute together with those it has,
    and `before` how many it would compute first, letting those stand.
    """

    slots: int
    beside: int = 0
    before: int = 0


class Accept(Message, frozen=True, kw_only=True):
    """The worker takes an offer. Computing starts only after Start."""

    offer: str


class Decline(Message, frozen=True, kw_only=True):
    """The worker does not take an offer; nothing is charged to the job, and the credit is there again."""

    offer: str
    why: str


class Phase(Message, frozen=True, kw_only=True):
    """The attempt entered a phase."""

    number: int
    job: str
    attempt: int
    token: int
    phase: str


class Completed(Message, frozen=True, kw_only=True):
    """The attempt delivered; every artifact was uploaded before. `facts`: see events.jobs.JobCompleted."""

    number: int
    job: str
    attempt: int
    token: int
    artifacts: tuple[Artifact, ...]
    facts: dict[str, Any]


class Failed(Message, frozen=True, kw_only=True):
    """The attempt failed. `kind` is one of events.jobs.ErrorKind; `crash` means the child process died."""

    number: int
    job: str
    attempt: int
    token: int
    kind: str
    message: str
    detail: str | None = None


class Stopped(Message, frozen=True, kw_only=True):
    """The attempt was stopped because of Cancel, at denoising step `step`."""

    number: int
    job: str
    attempt: int
    token: int
    step: int


class Progress(Message, frozen=True, kw_only=True):
    """Where the attempt stands. Latest wins; never in the log."""

    job: str
    attempt: int
    token: int
    phase: str
    step: int
    steps: int
    message: str = ""


class Preview(Message, frozen=True, kw_only=True):
    """A passing picture of the attempt, at most 64 KiB. Latest wins; dropped first under pressure."""

    job: str
    attempt: int
    token: int
    step: int
    media_type: Literal["image/jpeg", "image/webp", "image/png"]
    width: int
    height: int
    data: bytes


class Beat(Message, frozen=True, kw_only=True):
    """I am alive: extends every lease of this worker, as any message does. Sent every BEAT_S."""


class Drain(Message, frozen=True, kw_only=True):
    """Either way: no new offers; what runs may finish."""


# service -> worker


class Welcome(Message, frozen=True, kw_only=True):
    """Answer to Hello: the rules of this session, and a verdict for every attempt the worker said it has."""

    session: str
    lease_s: float
    beat_s: float
    verdicts: tuple[Verdict, ...] = ()


class Offer(Message, frozen=True, kw_only=True):
    """A job for the worker's credit. Not a lease: it lapses after `within_s` without Accept.

    `priority` is 0 to 100, and -1 for a background job.
    """

    offer: str
    within_s: float
    job: str
    task: str
    model: str
    params: dict[str, Any]
    priority: int = 50
    seat: Seat = "slots"


class Start(Message, frozen=True, kw_only=True):
    """The lease of an accepted offer is durable: compute."""

    offer: str
    job: str
    attempt: int
    token: int


class Withdraw(Message, frozen=True, kw_only=True):
    """The offer no longer stands (cancelled, paused, lapsed): do not compute. Its credit is there again."""

    offer: str
    why: str


class Acknowledge(Message, frozen=True, kw_only=True):
    """Every numbered message up to `through` is durable or was found stale: forget it."""

    through: int


class Stale(Message, frozen=True, kw_only=True):
    """The attempt no longer holds its job: drop it within one step, its results are not wanted."""

    job: str
    attempt: int
    why: str


class Cancel(Message, frozen=True, kw_only=True):
    """Stop the attempt within one denoising step and answer Stopped."""

    job: str
    attempt: int
    token: int


class Previews(Message, frozen=True, kw_only=True):
    """Whether anybody looks: send Preview messages only while `wanted`. Off at the start of a session."""

    wanted: bool


class Refused(Message, frozen=True, kw_only=True):
    """The session cannot go on; the socket closes after it. `retry` tells whether trying again may help."""

    why: str
    retry: bool


Reported = Phase | Completed | Failed | Stopped
FromWorker = Hello | Ready | Accept | Decline | Reported | Progress | Preview | Beat | Drain
ToWorker = Welcome | Offer | Start | Withdraw | Acknowledge | Stale | Cancel | Previews | Refused | Drain

_encoder = msgspec.msgpack.Encoder()
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def encode(message: FromWorker | ToWorker) -> bytes:
    """One message as one msgpack frame."""
    return _encoder.encode(message)


def from_worker(frame: bytes) -> FromWorker:
    """The message of a frame that a worker sent. Raises msgspec.DecodeError when it is none."""
    return _from_worker.decode(frame)


def to_worker(frame: bytes) -> ToWorker:
    """The message of a frame that the service sent. Raises msgspec.DecodeError when it is none."""
    return _to_worker.decode(frame)
