"""One large file from an address onto the disk, in as many tries as it takes, over processes too.

What has come lies beside the file under the same name with `.part` behind it. huggingface_hub 2 throws such halves
away when its process ends, which with files of ten gigabytes is an evening.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import httpx

TRIES = 5  # in a row that bring nothing
PAUSE_S = 1.0
TIMEOUT_S = 30.0
SHA256 = re.compile(r"[0-9a-f]{64}")


class DownloadFailed(Exception):
    """The file is not here; says why."""


def download(url: str, headers: Mapping[str, str], target: Path, size: int, advance: Callable[[int], None]) -> None:
    """Have the `size` bytes at `url` in `target`, which is named by their SHA-256 where the server knows it.

    `advance` is told of bytes as they come, and at once of those that an earlier try left. Raises DownloadFailed;
    what has come by then is kept, unless it is not what it should be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadFailed("another process is fetching the same file; wait for it") from None
        advance(min(file.tell(), size))
        _fill(url, headers, file, size, advance)
    _check(part, target.name, size)
    os.replace(part, target)


def _fill(url: str, headers: Mapping[str, str], file: BinaryIO, size: int, advance: Callable[[int], None]) -> None:
    tries = 0
    while file.tell() < size:
        had = file.tell()
        try:
            _go_on(url, headers, file, advance)
            error: Exception | None = None
        except httpx.TransportError as broken:
            error = broken
        file.flush()
        tries = 0 if file.tell() > had else tries + 1
        if tries == TRIES:
            raise DownloadFailed(f"its server gives no more ({error or 'it ends early'})")
        if file.tell() < size:
            time.sleep(PAUSE_S)


def _go_on(url: str, headers: Mapping[str, str], file: BinaryIO, advance: Callable[[int], None]) -> None:
    """Append what the server gives from where the file ends."""
    had = file.tell()
    wanted = {**headers, "Range": f"bytes={had}-", "Accept-Encoding": "identity"}
    # whoever is redirected to another host takes no key there: httpx leaves it out
    with httpx.stream("GET", url, headers=wanted, follow_redirects=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == httpx.codes.OK and had:  # a server without ranges: from the beginning
            file.seek(0)
            file.truncate()
            advance(-had)
        elif not answer.is_success:
            raise DownloadFailed(f"its server answered {answer.status_code}")
        for chunk in answer.iter_bytes(1 << 20):
            file.write(chunk)
            advance(len(chunk))


def _check(part: Path, name: str, size: int) -> None:
    """Refuse, and forget, bytes that are not the ones that were promised."""
    if part.stat().st_size == size and not SHA256.fullmatch(name):
        return
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != name:
        part.unlink()
        raise DownloadFailed(f"what came is not what was promised (SHA-256 {digest[:12]}…); pull again")
