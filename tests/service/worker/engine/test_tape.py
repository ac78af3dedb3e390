"""A job that goes on after a crash, from what the denoiser had said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.worker.engine.engine import Engine, Member, current
from service.worker.engine.learning import Learned
from tests.service.worker.engine.test_pictures import draw, pipeline, stock
from tests.tiny.images import PICTURES

ABOUT = {"params": {"steps": 9}}


class Crash(BaseException):
    """The process ends."""


def resumable(engine: Engine, family: str, asked: tuple[int, int, str, float], path: Path, about: Any) -> Member:
    """A member that writes its tape after every call."""
    import torch

    from service.worker.engine.denoiser import own_pipeline
    from service.worker.engine.tape import Tape

    hours = iter(range(10**6))

    def work() -> NDArray[np.uint8]:
        generator = torch.Generator().manual_seed(asked[0])
        tape = Tape(path, about, clock=lambda: 3600.0 * next(hours))
        own = own_pipeline(pipeline(family), current(), generator, lambda: None, tape=tape)
        return draw(own, family, asked, generator)

    return engine.join(work)


def ticks(engine: Engine, most: int) -> int:
    """Ticks until everybody is over, or `most`."""
    done = 0
    while len(engine) and done < most:
        engine.tick()
        done += 1
    return done


@pytest.mark.parametrize(
    ("family", "scheduler"),
    [
        *((family, None) for family in PICTURES),
        ("sd", "DPMSolverMultistepScheduler"),  # remembers the steps before
        ("sd", "EulerAncestralDiscreteScheduler"),  # draws noise
    ],
)
def test_the_picture_is_the_one_it_would_have_been(family: str, scheduler: str | None, tmp_path: Path) -> None:
    import diffusers
    import torch

    pipe = pipeline(family)
    before = pipe.scheduler
    if scheduler is not None:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(before.config)
    asked = (3, 9, "a red circle", 3.0)
    try:
        expected = draw(pipe, family, asked, torch.Generator().manual_seed(3))
        path = tmp_path / "tape"
        for _ in range(2):  # it crashes twice, each time three calls further
            engine = Engine(Learned())
            member = resumable(engine, family, asked, path, ABOUT)
            ticks(engine, 4)
            member.halt_with = Crash()
            engine.tick()
        engine = Engine(Learned())
        member = resumable(engine, family, asked, path, ABOUT)
        assert ticks(engine, 99) <= 9 - 6 + 1, "calls that were answered are not made again"
    finally:
        pipe.scheduler = before
    assert member.error is None, member.error
    assert (member.result == expected).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 4000), spoilt=st.booleans())
def test_a_tape_that_ends_anywhere_is_used_as_far_as_it_is_whole(tmp_path: Path, cut: int, spoilt: bool) -> None:
    path = tmp_path / "tape"
    path.unlink(missing_ok=True)
    asked = (5, 4, "a", 1.0)
    engine = Engine(Learned())
    first = resumable(engine, "sd", asked, path, ABOUT)
    ticks(engine, 3)
    first.halt_with = Crash()
    engine.tick()
    held = path.read_bytes()
    path.write_bytes(held[: max(0, len(held) - cut)] + b"\xff" * 40 * spoilt)
    engine = Engine(Learned())
    member = resumable(engine, "sd", asked, path, ABOUT)
    ticks(engine, 99)
    assert (member.result == stock("sd", asked)).all()


def test_an_answer_with_a_wrong_bit_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    asked = (5, 4, "a", 1.0)
    engine = Engine(Learned())
    resumable(engine, "sd", asked, path, ABOUT)
    ticks(engine, 3)
    held = bytearray(path.read_bytes())
    held[-1] ^= 0x7F  # the exponent of the newest answer's last number
    path.write_bytes(held)
    engine = Engine(Learned())
    member = resumable(engine, "sd", asked, path, ABOUT)
    ticks(engine, 99)
    assert (member.result == stock("sd", asked)).all()


def test_a_tape_of_other_params_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    engine = Engine(Learned())
    resumable(engine, "sd", (1, 6, "a red circle", 1.0), path, {"seed": 1})
    ticks(engine, 4)
    engine = Engine(Learned())
    member = resumable(engine, "sd", (2, 6, "a red circle", 1.0), path, {"seed": 2})
    assert ticks(engine, 99) >= 6
    assert (member.result == stock("sd", (2, 6, "a red circle", 1.0))).all()


def test_a_job_that_is_done_soon_writes_nothing(tmp_path: Path) -> None:
    import torch

    from service.worker.engine.tape import Tape

    tape = Tape(tmp_path / "tape", ABOUT)
    tape.keep(torch.zeros(4))
    assert not (tmp_path / "tape").exists()


def test_what_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from service.worker.engine import tape as module

    monkeypatch.setattr(module, "MOST_BYTES", 100)
    hours = iter(range(1000))
    tape = module.Tape(tmp_path / "tape", ABOUT, clock=lambda: 3600.0 * next(hours))
    tape.keep(torch.zeros(20))
    assert (tmp_path / "tape").exists()
    tape.keep(torch.zeros(20))
    assert not (tmp_path / "tape").exists()
    tape.keep(torch.zeros(1))
    assert not (tmp_path / "tape").exists()
