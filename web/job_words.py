"""A job in a few words, for the terminal: what it waits for, when it will be ready, what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from web.resources import EtaResource, JobResource


def clock(at: str) -> str:
    """The local time of an instant, with its day when that is not today."""
    local = datetime.fromisoformat(at).astimezone()
    is_today = local.date() == datetime.now().date()
    return local.strftime("%H:%M" if is_today else "%d %b, %H:%M")


def ready(eta: EtaResource | None) -> str:
    """`14:32`, with a question mark while that is a guess; "" when nothing is known."""
    if eta is None or eta.done_at is None:
        return ""
    return clock(eta.done_at) + ("?" if eta.is_learning else "")


def eta_words(eta: EtaResource | None) -> str:
    """`about 14:32, by 14:40 at the latest; 3 ahead, model must load`; "" when nothing is known."""
    if eta is None or eta.done_at is None:
        return ""
    by = "" if eta.done_p90_at is None else clock(eta.done_p90_at)
    until = f", by {by} at the latest" if by not in ("", clock(eta.done_at)) else ""
    why = [
        f"{eta.jobs_ahead} ahead" if eta.jobs_ahead else "",
        "model must load" if eta.cold_load_s > 0 else "",
        "still learning" if eta.is_learning else "",
    ]
    told = ", ".join(filter(None, why))
    return f"about {clock(eta.done_at)}{until}{f'; {told}' if told else ''}"


def waits(job: JobResource) -> str:
    """What a waiting job waits for, and how long; "" for one that does not wait."""
    if job.status == "held":
        return f"held; `safelight release {job.id}` puts it in line"
    if job.status == "scheduled" and job.not_before is not None:
        return f"from {clock(job.not_before)} on"
    if job.status != "queued":
        return ""
    if job.blocked is not None:
        return f"no worker can run it: {job.blocked}"
    if job.eta is not None and job.eta.blocked == "paused":
        return f"queue {job.queue} is paused"
    place = f"number {job.rank} in line" if job.rank is not None else ""
    return "; ".join(filter(None, [place, eta_words(job.eta)]))


def event_words(message: Mapping[str, Any]) -> str:
    """An event in a few words."""
    data = message["data"]
    told = [
        str(data[name]) for name in ("phase", "worker", "reason", "detail", "deadline", "why") if data.get(name)
    ]
    if data.get("error"):
        told.append(f"{data['error']['kind']}: {data['error']['message']}")
    return " ".join([message["type"], *told])
