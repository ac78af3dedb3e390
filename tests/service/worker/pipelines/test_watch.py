from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.tasks.catalog import MODELS
from service.tasks.pretend import Pretend
from service.worker.frames import FromChild
from service.worker.pipelines.watch import Watch, denoisers_of, watching
from service.worker.run import Cancelled, Run


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

    transformer = Transformer()
    return SimpleNamespace(transformer=transformer, components={"transformer": transformer, "scheduler": None})


def make_run(sent: list[FromChild]) -> Run:
    return Run("j", 1, MODELS["pretend"], Pretend(), Path(), sent.append, lambda: False)


def test_the_denoisers_are_found_under_any_name() -> None:
    assert denoisers_of(SimpleNamespace(unet="u", transformer=None)) == ["u"]
    assert denoisers_of(SimpleNamespace(transformer="t", transformer_2="s")) == ["t", "s"]
    with pytest.raises(AttributeError, match="has none of unet, transformer"):
        denoisers_of(SimpleNamespace(vae="v"))


@pytest.mark.parametrize(("order", "steps"), [(1, [0, 0, 1, 1, 2, 2]), (2, [0, 0, 0, 0, 1, 1])])
def test_a_scheduler_that_knows_its_step_is_asked(order: int, steps: list[int]) -> None:
    """Two calls a step, as with guidance in two calls, and nothing learned about that beforehand."""
    pipe, run, seen = make_pipe(), make_run([]), []
    pipe.scheduler = SimpleNamespace(step_index=None, begin_index=4, order=order)
    with watching(pipe, Watch(run, steps=3, calls_per_step=1, show=lambda latents: None)):
        for call in range(6):
            pipe.transformer(1)
            seen.append(run.step)
            if call % 2:
                pipe.scheduler.step_index = 4 + (call + 1) // 2
    assert seen == steps


def test_calls_are_divided_by_the_calls_of_a_step() -> None:
    pipe, run = make_pipe(), make_run([])
    watch = Watch(run, steps=3, calls_per_step=2, show=lambda latents: None)
    with watching(pipe, watch):
        for _ in range(6):
            pipe.transformer(1)
    assert watch.calls == 6
    assert run.step == 2  # the third is known to be done when decoding begins


def test_a_halt_is_obeyed_between_two_blocks() -> None:
    pipe, run = make_pipe(), make_run([])
    pipe.transformer.blocks[1].register_forward_hook(lambda *_: run.halt())
    with watching(pipe, Watch(run, 3, 1, lambda latents: None)), pytest.raises(Cancelled):
        pipe.transformer(1)
    assert pipe.transformer.seen == 2


def test_hooks_are_gone_after_an_error() -> None:
    pipe = make_pipe()
    with pytest.raises(ValueError), watching(pipe, Watch(make_run([]), 1, 1, lambda latents: None)):
        raise ValueError
    assert not pipe.transformer._forward_pre_hooks
    assert not any(block._forward_pre_hooks for block in pipe.transformer.blocks)
