"""The spool folder: the agent's lock, its journal, the pictures it has fetched and the files the child has written.

One agent a folder. A file that the journal does not know is left over from a crash and is swept at start.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from service.worker.frames import SpooledFile

JOURNAL = "journal.db"
LOCK = "lock"
RESULTS = "results"
INPUTS = "inputs"


class SpoolTaken(Exception):
    """Another agent works in the folder; the message names its process id."""


class Spool:
    """A locked spool folder."""

    def __init__(self, folder: Path) -> None:
        """Create and lock `folder`, readable by its owner only. Raises SpoolTaken or OSError."""
        for name in (RESULTS, INPUTS):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.journal_path = folder / JOURNAL
        self.results = folder / RESULTS
        self._inputs = folder / INPUTS
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._lock, 20).decode().strip() or "unknown"
            os.close(self._lock)
            raise SpoolTaken(
                f"the spool folder {folder} is used by the worker with process id {owner}; give another --spool"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Unlock the folder."""
        os.close(self._lock)

    def path(self, file: SpooledFile) -> Path:
        """Where a result file lies."""
        return self.results / Path(file.name).name

    def new_input(self) -> Path:
        """Where a fetched picture may be put; the name says nothing about the job."""
        return self._inputs / secrets.token_hex(12)

    def new_tape(self) -> Path:
        """Where the child may keep how far an attempt has come."""
        return self._inputs / f"{secrets.token_hex(12)}.tape"

    def discard(self, paths: Iterable[Path]) -> None:
        """Delete what an attempt had here beside its results: fetched pictures, its tape."""
        for path in paths:
            path.unlink(missing_ok=True)

    def remove(self, files: Iterable[SpooledFile]) -> None:
        """Delete result files; one that is gone already is as good."""
        for file in files:
            self.path(file).unlink(missing_ok=True)

    def sweep(self, known: Iterable[SpooledFile]) -> None:
        """Delete every result file that is not `known`, and all that was fetched: its attempts are gone."""
        names = {file.name for file in known}
        for path in (*self.results.iterdir(), *self._inputs.iterdir()):
            if path.name not in names:
                path.unlink(missing_ok=True)


def default_folder(server: str, name_or_device: str) -> Path:
    """A folder of this user for results on their way to `server`, apart for every server and worker.

    Apart, because another service would find the results stale and have them dropped.
    """
    parts = f"{urlsplit(server).netloc}-{name_or_device}"
    return cache_folder() / "worker" / re.sub(r"[^A-Za-z0-9.-]", "_", parts)


def cache_folder() -> Path:
    """Where this user keeps what Safelight can make again."""
    caches = os.environ.get("XDG_CACHE_HOME") or (
        Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    )
    return Path(caches) / "safelight"
