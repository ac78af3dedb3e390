"""The task inpaint: any diffusers folder whose pipeline has a relative that draws a part of a picture anew.

What the mask leaves is taken from the picture itself, not from the autoencoder, which would change every pixel.
"""

from __future__ import annotations

from functools import partial

import diffusers
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.tasks.inpaint import Inpaint
from service.worker.pipelines import keeping, stock
from service.worker.pipelines.fitting import fitted, mask_of, picture_of
from service.worker.pipelines.image_to_image import begun
from service.worker.pipelines.loading import Loaded, free_memory, load
from service.worker.pipelines.relatives import relative
from service.worker.pipelines.text_to_image import delivered, export
from service.worker.run import Made, Run

__all__ = ["compute", "free_memory", "load"]


def compute(run: Run, loaded: Loaded) -> Made:
    """Draw what the mask shows. Raises InvalidInput, or Cancelled within a step of being told to halt."""
    params = run.params
    assert isinstance(params, Inpaint), f"task {Inpaint.TASK} got {type(params).__name__}"
    run.enter("preparing")
    enlarge = run.model.enlarge
    width, height = params.width // enlarge, params.height // enlarge
    image, mask = (fitted(whole, params.width, params.height) for whole in (picture_of(run), mask_of(run)))
    pixels = _drawn(run, loaded, params, fitted(image, width, height), fitted(mask, width, height))
    facts = {**stock.facts(params, loaded), "native_width": width, "native_height": height}

    def picture() -> NDArray[np.uint8]:
        drawn = Image.fromarray(delivered(pixels, params.width, params.height))
        return np.asarray(Image.composite(drawn, image, mask))

    return Made(facts, lambda: export(run, params, picture(), stock.sampler(loaded)))


def _drawn(run: Run, loaded: Loaded, params: Inpaint, image: Image.Image, mask: Image.Image) -> NDArray[np.float32]:
    """The whole picture (height, width, 3), 0..1, in the size of `image`."""
    arguments = {"image": image, "mask_image": mask, "width": image.width, "height": image.height}
    if keeping.is_needed(loaded.pipe):
        pipe = relative(run.model.id, loaded, diffusers.AutoPipelineForImage2Image)
        keep = partial(keeping.keep, image=image, mask=mask, seed=params.seed)
    else:
        pipe = relative(run.model.id, loaded, diffusers.AutoPipelineForInpainting)
        keep = None
    pixels: NDArray[np.float32] = stock.call(run, loaded, **begun(pipe, params, arguments), prepare=keep).images[0]
    return pixels
