"""The task image-to-image: any diffusers folder whose pipeline, or its relative for pictures, begins from one.

A class that edits by instruction (Qwen-Image-Edit, FLUX Kontext) takes picture and prompt, and knows no strength.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import diffusers

from service.tasks.image_to_image import ImageToImage
from service.tasks.upscale import Upscale
from service.tasks.video_to_video import VideoToVideo
from service.worker.pipelines import stock
from service.worker.pipelines.fitting import fitted, picture_of
from service.worker.pipelines.loading import Loaded, inputs_of, load
from service.worker.pipelines.relatives import relative
from service.worker.pipelines.text_to_image import delivered, export
from service.worker.run import Made, Run

__all__ = ["compute", "load"]


def compute(run: Run, loaded: Loaded) -> Made:
    """Draw the picture anew. Raises InvalidInput, or Cancelled within a step of being told to halt."""
    params = run.params
    assert isinstance(params, ImageToImage), f"task {ImageToImage.TASK} got {type(params).__name__}"
    run.enter("preparing")
    enlarge = run.model.enlarge
    width, height = params.width // enlarge, params.height // enlarge
    pipe = relative(run.model.id, loaded, diffusers.AutoPipelineForImage2Image)
    arguments = {
        "image": fitted(picture_of(run), width, height),
        "width": width,
        "height": height,
        "max_area": width * height,  # FLUX Kontext would draw a megapixel whatever is asked for
        "_auto_resize": False,
    }
    pixels = stock.call(run, loaded, **begun(pipe, params, arguments)).images[0]
    facts = {**stock.facts(params, loaded), "native_width": width, "native_height": height}
    picture = partial(delivered, pixels, params.width, params.height)
    return Made(facts, lambda: export(run, params, picture(), stock.sampler(loaded)))


def begun(pipe: Any, params: ImageToImage | Upscale | VideoToVideo, arguments: dict[str, Any]) -> dict[str, Any]:
    """What stock.call needs to begin from a picture, with a strength where the pipeline's class knows one.

    Pipelines round steps * strength in two ways; a fraction gives the same number in both, a float does not.
    """
    if "strength" not in inputs_of(pipe):
        return {"pipe": pipe, "more": arguments}
    steps = steps_run(params)
    return {"pipe": pipe, "more": {**arguments, "strength": Fraction(steps, params.steps)}, "steps": steps}


def steps_run(params: ImageToImage | Upscale | VideoToVideo) -> int:
    """The denoising steps that are really run for their strength, at least one."""
    return max(1, round(params.steps * params.strength))
