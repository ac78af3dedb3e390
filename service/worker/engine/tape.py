"""What the denoiser has said so far, on disk: from it a job goes on where a crash of its process ended it.

A pipeline's state in the middle of its loop is more than its latents: a multistep scheduler has a history, a
stochastic one has drawn noise, a pipeline class has locals of its own. But all of it follows from the job's params
and from what the denoiser answered. So the answers are kept; a resumed job runs the same stock code from its
beginning and is given them again, which costs no call, and its picture is the one that it would have been.

By its shape an answer of SDXL at 1024 x 1024 with guidance takes 0.26 MB in half precision, one of FLUX 0.52 MB.
They are written together every few seconds, so a job that is done before writes nothing.
"""

from __future__ import annotations

import hashlib
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load, save

KEEP_S = 3.0
"""Seconds of computing that a crash may cost."""

MOST_BYTES = 1 << 28
"""A job whose answers take more is not kept: a video would be copied from the device for gigabytes."""

_HEAD = struct.Struct("!QI")  # length and CRC-32 of an answer


class Tape:
    """The answers of one job, in the order of its calls."""

    def __init__(self, path: Path, about: object, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`about` is everything that the answers follow from; a tape of something else is begun anew."""
        self._path = path
        self._clock = clock
        self._about = hashlib.sha256(msgspec.json.encode(about, order="deterministic")).digest()
        self._kept: list[torch.Tensor] | None = []  # not yet written; None when there are too many
        self._bytes = 0
        self._written_at = clock()
        self._replay = self._read()

    def next(self, device: Any) -> torch.Tensor | None:
        """The answer to the next call, if it is known; on `device`."""
        answer = next(self._replay, None)
        return None if answer is None else answer.to(device)

    def keep(self, answer: torch.Tensor) -> None:
        """Note the answer to a call that was not known."""
        if self._kept is None:
            return
        self._bytes += answer.nbytes
        if self._bytes > MOST_BYTES:
            self.remove()
            self._kept = None
            return
        self._kept.append(answer)
        if self._clock() - self._written_at >= KEEP_S:
            self._write(self._kept)
            self._kept, self._written_at = [], self._clock()

    def remove(self) -> None:
        """Delete what was written."""
        self._path.unlink(missing_ok=True)

    def _write(self, answers: list[torch.Tensor]) -> None:
        """Append. Not synced: it is to outlive the process, and after a crash of the machine nobody asks for it."""
        is_new = not self._path.exists()
        with self._path.open("ab") as file:
            if is_new:
                file.write(self._about)
            for answer in answers:
                body = save({"answer": answer.detach().cpu().contiguous()})
                file.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)

    def _read(self) -> Iterator[torch.Tensor]:
        """The answers on disk, as far as they are whole; what stands behind is cut off."""
        try:
            held = self._path.read_bytes()
        except OSError:
            return iter(())
        answers, end = [], len(self._about)
        if held[:end] == self._about:
            while (found := _answer_at(held, end)) is not None:
                answer, end = found
                answers.append(answer)
                self._bytes += answer.nbytes
        if not answers:
            self.remove()
        elif end < len(held):
            with self._path.open("r+b") as file:
                file.truncate(end)
        return iter(answers)


def _answer_at(held: bytes, start: int) -> tuple[torch.Tensor, int] | None:
    """The answer that begins at `start`, and where the next one does; None when there is no whole one."""
    begin = start + _HEAD.size
    if len(held) < begin:
        return None
    length, checksum = _HEAD.unpack_from(held, start)
    body = held[begin : begin + length]
    if len(body) < length or zlib.crc32(body) != checksum:
        return None
    return load(body)["answer"], begin + length
