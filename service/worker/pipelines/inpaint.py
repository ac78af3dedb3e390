"""The task inpaint: any diffusers folder whose pipeline has a relative that draws a part of a picture anew.

What the mask leaves is taken from the picture itself, not from the autoencoder, which would change every pixel.
"""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.tasks.inpaint import Inpaint
from service.worker.pipelines import stock
from service.worker.pipelines.fitting import fitted, mask_of, picture_of
from service.worker.pipelines.image_to_image import begun
from service.worker.pipelines.loading import Loaded, load
from service.worker.pipelines.relatives import relative
from service.worker.pipelines.text_to_image import delivered, export
from service.worker.run import Made, Run

__all__ = ["compute", "load"]


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
    family = diffusers.AutoPipelineForInpainting
    if _is_refused(loaded.pipe):  # then the rest of the picture is drawn as well, for nothing
        family = diffusers.AutoPipelineForImage2Image
    arguments = {"image": image, "mask_image": mask, "width": image.width, "height": image.height}
    made = stock.call(run, loaded, **begun(relative(run.model.id, loaded, family), params, arguments))
    pixels: NDArray[np.float32] = made.images[0]
    return pixels


def _is_refused(pipe: Any) -> bool:
    """Whether diffusers would not inpaint with the network: it knows UNets of 4 channels, or of 9 for that purpose.

    The embedded one has 10. To put what the mask leaves back into its latents after every step, as is done with
    4, brought mud: every cell of them holds the colours of the whole picture.
    """
    unet = getattr(pipe, "unet", None)
    return unet is not None and unet.config.in_channels not in (4, 9)
