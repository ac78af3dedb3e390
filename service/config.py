"""What can be set: one frozen struct, each field with its unit, range and default. Only web/app.py, web/serve.py
and the command lines see it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from service.tasks.catalog import EMBEDDED, Catalog


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one service."""

    data: Path = Path("safelight-data")
    """Folder of log, views, artifacts and keys."""
    host: str = "127.0.0.1"
    """Address to bind. Another than loopback needs a key in the log first."""
    port: int = 8787
    """TCP port, 0 for any free one."""
    allow_hosts: tuple[str, ...] = ()
    """Host names a request may be addressed to, besides loopback and `host`."""
    webhook_allow: tuple[str, ...] = ()
    """Host names, addresses and networks that webhooks may lead to although they are not public, by http too."""
    catalog: Catalog = EMBEDDED
    """The models that there are."""
    devices: tuple[str, ...] = ("auto",)
    """Devices to start a worker on, one each; `auto` is every GPU of this machine, else the CPU. () for none."""
    worker_options: tuple[str, ...] = ()
    """Further arguments of those workers."""
    pause_after_crash: bool = False
    lease_s: float = 30.0
    """How long a silent worker keeps its jobs, seconds."""
    beat_s: float = 5.0
    """How often a worker must be heard, seconds."""
