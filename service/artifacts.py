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
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import msgspec

from service import pictures, videos
from service.pictures import BadPicture, Picture
from service.videos import read_input

MAX_BYTES = 256 << 20
"""Largest artifact, in bytes: a minute of high-bitrate video."""

MAX_PICTURE_BYTES = 32 << 20
"""Largest picture that a client may store, in bytes: what a phone's best camera makes."""

MAX_TEXT_BYTES = 1 << 20

INPUT_TYPES = (*pictures.MEDIA_TYPES, videos.MEDIA_TYPE)
"""What a client may store for jobs to start from."""


class MediaType(msgspec.Struct, frozen=True):
    """How a file of a type is named, and the bytes that stand in it at which places."""

    ending: str
    marks: tuple[tuple[int, bytes], ...]


MEDIA_TYPES = {
    "image/png": MediaType("png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    "image/jpeg": MediaType("jpeg", ((0, b"\xff\xd8\xff"),)),
    "image/webp": MediaType("webp", ((0, b"RIFF"), (8, b"WEBP"))),
    "video/mp4": MediaType("mp4", ((4, b"ftyp"),)),
    "audio/flac": MediaType("flac", ((0, b"fLaC"),)),
    "audio/wav": MediaType("wav", ((0, b"RIFF"), (8, b"WAVE"))),
    "text/plain": MediaType("txt", ()),  # UTF-8 without control characters
}
"""What workers may store. None of them can run anything in a browser; others join with their tasks."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class ArtifactRejected(ValueError):
    """The upload cannot be stored; the message says why and what was expected."""


def file_name(stem: str, media_type: str) -> str:
    """What a person's copy of a file is called."""
    known = MEDIA_TYPES.get(media_type)
    return f"{stem}.{known.ending if known else 'bin'}"


class StoredPicture(Picture, frozen=True, kw_only=True):
    """A picture in the store."""

    digest: str
    bytes: int


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
        if media_type not in MEDIA_TYPES:
            raise ArtifactRejected(f"media type {media_type!r} is not stored; use one of {', '.join(MEDIA_TYPES)}")
        with self._incoming_file() as file:
            found, size = await _receive(file, chunks, MAX_BYTES)
            if not _is_of(media_type, file, size):
                raise ArtifactRejected(f"the bytes are not like a file of {media_type}; send the file itself")
            if found != digest:
                raise ArtifactRejected(f"the bytes have digest {found}, not {digest}; send the file again")
            await asyncio.to_thread(_put_in_place, file, self._place(digest))
        return size

    async def store_picture(self, media_type: str, chunks: AsyncIterator[bytes]) -> tuple[StoredPicture, bool]:
        """Store the picture that `chunks` yield, durably; gives what it is, and whether it was not there before.

        Raises ArtifactRejected when it is no whole still picture of that type, or too large; OSError when the disk
        has no room.
        """
        with self._incoming_file() as file:
            most = MAX_PICTURE_BYTES if media_type.startswith("image/") else MAX_BYTES
            digest, size = await _receive(file, chunks, most)
            try:
                picture = await asyncio.to_thread(_read_picture, file)
            except BadPicture as error:
                raise ArtifactRejected(str(error)) from None
            if picture.media_type != media_type:
                raise ArtifactRejected(
                    f"the bytes are {picture.media_type}, not {media_type[:80]}; send them as that"
                )
            is_new = self.path(digest) is None
            if is_new:
                await asyncio.to_thread(_put_in_place, file, self._place(digest))
        return StoredPicture(digest=digest, bytes=size, **msgspec.structs.asdict(picture)), is_new

    def picture(self, digest: str) -> Picture | None:
        """The picture that is stored with this digest; None when there is none, or it is something else."""
        path = self.path(digest)
        return None if path is None else _picture_at(path)

    def _place(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    @contextmanager
    def _incoming_file(self) -> Iterator[BinaryIO]:
        """A new file beside those that are stored, gone after the block unless it was put in place."""
        incoming = self._incoming / secrets.token_hex(16)
        try:
            with incoming.open("x+b") as file:
                yield file
        finally:
            incoming.unlink(missing_ok=True)


async def _receive(file: BinaryIO, chunks: AsyncIterator[bytes], most: int) -> tuple[str, int]:
    """Write everything to the file; gives digest and size."""
    found, size = hashlib.sha256(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise ArtifactRejected(f"more than {most} bytes are not stored; make a smaller file")
        found.update(chunk)
        file.write(chunk)
    file.flush()
    return found.hexdigest(), size


def _is_of(media_type: str, file: BinaryIO, size: int) -> bool:
    """Whether the bytes are what their media type says, as far as a browser would go by it."""
    for place, mark in MEDIA_TYPES[media_type].marks:
        file.seek(place)
        if file.read(len(mark)) != mark:
            return False
    return media_type != "text/plain" or (size <= MAX_TEXT_BYTES and _is_text(file))


def _is_text(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        text = file.read().decode()
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def _read_picture(file: BinaryIO) -> Picture:
    if os.fstat(file.fileno()).st_size == 0:  # nothing can be mapped
        return read_input(b"")
    with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        return read_input(mapped)


@lru_cache(maxsize=1024)
def _picture_at(path: Path) -> Picture | None:
    """What the stored file is; it never changes, its name being its digest."""
    try:
        with path.open("rb") as file:
            return _read_picture(file)
    except BadPicture:
        return None


def _put_in_place(file: BinaryIO, place: Path) -> None:
    """Sync a file and give it its name, durably: the rename counts only once the folder is synced too."""
    os.fsync(file.fileno())
    is_new = not place.parent.exists()
    place.parent.mkdir(exist_ok=True, mode=0o700)
    os.replace(file.name, place)
    _sync_folder(place.parent)
    if is_new:
        _sync_folder(place.parent.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
