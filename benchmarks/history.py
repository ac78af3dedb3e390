"""Generated histories: a data folder whose log holds so many jobs, made by the real log and the real projections.

Kept in `.benchmarks/` (not in git) so that a second run need not make it again: a million jobs are 3.8 million
events and about 5 GB. Remove the folder to have it made anew.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from events.envelope import AnyEvent, Draft, Record
from events.ids import RANDOM_BYTES, uuid7
from events.jobs import (
    ArtifactRef,
    JobCancelled,
    JobCompleted,
    JobError,
    JobFailed,
    JobLeased,
    JobPhaseEntered,
    JobSubmitted,
)
from events.log import Asked, Request
from events.queues import QueueCreated
from events.sqlite import SqliteLog
from projections.store import ViewStore

KEPT = Path(__file__).parents[1] / ".benchmarks"
FORMAT = 1  # raise it when other histories are wanted: kept ones are then made anew
WAVE = 100  # jobs that are submitted together, leased together, finished together
BEGINS_AT_US = 1_767_225_600_000_000  # 2026-01-01
WAVE_US = 20_000_000
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black")
SHAPES = ("circle", "square", "triangle", "diamond", "star", "ring", "cross", "heart")


class Head(msgspec.Struct):
    """State that only knows how far it has come: nothing is decided here."""

    position: int = 0

    def apply(self, record: Record) -> None:
        """Take in the record at `position` + 1."""
        self.position = record.position


def data_folder(jobs: int) -> Path:
    """A data folder with that many ended jobs, made now unless an earlier run left it: log and views."""
    folder = KEPT / f"jobs-{jobs}"
    mark = folder / f"complete-{FORMAT}"
    if not mark.exists():
        print(f"making a history of {jobs:,} jobs in {folder.name} ...", file=sys.stderr, flush=True)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        folder.mkdir(parents=True, exist_ok=True)
        _make(folder, jobs)
        mark.touch()
    return folder


def _make(folder: Path, jobs: int) -> None:
    now_us = BEGINS_AT_US

    def clock() -> int:
        return now_us

    log: SqliteLog[Head] = SqliteLog(folder / "log.db", restore=lambda _: Head(), clock=clock)
    request = Request(actor="local", cause="generated")
    try:
        queue = Draft(stream="queue/default", event=QueueCreated(name="default"))
        log.commit([Asked(lambda _: [queue], request)])
        for drafts in _waves(jobs):
            log.commit([Asked(lambda _, drafts=drafts: drafts, request)])  # type: ignore[misc]
            now_us += WAVE_US
        ViewStore(folder / "views.db", log).close()
    finally:
        log.close()


def _waves(jobs: int) -> Iterator[list[Draft]]:
    """One wave submitted while the one before runs and the one before that ends, as in a short queue."""
    source = random.Random(7)
    submitted: list[str] = []
    running: list[str] = []
    left = jobs
    while left or submitted or running:
        count = min(WAVE, left)
        left -= count
        now_us = BEGINS_AT_US + (jobs - left) * WAVE_US // WAVE
        fresh = [uuid7(now_us, source.randbytes(RANDOM_BYTES)) for _ in range(count)]
        drafts = [_submission(job, source) for job in fresh]
        drafts += (Draft(stream=f"job/{job}", event=_end(source)) for job in running)
        running = []
        for job in submitted:
            if source.random() < 0.1:  # one in ten is cancelled while it waits
                drafts.append(Draft(stream=f"job/{job}", event=JobCancelled()))
                continue
            running.append(job)
            drafts += (Draft(stream=f"job/{job}", event=event) for event in _BEGINNING)
        submitted = fresh
        yield drafts


_BEGINNING: tuple[AnyEvent, ...] = (
    JobLeased(attempt=1, worker="host-0", boot="3f1c9a0be1d54f6c8a57d4ab0f3b1c9e", lease_s=30.0),
    JobPhaseEntered(attempt=1, phase="denoising"),
)


def _submission(job: str, source: random.Random) -> Draft:
    prompt = f"a {source.choice(COLOURS)} {source.choice(SHAPES)} on a {source.choice(COLOURS)} background"
    event = JobSubmitted(
        queue="default",
        task="text-to-image",
        model="demo",
        params={"seed": source.getrandbits(53), "steps": 20, "guidance": 4.0, "width": 512, "height": 512},
        priority=50,
        submitter="local",
        tags=("station-1",),
        request_digest=source.randbytes(32).hex(),
    )
    return Draft(
        stream=f"job/{job}", event=event, private=msgspec.json.encode({"prompt": prompt, "negative_prompt": ""})
    )


def _end(source: random.Random) -> AnyEvent:
    """Nine in ten complete, with the facts that a picture of the embedded model has; one in ten fails."""
    if source.random() < 0.1:
        return JobFailed(attempt=1, error=JobError(kind="out-of-memory", message="the device is out of memory"))
    digest = source.randbytes(32).hex()
    artifact = ArtifactRef(digest=digest, media_type="image/png", bytes=40_000, width=512, height=512)
    return JobCompleted(attempt=1, artifacts=(artifact,), facts=_FACTS)


_FACTS = {
    "seed": 7,
    "scheduler": {
        "class": "DDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "timestep_spacing": "trailing",
    },
    "dtype": "float32", "native_width": 64, "native_height": 64, "device": "cpu",
    "versions": {"safelight": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0"},
    "timings": {"preparing": 0.0021, "denoising": 0.431, "decoding": 0.0055, "exporting": 0.0123, "step_s": 0.0215},
    "batch": {"size": 1, "index": 0},
}  # fmt: skip
