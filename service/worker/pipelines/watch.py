"""A pipeline call as a job of the engine: its own copy of the pipeline, and hooks that tell where it is.

Of diffusers' 245 pipelines 48 have no step callback, so progress and cancel must not need one: at every denoiser
call the scheduler is asked which step it is at, or calls are counted where it does not know, and pre-hooks on all
blocks raise once the job is told to halt. The hooks stay on the weights, which jobs share; each finds the job in
whose context it was called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import torch

from service.worker.engine.denoiser import own_pipeline
from service.worker.engine.engine import current
from service.worker.engine.tape import Tape
from service.worker.run import Run

AUTOENCODERS = ("vae", "vqvae", "movq")

_watch: ContextVar[Watch] = ContextVar("watch")  # each job has a context of its own
_hooked: WeakSet[Any] = WeakSet()  # modules


class Watch:
    """What has been seen of one run."""

    def __init__(
        self,
        run: Run,
        steps: int,
        calls_per_step: int,
        show: Callable[[Any], None],
        phase: str = "denoising",
    ) -> None:
        """`show` is given the latents of the whole batch when a preview is due; `phase` is the denoiser's.

        `calls_per_step` (2 with classifier-free guidance in two calls) counts where the scheduler does not know.
        """
        self._run = run
        self._steps = steps
        self._calls_per_step = calls_per_step
        self._show = show
        self._phase = phase
        self._has_callback = False
        self.scheduler: Any = None
        self.calls = 0

    @property
    def tape(self) -> Tape | None:
        """Where the run keeps how far it has come."""
        return self._run.tape

    def before_denoiser(self) -> None:
        """The first call of the denoiser begins the phase, a later one may begin a step."""
        self._run.check()
        if self.calls == 0:
            self._run.enter(self._phase)
            self._run.stepped(0, self._steps)
        elif not self._has_callback and (done := min(self._steps_done(), self._steps)) > self._run.step:
            self._run.stepped(done, self._steps)
        self.calls += 1

    def _steps_done(self) -> int:
        if not hasattr(self.scheduler, "step_index"):
            return self.calls // self._calls_per_step
        index = self.scheduler.step_index  # None until the first step is done
        if index is None:
            return 0
        # one of second order takes two of its steps for one of the user's
        return int(index - (self.scheduler.begin_index or 0)) // self.scheduler.order

    def before_decoder(self) -> None:
        """A part of the autoencoder is called: after the denoiser has run, it decodes."""
        self._run.check()
        if self.calls and self._run.phase == self._phase:
            self._run.stepped(self._steps, self._steps)
            self._run.enter("decoding")

    def before_block(self) -> None:
        """An inner block is called: a chance to leave."""
        self._run.check()

    def on_step_end(self, pipe: object, index: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        """callback_on_step_end, where the pipeline has it: exact steps, and the latents."""
        self._has_callback = True
        self._run.check()
        self._run.stepped(min(index + 1, self._steps), self._steps)
        if "latents" in tensors and self._run.is_preview_due():
            self._show(tensors["latents"])
        return {}


@contextmanager
def watching(pipe: Any, watch: Watch, generator: Any) -> Iterator[Any]:
    """Gives the pipeline to call in the block: the engine answers its denoiser calls, and `watch` sees them.

    `generator` is the job's own, which the pipeline is called with.
    """
    with seeing(pipe.components, watch):
        own = own_pipeline(pipe, current(), generator, watch.before_denoiser, watch.before_decoder, tape=watch.tape)
        watch.scheduler = own.scheduler
        yield own


@contextmanager
def seeing(components: Mapping[str, Any], watch: Watch) -> Iterator[None]:
    """Have `watch` see what the networks among `components` do in the block, but for calls of the denoiser."""
    # For the whole thread: each pipeline call has a block without gradients, but these blocks overlap.
    torch.set_grad_enabled(False)
    _hook(components)
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def _hook(components: Mapping[str, Any]) -> None:
    """Put the hooks on every component that does not have them yet."""
    for name, component in components.items():
        if not isinstance(component, torch.nn.Module) or component in _hooked:
            continue
        _hooked.add(component)
        if name in AUTOENCODERS:
            for part in component.children():
                part.register_forward_pre_hook(_before_decoder)
        for block in _blocks(component):
            block.register_forward_pre_hook(_before_block)


def _before_decoder(module: object, inputs: object) -> None:
    if (watch := _watch.get(None)) is not None:
        watch.before_decoder()


def _before_block(module: object, inputs: object) -> None:
    if (watch := _watch.get(None)) is not None:
        watch.before_block()


def _blocks(component: Any) -> list[Any]:
    """The repeated parts of a network: whatever stands in a list of modules, at any depth.

    None of one that is compiled: a hook inside would break what was compiled into pieces.
    """
    if any(module._compiled_call_impl is not None for module in component.modules()):
        return []
    lists = (module for module in component.modules() if isinstance(module, torch.nn.ModuleList))
    return [block for blocks in lists for block in blocks]
