"""The engine's pictures against the stock pipeline's, of jobs that join, leave and are cancelled at random."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.worker.engine.engine import Engine, Member, current
from service.worker.engine.learning import Learned, Sized
from tests.tiny.images import PICTURES, picture_pipeline

SIDE = 32


class Job:
    """What is asked for, when it joins, and at which tick it is cancelled."""

    def __init__(
        self, seed: int, steps: int, prompt: str, guidance: float, joins: int, cancelled: int | None, priority: int
    ) -> None:
        self.seed, self.steps, self.prompt, self.guidance = seed, steps, prompt, guidance
        self.joins, self.cancelled, self.priority = joins, cancelled, priority

    def __repr__(self) -> str:
        return f"Job({', '.join(map(repr, vars(self).values()))})"

    @property
    def asked(self) -> tuple[int, int, str, float]:
        return self.seed, self.steps, self.prompt, self.guidance


JOBS = st.lists(
    st.builds(
        Job,
        seed=st.integers(0, 9),
        steps=st.integers(1, 7),
        prompt=st.sampled_from(["a red circle", "blue star on the left", "a"]),
        guidance=st.sampled_from([1.0, 3.0, 5.5]),
        joins=st.integers(0, 12),
        cancelled=st.one_of(st.none(), st.none(), st.integers(0, 14)),
        priority=st.sampled_from([20, 50, 50, 90]),
    ),
    min_size=1,
    max_size=6,
)


class Eager(Learned):
    """Joins whatever fits, without having to learn that it pays."""

    def most_rows(self, call: Sized, standing: int = 0) -> int:
        return max(call.rows, self.curves[call.key].ceiling or 64) if call.key in self.curves else 64


class Stop(BaseException):
    """A cancel."""


@cache
def pipeline(family: str) -> Any:
    import torch

    torch.set_grad_enabled(False)
    return picture_pipeline(family)


def draw(pipe: Any, family: str, asked: tuple[int, int, str, float], generator: Any) -> NDArray[np.uint8]:
    _, steps, prompt, guidance = asked
    lengths = {"max_sequence_length": 16} if family in ("sd3", "flux") else {}
    pixels = pipe(
        prompt=prompt,
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=SIDE,
        width=SIDE,
        generator=generator,
        output_type="np",
        **lengths,
    ).images[0]
    return (pixels * 255).round().astype(np.uint8)  # type: ignore[no-any-return]


@cache
def stock(family: str, asked: tuple[int, int, str, float]) -> NDArray[np.uint8]:
    import torch

    return draw(pipeline(family), family, asked, torch.Generator().manual_seed(asked[0]))


def is_same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether no value differs by more than a level: kernels sum in another order for another number of rows."""
    return one.shape == other.shape and bool(np.abs(one.astype(int) - other.astype(int)).max() <= 1)


def member_of(engine: Engine, family: str, job: Job) -> Member:
    import torch

    from service.worker.engine.denoiser import own_pipeline

    def work() -> NDArray[np.uint8]:
        generator = torch.Generator().manual_seed(job.seed)
        own = own_pipeline(pipeline(family), current(), generator, lambda: None)
        return draw(own, family, job.asked, generator)

    return engine.join(work, str(job.seed), job.priority)


def run(engine: Engine, family: str, jobs: list[Job]) -> list[Member]:
    """Every job's member, once all are over."""
    members: dict[int, Member] = {}
    tick = 0
    while len(members) < len(jobs) or len(engine):
        for index, job in enumerate(jobs):
            if job.joins == tick:
                members[index] = member_of(engine, family, job)
            if job.cancelled == tick and index in members and not members[index].dead:
                members[index].halt_with = Stop()
        engine.tick()
        tick += 1
    return [members[index] for index in range(len(jobs))]


