from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.protocol import FromWorker, Phase, Preview, Progress, Ready
from service.worker.journal import Journal
from service.worker.outbox import Outbox


def phase(job: str = "a") -> Phase:
    return Phase(number=0, job=job, attempt=1, token=1, phase="denoising")


def progress(step: int, job: str = "a") -> Progress:
    return Progress(job=job, attempt=1, token=1, phase="denoising", step=step, steps=9)


def preview(step: int) -> Preview:
    return Preview(job="a", attempt=1, token=1, step=step, media_type="image/jpeg", width=8, height=8, data=b"x")


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(Journal(tmp_path / "journal.db"))


LOOP = asyncio.Runner()  # the outbox belongs to one loop


def take(outbox: Outbox) -> list[FromWorker]:
    """Everything that is due now, in order."""

    async def all_due() -> list[FromWorker]:
        due = []
        while True:
            try:
                due.append(await asyncio.wait_for(outbox.next(), 0.01))
            except TimeoutError:
                return due

    return LOOP.run(all_due())


def test_state_goes_before_progress_and_progress_before_previews(outbox: Outbox) -> None:
    outbox.open()
    for step in range(1000):
        outbox.preview(preview(step))
        outbox.progress(progress(step))
    outbox.report(phase())
    outbox.say(Ready(slots=1))
    kinds = [type(message).__name__ for message in take(outbox)]
    assert kinds == ["Ready", "Phase", "Progress", "Preview"]


def test_only_the_newest_progress_and_preview_of_an_attempt_wait(outbox: Outbox) -> None:
    outbox.open()
    for step in (1, 2, 3):
        outbox.progress(progress(step))
        outbox.preview(preview(step))
    outbox.progress(progress(7, job="b"))
    assert take(outbox) == [progress(3), progress(7, job="b"), preview(3)]


def test_without_a_session_only_the_journal_grows(outbox: Outbox) -> None:
    outbox.say(Ready(slots=1))
    outbox.progress(progress(1))
    outbox.preview(preview(1))
    outbox.report(phase())
    outbox.open()
    assert [type(message).__name__ for message in take(outbox)] == ["Phase"]


def test_a_new_session_sends_the_unacknowledged_again(outbox: Outbox) -> None:
    outbox.open()
    outbox.report(phase("a"))
    outbox.report(phase("b"))
    sent = take(outbox)
    outbox.close()
    outbox.report(phase("c"))
    outbox.open()
    assert [message.job for message in take(outbox)] == ["a", "b", "c"]  # type: ignore[union-attr]
    assert [message.job for message in sent] == ["a", "b"]  # type: ignore[union-attr]


def test_nothing_of_a_forgotten_attempt_is_sent(outbox: Outbox) -> None:
    outbox.open()
    outbox.progress(progress(1))
    outbox.preview(preview(1))
    outbox.forget("a", 1)
    assert take(outbox) == []
