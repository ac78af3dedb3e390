"""Hooks on a diffusers pipeline for one run: progress, phases, previews and a cancel that lands within a step.

Of diffusers' 245 pipelines 48 have no step callback, so progress and cancel must not need one: a forward
pre-hook on the denoiser counts its calls, and pre-hooks on all blocks raise once the run is told to halt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from service.worker.run import Run

AUTOENCODERS = ("vae", "vqvae", "movq")


class Watch:
    """What the hooks have seen of one run."""

    def __init__(self, run: Run, steps: int, calls_per_step: int, show: Callable[[Any], None]) -> None:
        """`show` is given the latents of the whole batch when a preview is due."""
        self._run = run
        self._steps = steps
        self._calls_per_step = calls_per_step
        self._show = show
        self._has_callback = False
        self.calls = 0

    def before_denoiser(self, module: object, inputs: object) -> None:
        """Forward pre-hook of the denoiser: its first call begins the phase, further ones are counted."""
        self._run.check()
        if self.calls == 0:
            self._run.enter("denoising")
            self._run.stepped(0, self._steps)
        elif not self._has_callback and self.calls % self._calls_per_step == 0:
            self._run.stepped(min(self.calls // self._calls_per_step, self._steps), self._steps)
        self.calls += 1

    def before_decoder(self, module: object, inputs: object) -> None:
        """Forward pre-hook of the autoencoder's parts: after the denoiser has run, they decode."""
        self._run.check()
        if self.calls and self._run.phase == "denoising":
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


def denoiser_of(pipe: Any) -> Any:
    """The network that is called at every step. Raises AttributeError for a pipeline that has none."""
    return pipe.unet if getattr(pipe, "unet", None) is not None else pipe.transformer


@contextmanager
def watching(pipe: Any, watch: Watch) -> Iterator[None]:
    """Have `watch` called from inside `pipe` for the time of the block."""
    handles = []
    try:
        handles.append(denoiser_of(pipe).register_forward_pre_hook(watch.before_denoiser))
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
