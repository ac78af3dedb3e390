"""The words between agent and child: msgpack frames behind a 4-byte length, over a socket pair.

The child never sees tokens, keys or the service; the agent never sees tensors. Only structs, bytes and
the framing live here, so that both sides import it without loading anything heavy.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import Any

import msgspec

from service.protocol import DeviceInfo
from service.tasks.catalog import Model

_LENGTH = struct.Struct(">I")


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag=str.lower):
    """Base of every frame; the tag is the class name in lower case."""


class SpooledFile(msgspec.Struct, frozen=True, kw_only=True):
    """A result file, fsynced in the spool folder under `name`; `digest` is the hex SHA-256 of its bytes."""

    name: str
    digest: str
    media_type: str
    bytes: int
    width: int | None = None  # px
    height: int | None = None  # px
    frames: int | None = None  # of a video
    fps: float | None = None  # frames a second
    seconds: float | None = None  # of a sound
    sample_rate_hz: int | None = None


# agent -> child


class Setup(Frame, frozen=True, kw_only=True):
    """First frame: what the child is for. `device` as asked (auto, cpu, cuda:N, mps); `threads` 0 = core count."""

    parent: int  # process id of the agent
    device: str
    threads: int
    models: tuple[Model, ...]
    preload: str | None
    spool: str


class Begin(Frame, frozen=True, kw_only=True):
    """Compute this attempt, with or beside those begun before it, before those of a lower `priority`.

    `priority` is 0 to 100, and -1 for a background job. `inputs` are the files it starts from, by param. At the
    path `tape` the child keeps what a next one needs to go on, and finds what the last one kept.
    """

    job: str
    attempt: int
    task: str
    model: str
    params: dict[str, Any]
    priority: int = 50
    inputs: dict[str, str] = {}
    tape: str = ""


class Halt(Frame, frozen=True, kw_only=True):
    """Stop the attempt within one step and answer Halted, unless its end is already on the way."""

    job: str
    attempt: int


class Watch(Frame, frozen=True, kw_only=True):
    """Whether anybody looks at previews."""

    wanted: bool


# child -> agent


class Up(Frame, frozen=True, kw_only=True):
    """Answer to Setup: `label` is the device in the form of the option, as in cuda:0."""

    label: str
    device: DeviceInfo
    versions: dict[str, str]


class Unfit(Frame, frozen=True, kw_only=True):
    """Answer to Setup when this machine cannot do what was asked; the child ends."""

    why: str


class Loading(Frame, frozen=True, kw_only=True):
    """The child began to load a model."""

    model: str


class Loaded(Frame, frozen=True, kw_only=True):
    """A model is warm after `seconds`; `why_not` says what went wrong when it is not."""

    model: str
    seconds: float
    why_not: str | None = None


class Entered(Frame, frozen=True, kw_only=True):
    """The attempt entered a phase."""

    job: str
    attempt: int
    phase: str


class Stepped(Frame, frozen=True, kw_only=True):
    """Where the attempt stands; `step_s` is the mean seconds of a step so far, 0 before the first."""

    job: str
    attempt: int
    phase: str
    step: int
    steps: int
    step_s: float


class Shown(Frame, frozen=True, kw_only=True):
    """A passing picture of the attempt, JPEG."""

    job: str
    attempt: int
    step: int
    width: int  # px
    height: int  # px
    data: bytes


class Freed(Frame, frozen=True, kw_only=True):
    """The device is free for the next attempt; this one only has its result written."""

    job: str
    attempt: int


class Worth(Frame, frozen=True, kw_only=True):
    """From how many jobs at once the device gains, as far as is known of those that it computes now."""

    jobs: int


class Finished(Frame, frozen=True, kw_only=True):
    """The attempt is done; its files are on disk."""

    job: str
    attempt: int
    files: tuple[SpooledFile, ...]
    facts: dict[str, Any]


class Broke(Frame, frozen=True, kw_only=True):
    """The attempt failed; `kind`, `message` and `detail` as in protocol.Failed."""

    job: str
    attempt: int
    kind: str
    message: str
    detail: str | None = None


class Halted(Frame, frozen=True, kw_only=True):
    """The attempt stopped because of Halt, at `step`."""

    job: str
    attempt: int
    step: int


ToChild = Setup | Begin | Halt | Watch
FromChild = Up | Unfit | Loading | Loaded | Entered | Stepped | Shown | Freed | Worth | Finished | Broke | Halted

_encoder = msgspec.msgpack.Encoder()
_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def packed(frame: ToChild | FromChild) -> bytes:
    """One frame with its length in front."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


async def next_from_child(reader: asyncio.StreamReader) -> FromChild | None:
    """The next frame of the child, or None when its end of the pair is closed."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return _from_child.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


class ChildEnd:
    """The child's end of the pair, for its threads: one reads, all may send."""

    def __init__(self, fd: int) -> None:
        """Take over the file descriptor number `fd`."""
        self._socket = socket.socket(fileno=fd)
        self._stream = self._socket.makefile("rb")
        self._sending = threading.Lock()

    def send(self, frame: FromChild) -> None:
        """Hand one frame to the agent; waits while the agent does not read."""
        with self._sending:
            self._socket.sendall(packed(frame))

    def receive(self) -> ToChild | None:
        """The next frame of the agent, or None when the agent is gone."""
        try:
            head = self._stream.read(_LENGTH.size)
            body = self._stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
        except ConnectionError:
            return None
        return _to_child.decode(body) if body else None
