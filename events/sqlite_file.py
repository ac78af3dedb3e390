"""The log's SQLite file before anybody appends: its lock, its place on disk, whether its schema is today's."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import apsw

from events.log import LogBusy, LogError

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
"""WAL needs shared memory on one host, and these do not keep POSIX locks honestly."""

STEPS = ("m001_log",)
"""Every migration by name, oldest first (events/sqlite_migrations.py): what an up-to-date file records."""

_APPLIED = "SELECT name FROM _sqlite_migrations WHERE migration_set = 'safelight-log' ORDER BY rowid"


def hold_alone(path: Path) -> int:
    """Take the lock that lets one process serve the log; gives its open file descriptor.

    Raises LogBusy naming the holder's pid. The kernel frees the lock when the process ends, however it ends.
    """
    refuse_network(path)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode().strip() or "unknown"
        os.close(descriptor)
        raise LogBusy(
            f"the log {path} is served by process {holder}; stop it, or choose another --data folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def refuse_network(path: Path, mounts: Path = Path("/proc/mounts")) -> None:
    """Raise LogError when `path` lies on a network file system; says nothing where mounts cannot be read."""
    if not mounts.exists():
        return
    resolved = str(path.resolve())
    best = ("", "")
    for line in mounts.read_text().splitlines():
        _, point, kind, *_ = line.split()
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    if best[1] in NETWORK_FILE_SYSTEMS:
        raise LogError(f"the log {path} lies on {best[1]} ({best[0]}); put it on a local disk")


def prepare(path: Path) -> None:
    """Create the file or bring it to today's schema; WAL is set once and stays in the file."""
    if _is_up_to_date(path):
        return
    from events.sqlite_migrations import migrate  # 0.4 s of imports that an ordinary start does not need

    migrate(path)


def _is_up_to_date(path: Path) -> bool:
    if not path.exists():
        return False
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return tuple(name for (name,) in connection.execute(_APPLIED)) == STEPS
    except apsw.SQLError:  # no such table
        return False
    finally:
        connection.close()
