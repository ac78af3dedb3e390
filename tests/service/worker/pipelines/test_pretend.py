from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from service.tasks.catalog import EMBEDDED
from service.tasks.pretend import Pretend
from service.worker.frames import Entered, FromChild, Stepped
from service.worker.pipelines import pretend
from service.worker.run import Cancelled, Run
from tests.service.worker.engine.alone import in_engine


def run_of(params: Pretend, sent: list[FromChild]) -> Run:
    return Run("j", 1, EMBEDDED["pretend"], params, Path(), sent.append, lambda: False)


def test_it_goes_through_its_steps_and_makes_nothing() -> None:
    sent: list[FromChild] = []
    made = in_engine(partial(pretend.compute, run_of(Pretend(steps=2), sent), None))
    assert (made.facts, made.export) == ({}, None)
    assert [frame.phase for frame in sent if isinstance(frame, Entered)] == ["denoising"]
    assert [frame.step for frame in sent if isinstance(frame, Stepped)][-1] == 2


def test_no_steps_are_a_job_too() -> None:
    assert in_engine(partial(pretend.compute, run_of(Pretend(steps=0), []), None)).export is None


def test_it_fails_when_told_to() -> None:
    with pytest.raises(pretend.ToldToFail):
        in_engine(partial(pretend.compute, run_of(Pretend(outcome="failed"), []), None))


def test_it_stops_in_the_middle_of_a_step() -> None:
    run = run_of(Pretend(steps=1, step_s=60), [])
    run.halt()
    with pytest.raises(Cancelled):
        in_engine(partial(pretend.compute, run, None))
