from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from service.tasks.catalog import EMBEDDED
from service.tasks.pretend import Pretend
from service.worker.frames import Entered, FromChild, Stepped
from service.worker.run import Cancelled, Run


def make_run(sent: list[FromChild], is_watched: bool = False) -> Run:
    return Run("j", 1, EMBEDDED["pretend"], Pretend(), Path(), sent.append, lambda: is_watched)


def test_a_phase_is_told_once_and_its_seconds_are_counted() -> None:
    sent: list[FromChild] = []
    run = make_run(sent)
    for phase in ("preparing", "denoising", "denoising", "decoding"):
        run.enter(phase)
    run.leave()
    assert [frame.phase for frame in sent if isinstance(frame, Entered)] == [
        "preparing",
        "denoising",
        "decoding",
    ]
    assert set(run.timings()) == {"preparing", "denoising", "decoding", "step_s"}


def test_a_flood_of_steps_is_thinned_but_first_and_last_are_told() -> None:
    sent: list[FromChild] = []
    run = make_run(sent)
    for step in range(10_001):
        run.stepped(step, 10_000)
    steps = [frame.step for frame in sent if isinstance(frame, Stepped)]
    assert steps[0] == 0
    assert steps[-1] == 10_000
    assert len(steps) < 200


def test_a_halt_ends_a_wait_at_once() -> None:
    run = make_run([])
    threading.Timer(0.05, run.halt).start()
    began_at = time.monotonic()
    with pytest.raises(Cancelled):
        run.sleep(60)
    assert time.monotonic() - began_at < 10


def test_previews_are_due_only_while_watched_and_not_too_often() -> None:
    assert not make_run([]).is_preview_due()
    run = make_run([], is_watched=True)
    assert run.is_preview_due()
    run.show(b"x", 1, 1)
    assert not run.is_preview_due()
