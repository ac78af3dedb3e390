"""The task upscale: a diffusion upscaler as it comes, or any model that can begin from a picture.

The latter gets the picture enlarged by interpolation and draws it again, the whole of it in one piece.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
from PIL import Image

from service.tasks.upscale import Upscale
from service.worker.pipelines import stock
from service.worker.pipelines.fitting import picture_of
from service.worker.pipelines.image_to_image import begun
from service.worker.pipelines.loading import Loaded, load
from service.worker.pipelines.relatives import relative
from service.worker.pipelines.text_to_image import delivered, export
from service.worker.run import Made, Run

__all__ = ["compute", "load"]

UNIT_PX = 16  # what every family of models can draw a multiple of


def compute(run: Run, loaded: Loaded) -> Made:
    """Enlarge the picture. Raises InvalidInput, or Cancelled within a step of being told to halt."""
    params = run.params
    assert isinstance(params, Upscale), f"task {Upscale.TASK} got {type(params).__name__}"
    run.enter("preparing")
    image = picture_of(run)
    if _is_upscaler(loaded):
        made = stock.call(run, loaded, {"image": image, "noise_level": params.noise})
    else:
        made = stock.call(run, loaded, **_redrawn(run, loaded, params, image))
    pixels = made.images[0]  # (height, width, 3) float32, 0..1
    height, width = pixels.shape[:2]
    facts = {**stock.facts(params, loaded), "native_width": width, "native_height": height}
    picture = partial(delivered, pixels, image.width * params.factor, image.height * params.factor)
    return Made(facts, lambda: export(run, params, picture(), stock.sampler(loaded)))


def _is_upscaler(loaded: Loaded) -> bool:
    """A class that takes a small picture and the noise to put on it (Stable Diffusion x4 and its like)."""
    return {"image", "noise_level"} <= loaded.inputs


def _redrawn(run: Run, loaded: Loaded, params: Upscale, image: Image.Image) -> dict[str, Any]:
    width, height = (_up(px * params.factor) for px in image.size)
    enlarged = image.resize((width, height), Image.Resampling.LANCZOS)
    pipe = relative(run.model.id, loaded, diffusers.AutoPipelineForImage2Image)
    arguments = {"image": enlarged, "width": width, "height": height}
    return begun(pipe, params, arguments)


def _up(px: int) -> int:
    return -(-px // UNIT_PX) * UNIT_PX
