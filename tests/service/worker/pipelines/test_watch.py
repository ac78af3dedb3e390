"""A pipeline call as a job of the engine: what is counted, and when it is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.tasks.catalog import EMBEDDED
from service.tasks.pretend import Pretend
from service.worker.frames import Entered, FromChild
from service.worker.run import Cancelled, Run
from tests.service.worker.engine.alone import in_engine


def make_pipe() -> Any:
    """A network of the shape that matters: blocks in a list, called twice for each step."""
    import torch

    class Transformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
            self.seen = 0

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
                self.seen += 1
            return x

    class Autoencoder(torch.nn.Sequential):
        def decode(self, x: Any) -> Any:
            return self(x)

    class Scheduler:
        config: dict[str, Any] = {}  # noqa: RUF012

        @classmethod
        def from_config(cls, config: object) -> Scheduler:
            return cls()

        def step(self, x: Any) -> Any:
            return x

    class Pipe:
        def __init__(self) -> None:
            self.transformer, self.scheduler = Transformer(), Scheduler()
            self.vae = Autoencoder(torch.nn.Identity())

        @property
        def components(self) -> dict[str, Any]:
            return vars(self)

    return Pipe()


def make_run(sent: list[FromChild]) -> Run:
    return Run("j", 1, EMBEDDED["pretend"], Pretend(), Path(), sent.append, lambda: False)


def watched(pipe: Any, run: Run, use: Callable[[Any], None], **words: Any) -> Any:
    """The watch of a run that did `use` with its own copy of the pipeline."""
    from service.worker.pipelines.watch import Watch, watching

    watch = Watch(run, **{"steps": 3, "calls_per_step": 1, "show": lambda latents: None, **words})

    def work() -> None:
        with watching(pipe, watch, None) as own:
            use(own)

    in_engine(work)
    return watch


@pytest.mark.parametrize(("order", "steps"), [(1, [0, 0, 1, 1, 2, 2]), (2, [0, 0, 0, 0, 1, 1])])
def test_a_scheduler_that_knows_its_step_is_asked(order: int, steps: list[int]) -> None:
    """Two calls a step, as with guidance in two calls, and nothing learned about that beforehand."""
    run, seen = make_run([]), []

    def use(pipe: Any) -> None:
        pipe.scheduler.step_index, pipe.scheduler.begin_index, pipe.scheduler.order = None, 4, order
        for call in range(6):
            pipe.transformer(1)
            seen.append(run.step)
            if call % 2:
                pipe.scheduler.step_index = 4 + (call + 1) // 2

    watched(make_pipe(), run, use)
    assert seen == steps


def test_calls_are_divided_by_the_calls_of_a_step() -> None:
    run = make_run([])
    watch = watched(make_pipe(), run, lambda pipe: [pipe.transformer(1) for _ in range(6)], calls_per_step=2)
    assert watch.calls == 6
    assert run.step == 2  # the third is known to be done when decoding begins


def test_the_autoencoder_after_the_denoiser_decodes() -> None:
    sent: list[FromChild] = []
    watched(make_pipe(), make_run(sent), lambda pipe: (pipe.vae.decode(1), pipe.transformer(1), pipe.vae.decode(1)))
    assert [frame.phase for frame in sent if isinstance(frame, Entered)] == ["denoising", "decoding"]


def test_a_halt_is_obeyed_between_two_blocks() -> None:
    pipe, run = make_pipe(), make_run([])
    pipe.transformer.blocks[1].register_forward_hook(lambda *_: run.halt())
    with pytest.raises(Cancelled):
        watched(pipe, run, lambda own: own.transformer(1))
    assert pipe.transformer.seen == 2


def test_the_hooks_of_one_job_do_not_see_the_next() -> None:
    pipe, halted = make_pipe(), make_run([])
    halted.halt()
    with pytest.raises(Cancelled):
        watched(pipe, halted, lambda own: own.transformer(1))
    assert watched(pipe, make_run([]), lambda own: own.transformer(1)).calls == 1
    assert pipe.transformer.seen == 4
    assert all(len(block._forward_pre_hooks) == 1 for block in pipe.transformer.blocks)
