"""The command `doctor`: is this machine fit to serve and to work, and does the service answer."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import apsw
import click
import msgspec

from service.tasks.registry import BUILT_IN, PROBLEMS, TASKS
from web.client import Client, ClientError
from web.terminal import print_json

FIXED_SQLITE = (3, 51, 3)  # the first without the WAL-reset corruption
LOW_DISK_BYTES = 1 << 30
PACKAGES = ("starlette", "uvicorn", "websockets", "msgspec", "apsw", "sqlite-utils", "click", "rich", "httpx")
WORKER_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "av", "soundfile", "ftfy")
PROBE_S = 120

PROBE = """
import torch
from service.worker.demo_model import WEIGHTS
names = [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
if torch.backends.mps.is_available():
    names.append("mps")
print("; ".join(names) or f"cpu only, {torch.get_num_threads()} threads")
print((WEIGHTS / "model_index.json").exists())
"""


class Finding(msgspec.Struct, frozen=True):
    """One line of the report: what was looked at, how it is, and what to do if it is not well."""

    subject: str
    verdict: Literal["ok", "warn", "fail"]
    words: str


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("safelight-data"), envvar="SAFELIGHT_DATA",
    show_default=True, help="Data folder to look at.",
)  # fmt: skip
@click.option(
    "--url",
    default="http://127.0.0.1:8787",
    envvar="SAFELIGHT_URL",
    show_default=True,
    help="Address of the service.",
)
@click.option("--key", default=None, envvar="SAFELIGHT_KEY", help="API key (default: none).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines (default: off).")
def doctor(data: Path, url: str, key: str | None, as_json: bool) -> None:
    """Check this machine and the service; the exit code is 1 if anything fails."""
    findings = []
    marks = {
        "ok": click.style("ok  ", "green"),
        "warn": click.style("warn", "yellow"),
        "fail": click.style("fail", "red"),
    }
    for finding in examine(data, Client(url, key)):
        findings.append(finding)
        if not as_json:
            click.echo(f"{marks[finding.verdict]}  {finding.subject}: {finding.words}")
    if as_json:
        print_json({"findings": findings})
    sys.exit(1 if any(f.verdict == "fail" for f in findings) else 0)


def examine(data: Path, client: Client) -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _sqlite, lambda: _disk(data), _tasks, _worker, lambda: _service(client),
    )  # fmt: skip
    for check in checks:
        yield from check()


def _python() -> Iterator[Finding]:
    is_new = sys.version_info >= (3, 11)
    words = platform.python_version() + ("" if is_new else "; install Python 3.11 or newer")
    yield Finding("python", "ok" if is_new else "fail", words)
    for name in PACKAGES:
        yield _package(name, "fail", "pip install safelight")


def _package(name: str, missing: Literal["warn", "fail"], remedy: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, missing, f"not installed; {remedy}")


def _sqlite() -> Iterator[Finding]:
    found = apsw.sqlite_lib_version()
    is_fixed = tuple(map(int, found.split("."))) >= FIXED_SQLITE
    yield Finding(
        "sqlite",
        "ok" if is_fixed else "fail",
        f"{found} in apsw" + ("" if is_fixed else " can corrupt a WAL database; pip install -U apsw"),
    )


def _disk(data: Path) -> Iterator[Finding]:
    folder = next(p for p in (data.absolute(), *data.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    words = f"{free / (1 << 30):.1f} GiB free where {data} lies"
    if free < LOW_DISK_BYTES:
        yield Finding("disk", "warn", f"{words}; a full disk refuses new jobs (507)")
    else:
        yield Finding("disk", "ok", words)


def _tasks() -> Iterator[Finding]:
    """What other packages add, or fail to."""
    for problem in PROBLEMS:
        yield Finding("tasks", "warn", problem)
    added = [name for name in TASKS if name not in {kind.TASK for kind in BUILT_IN}]
    if added:
        yield Finding("tasks", "ok", f"added by other packages: {', '.join(added)}")


def _worker() -> Iterator[Finding]:
    """What a worker needs; looked at in a process of its own, because torch takes seconds and half a gigabyte."""
    packages = [
        _package(name, "warn", "pip install 'safelight[worker]' to run jobs here") for name in WORKER_PACKAGES
    ]
    yield from packages
    if any(finding.verdict != "ok" for finding in packages):
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_S, check=True
        )
        devices, has_model = done.stdout.strip().splitlines()[-2:]
    except (subprocess.SubprocessError, ValueError) as error:
        yield Finding("devices", "fail", f"torch does not start here ({type(error).__name__}); reinstall it")
        return
    yield Finding("devices", "ok", devices)
    is_there = has_model == "True"
    yield Finding(
        "demo model", "ok" if is_there else "fail", "embedded" if is_there else "missing; reinstall safelight"
    )


def _service(client: Client) -> Iterator[Finding]:
    try:
        health = client.raw("GET", "/v1/health")
    except ClientError as error:
        yield Finding("service", "warn", str(error))
        return
    verdict: Literal["ok", "warn"] = "ok" if health["status"] == "ready" else "warn"
    yield Finding(
        "service",
        verdict,
        f"{health['status']} at {client.url}, log at position {health['log']['head']}, "
        f"{health['workers']['connected']} worker(s) connected",
    )
