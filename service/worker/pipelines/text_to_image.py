"""The task text-to-image: any diffusers folder whose pipeline makes a picture from a prompt."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from service.tasks.text_to_image import TextToImage
from service.worker import encoding, previews
from service.worker.frames import SpooledFile
from service.worker.pipelines.loading import Loaded, free_memory, load
from service.worker.pipelines.watch import Watch, watching
from service.worker.run import Made, Run

__all__ = ["compute", "free_memory", "load"]

MEDIA_TYPE = "image/png"


def compute(run: Run, loaded: Loaded) -> Made:
    """Draw the picture. Raises Cancelled within a step of being told to halt; the pipeline stays usable."""
    params = run.params
    assert isinstance(params, TextToImage), f"task {TextToImage.TASK} got {type(params).__name__}"
    run.enter("preparing")
    has_guidance = params.guidance > 1
    watch = Watch(run, params.steps, loaded.calls_per_step.get(has_guidance, 1), partial(_show, run, loaded))
    # drawn on the CPU, so that a seed gives the same noise on every device
    generator = torch.Generator("cpu").manual_seed(params.seed)
    arguments = _arguments(run, params, loaded.inputs, watch, generator)
    try:
        with watching(loaded.pipe, watch, generator) as pipe:
            pixels = pipe(**arguments).images[0]  # (height, width, 3) float32, 0..1
    finally:
        loaded.pipe.maybe_free_model_hooks()
    loaded.calls_per_step[has_guidance] = max(1, round(watch.calls / params.steps))
    height, width = pixels.shape[:2]
    facts = {
        "seed": params.seed,
        "scheduler": _scheduler_facts(loaded.pipe.scheduler),
        "dtype": loaded.dtype,
        "model_digest": loaded.digest,
        "native_width": width,
        "native_height": height,
    }
    sampler = type(loaded.pipe.scheduler).__name__.removesuffix("Scheduler")
    return Made(facts, partial(_export, run, params, pixels, sampler))


def _arguments(
    run: Run, params: TextToImage, inputs: frozenset[str], watch: Watch, generator: torch.Generator
) -> dict[str, Any]:
    """The pipeline's arguments, as far as its class knows them."""
    enlarge = run.model.enlarge
    wanted = {
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt or None,
        "num_inference_steps": params.steps,
        "guidance_scale": params.guidance,
        "width": params.width // enlarge,
        "height": params.height // enlarge,
        "generator": generator,
        "output_type": "np",
        "callback_on_step_end": watch.on_step_end,
    }
    return {name: value for name, value in wanted.items() if name in inputs}


def _show(run: Run, loaded: Loaded, latents: Any) -> None:
    """Send a preview, when the latents lie as a picture does: (batch, channels, height, width)."""
    if latents.ndim == 4:
        first = latents[0].detach().to("cpu", torch.float32).numpy()
        run.show(*previews.jpeg(previews.picture(first, loaded.colours)))


def _scheduler_facts(scheduler: Any) -> dict[str, Any]:
    """The scheduler's class and every plain setting of it."""
    settings = {
        name: value
        for name, value in scheduler.config.items()
        if isinstance(value, bool | int | float | str) and not name.startswith("_")
    }
    return {"class": type(scheduler).__name__, **settings}


def _export(run: Run, params: TextToImage, pixels: NDArray[np.float32], sampler: str) -> tuple[SpooledFile, ...]:
    """Write the picture in the size that was asked for. Needs no device."""
    picture = (pixels * 255).round().astype(np.uint8)  # (height, width, 3), as diffusers rounds
    if picture.shape[:2] != (params.height, params.width):
        enlarged = Image.fromarray(picture).resize((params.width, params.height), Image.Resampling.LANCZOS)
        picture = np.asarray(enlarged)
    texts = encoding.picture_texts(run.job, run.attempt, run.model.id, params, sampler)
    data = encoding.png(picture, texts)
    return (encoding.spool(run.folder, data, MEDIA_TYPE, params.width, params.height),)
