"""Files that were made, kept by content: the SHA-256 of the bytes is the name.

A file is written beside its place, fsynced, renamed, and its folder fsynced, before anybody may say that it
exists. Nothing a client sends ever becomes a path but 64 hex digits.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 256 << 20
"""Largest artifact, in bytes: a minute of high-bitrate video."""

MEDIA_TYPES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/webp": b"RIFF",
}
"""What may be stored, and the bytes such a file begins with. Others join with their tasks."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactRejected(ValueError):
    """The upload cannot be stored; the message says why and what was expected."""


class ArtifactStore:
    """A folder of files named by digest, in 256 subfolders."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`, made if missing; what an interrupted upload left behind is removed."""
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def path(self, digest: str) -> Path | None:
        """Where the file with this digest lies; None when it is not stored or `digest` is no digest."""
        if not _DIGEST.fullmatch(digest):
            return None
        place = self._place(digest)
        return place if place.is_file() else None

    async def store(self, digest: str, media_type: str, chunks: AsyncIterator[bytes]) -> int:
        """Store what `chunks` yield under `digest`, durably; gives its size in bytes.

        Raises ArtifactRejected when the bytes are not of that digest or type, or too many; OSError when the
        disk has no room.
        """
        if not _DIGEST.fullmatch(digest):
            raise ArtifactRejected(f"digest {digest[:80]!r} is not accepted: use 64 lower-case hex digits")
        magic = MEDIA_TYPES.get(media_type)
        if magic is None:
            raise ArtifactRejected(f"media type {media_type!r} is not stored; use one of {', '.join(MEDIA_TYPES)}")
        incoming = self._incoming / secrets.token_hex(16)
        try:
            with incoming.open("xb") as file:
                size = await _receive(file, digest, magic, chunks)
            await asyncio.to_thread(_put_in_place, incoming, self._place(digest))
        finally:
            incoming.unlink(missing_ok=True)
        return size

    def _place(self, digest: str) -> Path:
        return self._root / digest[:2] / digest


async def _receive(file: BinaryIO, digest: str, magic: bytes, chunks: AsyncIterator[bytes]) -> int:
    found, size, start = hashlib.sha256(), 0, b""
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_BYTES:
            raise ArtifactRejected(f"more than {MAX_BYTES} bytes are not stored; make a smaller file")
        start = start if len(start) >= len(magic) else (start + chunk)[: len(magic)]
        found.update(chunk)
        file.write(chunk)
    if not start.startswith(magic):
        raise ArtifactRejected("the bytes do not begin like a file of that media type; send the file itself")
    if found.hexdigest() != digest:
        raise ArtifactRejected(f"the bytes have digest {found.hexdigest()}, not {digest}; send the file again")
    file.flush()
    await asyncio.to_thread(os.fsync, file.fileno())
    return size


def _put_in_place(incoming: Path, place: Path) -> None:
    """Give a synced file its name, durably: the rename counts only once the folder is synced too."""
    is_new = not place.parent.exists()
    place.parent.mkdir(exist_ok=True, mode=0o700)
    os.replace(incoming, place)
    _sync_folder(place.parent)
    if is_new:
        _sync_folder(place.parent.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