@pytest.mark.parametrize("family", PICTURES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(jobs=JOBS, learned=st.sampled_from([Learned, Eager]))
def test_pictures_are_those_of_the_stock_pipeline(
    family: str, jobs: list[Job], learned: Callable[[], Learned]
) -> None:
    for job, member in zip(jobs, run(Engine(learned()), family, jobs), strict=True):
        if member.halt_with is not None:
            assert member.error is member.halt_with
            assert job.cancelled is not None
        else:
            assert member.error is None, member.error
            expected = stock(family, job.asked)
            assert is_same(member.result, expected)


@pytest.mark.parametrize("family", PICTURES)
def test_compatible_jobs_do_share_calls(family: str) -> None:
    jobs = [Job(seed, 6, "a red circle", 3.0, 0, None, 50) for seed in range(4)]
    members = run(Engine(Eager()), family, jobs)
    assert all(len(member.beside) == 3 for member in members)
    assert max(max(member.shared) for member in members) > 2


def test_a_high_priority_is_served_at_the_next_tick_and_the_other_stands() -> None:
    engine = Engine(Eager())
    slow = member_of(engine, "sd", Job(0, 30, "a red circle", 3.0, 0, None, 50))
    for _ in range(3):
        engine.tick()
    served = dict(slow.shared)
    urgent = member_of(engine, "sdxl", Job(1, 4, "a red circle", 3.0, 0, None, 90))  # cannot be joined
    engine.tick()
    assert sum(urgent.shared.values()) == 1
    while not urgent.dead:
        engine.tick()
    assert slow.shared == served
    while len(engine):
        engine.tick()
    assert is_same(slow.result, stock("sd", (0, 30, "a red circle", 3.0)))


def test_jobs_that_cannot_be_joined_compute_in_slices_of_time() -> None:
    now = [0.0]
    engine = Engine(Learned(), clock=lambda: now[0], settle=lambda: now.__setitem__(0, now[0] + 1.0))
    first, second = (member_of(engine, family, Job(0, 20, "a", 1.0, 0, None, 50)) for family in ("sd", "sd3"))
    seen = []
    for _ in range(20):
        engine.tick()
        seen.append((first.served_s, second.served_s))
    assert seen[4] == (5.0, 0.0)
    assert seen[9] == (5.0, 5.0)
    assert seen[19] == (10.0, 10.0)


def test_a_member_that_fails_in_a_joined_call_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = pipeline("sd").unet
    forward = unet.forward

    @wraps(forward)
    def poisoned(sample: Any, timestep: Any, encoder_hidden_states: Any, **words: Any) -> Any:
        if any(row.allclose(bad[0]) for row in encoder_hidden_states):
            raise RuntimeError("device-side something")
        return forward(sample, timestep, encoder_hidden_states, **words)

    bad = pipeline("sd").encode_prompt("small", "cpu", 1, False)[0]
    monkeypatch.setattr(unet, "forward", poisoned)
    engine = Engine(Eager())
    prompts = ["a red circle", "small", "blue star on the left"]
    jobs = [Job(number, 5, prompt, 1.0, 0, None, 50) for number, prompt in enumerate(prompts)]
    first, failed, last = run(engine, "sd", jobs)
    assert "device-side" in str(failed.error)
    assert is_same(first.result, stock("sd", jobs[0].asked))
    assert is_same(last.result, stock("sd", jobs[2].asked))


def test_out_of_memory_halves_the_calls_and_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = pipeline("sd").unet
    forward = unet.forward

    @wraps(forward)
    def small(sample: Any, *args: Any, **words: Any) -> Any:
        if sample.shape[0] > 4:
            raise MemoryError
        return forward(sample, *args, **words)

    monkeypatch.setattr(unet, "forward", small)
    learned = Eager()
    engine = Engine(learned, is_out_of_memory=lambda error: isinstance(error, MemoryError))
    jobs = [Job(seed, 20, "a red circle", 3.0, 0, None, 50) for seed in range(6)]
    members = run(engine, "sd", jobs)
    for job, member in zip(jobs, members, strict=True):
        assert is_same(member.result, stock("sd", job.asked))
    (ceiling,) = (curve.ceiling for curve in learned.curves.values() if curve.ceiling is not None)
    assert ceiling <= 4


@pytest.mark.parametrize(
    "scheduler",
    [
        "DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
        "UniPCMultistepScheduler", "LCMScheduler", "DDPMScheduler", "HeunDiscreteScheduler", "PNDMScheduler",
    ],
)  # fmt: skip
def test_every_scheduler_draws_the_same_joined_or_alone(scheduler: str) -> None:
    import diffusers

    pipe = pipeline("sd")
    before = pipe.scheduler
    pipe.scheduler = getattr(diffusers, scheduler).from_config(before.config)
    try:
        jobs = [Job(seed, 5 + seed, "a red circle", 3.0, 0, None, 50) for seed in range(3)]
        import torch

        expected = [draw(pipe, "sd", job.asked, torch.Generator().manual_seed(job.seed)) for job in jobs]
        for member, picture in zip(run(Engine(Eager()), "sd", jobs), expected, strict=True):
            assert is_same(member.result, picture)
    finally:
        pipe.scheduler = before


def test_noise_of_a_step_is_the_jobs_own_where_the_pipeline_forgets_to_say_so() -> None:
    import torch

    pipe = pipeline("flux")
    before = pipe.scheduler
    pipe.scheduler = type(before).from_config(before.config, stochastic_sampling=True)
    try:
        jobs = [Job(seed, 4, "a red circle", 3.0, 0, None, 50) for seed in range(3)]
        torch.manual_seed(1)
        together = [member.result for member in run(Engine(Eager()), "flux", jobs)]
        torch.manual_seed(2)
        alone = [run(Engine(Eager()), "flux", [job])[0].result for job in jobs]
    finally:
        pipe.scheduler = before
    for one, other in zip(together, alone, strict=True):
        assert is_same(one, other)


def test_work_that_never_began_ends_when_it_is_cancelled() -> None:
    engine = Engine(Eager())
    member = engine.join(partial(pytest.fail, "it ran"))
    member.halt_with = Stop()
    assert engine.tick() == [member]
    assert member.error is member.halt_with
