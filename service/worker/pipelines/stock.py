"""A diffusers pipeline as it comes: one call, watched by hooks, with whatever arguments its class knows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from service.tasks.denoising import Denoising
from service.worker import previews
from service.worker.failures import BadOutput
from service.worker.pipelines.latents import picture_in
from service.worker.pipelines.loading import Loaded, inputs_of
from service.worker.pipelines.watch import Watch, watching
from service.worker.run import Run


def call(run: Run, loaded: Loaded, more: Mapping[str, Any], pipe: Any = None, steps: int | None = None) -> Any:
    """What the pipeline makes of the run's params and `more` arguments, as far as its class knows them.

    `pipe` is another class around the same components. `steps` are the steps it will really take, where that is
    not what was asked for. Raises Cancelled within a step of being told to halt; the pipeline stays usable.
    """
    params = run.params
    assert isinstance(params, Denoising), f"{type(params).__name__} is no task of a diffusion pipeline"
    run.enter("preparing")
    pipe, inputs = (loaded.pipe, loaded.inputs) if pipe is None else (pipe, inputs_of(pipe))
    steps = params.steps if steps is None else steps
    # drawn on the CPU, so that a seed gives the same noise on every device
    generator = torch.Generator("cpu").manual_seed(params.seed)
    has_guidance = params.guidance > 1
    watch = Watch(run, steps, loaded.calls_per_step.get(has_guidance, 1), partial(_show, run, loaded, pipe, more))
    wanted = {
        "prompt": params.prompt,
        "num_inference_steps": params.steps,
        **_guidance(params, pipe, inputs),
        "generator": generator,
        "output_type": "np",
        "callback_on_step_end": watch.on_step_end,
        **more,
    }
    try:
        with watching(pipe, watch, generator) as own:
            made = own(**{name: value for name, value in wanted.items() if name in inputs})
    finally:
        pipe.maybe_free_model_hooks()
    loaded.calls_per_step[has_guidance] = max(1, round(watch.calls / steps))
    for values in made.values():
        check_numbers(values)
    return made


def check_numbers(made: Any) -> None:
    """Raise BadOutput for values that are no numbers, or all zero: a black picture, a silent sound.

    Half precision that overflows and damaged weights give such, and no pipeline complains.
    """
    if isinstance(made, list | tuple):
        for each in made:
            check_numbers(each)
    elif isinstance(made, np.ndarray | torch.Tensor):
        values = np.asarray(made)
        if not np.isfinite(values).all():
            wrong = "values that are no numbers (NaN or infinite)"
        elif not values.any():
            wrong = "nothing but zeros"
        else:
            return
        raise BadOutput(
            f"the model made {wrong}; its weights may be damaged (`safelight models check`) or its dtype too small "
            "(give its entry dtype bfloat16 or float32)"
        )


def _guidance(params: Denoising, pipe: Any, inputs: frozenset[str]) -> dict[str, Any]:
    """Guidance and negative prompt in the words of the pipeline's class.

    The FLUX and Qwen-Image kind has two guidances. A network that was distilled takes the one as an input; of any
    other only `true_cfg_scale` has an effect, and none without a negative prompt.
    """
    network = getattr(pipe, "transformer", None)
    if "true_cfg_scale" in inputs and not getattr(getattr(network, "config", None), "guidance_embeds", False):
        return {"true_cfg_scale": params.guidance, "negative_prompt": params.negative_prompt or " "}
    return {"guidance_scale": params.guidance, "negative_prompt": params.negative_prompt or None}


def facts(params: Denoising, loaded: Loaded) -> dict[str, Any]:
    """What a rerun needs to know beside the params."""
    return {
        "seed": params.seed,
        "scheduler": _scheduler_facts(loaded.pipe.scheduler),
        "dtype": loaded.dtype,
        "model_digest": loaded.digest,
    }


def sampler(loaded: Loaded) -> str:
    """The scheduler as picture tools name it."""
    return type(loaded.pipe.scheduler).__name__.removesuffix("Scheduler")


def _show(run: Run, loaded: Loaded, pipe: Any, asked: Mapping[str, Any], latents: Any) -> None:
    """Send a preview, of a video of its middle frame."""
    if (first := picture_in(latents, pipe, asked)) is not None:
        cells = first.detach().to("cpu", torch.float32).numpy()
        run.show(*previews.jpeg(previews.picture(cells, loaded.colours)))


def _scheduler_facts(scheduler: Any) -> dict[str, Any]:
    """The scheduler's class and every plain setting of it."""
    settings = {
        name: value
        for name, value in scheduler.config.items()
        if isinstance(value, bool | int | float | str) and not name.startswith("_")
    }
    return {"class": type(scheduler).__name__, **settings}
