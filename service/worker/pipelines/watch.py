"""Hooks on a diffusers pipeline for one run: progress, phases, previews and a cancel that lands within a step.

Of diffusers' 245 pipelines 48 have no step callback, so progress and cancel must not need one: a forward
pre-hook on the denoiser asks the scheduler which step it is at, or counts its own calls where the scheduler does
not know, and pre-hooks on all blocks raise once the run is told to halt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from service.worker.run import Run

DENOISERS = ("unet", "transformer", "transformer_2")  # Wan 2.2 has two: for much noise and for little
AUTOENCODERS = ("vae", "vqvae", "movq")


class Watch:
    """What the hooks have seen of one run."""

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

    def before_denoiser(self, module: object, inputs: object) -> None:
        """Forward pre-hook of the denoiser: its first call begins the phase, a later one may begin a step."""
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

    def before_decoder(self, module: object, inputs: object) -> None:
        """Forward pre-hook of the autoencoder's parts: after the denoiser has run, they decode."""
        self._run.check()
        if self.calls and self._run.phase == self._phase:
            self._run.stepped(self._steps, self._steps)
            self._run.enter("decoding")

    def before_block(self, module: object, inputs: object) -> None:
        """Forward pre-hook of every inner block: only there to leave as soon as possible."""
        self._run.check()

    def on_step_end(self, pipe: object, index: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        """callback_on_step_end, where the pipeline has it: exact steps, and the latents."""
        self._has_callback = True
        self._run.check()
        self._run.stepped(min(index + 1, self._steps), self._steps)
        if "latents" in tensors and self._run.is_preview_due():
            self._show(tensors["latents"])
        return {}


def denoisers_of(pipe: Any) -> list[Any]:
    """The networks that are called at every step. Raises AttributeError for a pipeline that has none."""
    found = [network for name in DENOISERS if (network := getattr(pipe, name, None)) is not None]
    if not found:
        raise AttributeError(f"{type(pipe).__name__} has none of {', '.join(DENOISERS)}; its steps cannot be seen")
    return found


@contextmanager
def watching(pipe: Any, watch: Watch) -> Iterator[None]:
    """Have `watch` called from inside `pipe` for the time of the block."""
    watch.scheduler = getattr(pipe, "scheduler", None)
    handles: list[Any] = []
    try:
        handles.extend(network.register_forward_pre_hook(watch.before_denoiser) for network in denoisers_of(pipe))
        for name in AUTOENCODERS:
            parts = _children(getattr(pipe, name, None))
            handles.extend(part.register_forward_pre_hook(watch.before_decoder) for part in parts)
        for component in pipe.components.values():
            blocks = _blocks(component)
            handles.extend(block.register_forward_pre_hook(watch.before_block) for block in blocks)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _children(module: Any) -> list[Any]:
    return list(module.children()) if module is not None else []


def _blocks(component: Any) -> list[Any]:
    """The repeated parts of a network: whatever stands in a list of modules, at any depth."""
    import torch

    if not isinstance(component, torch.nn.Module):
        return []
    lists = (module for module in component.modules() if isinstance(module, torch.nn.ModuleList))
    return [block for blocks in lists for block in blocks]
