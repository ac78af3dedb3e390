"""The task text-to-image: any diffusers folder whose pipeline makes a picture from a prompt."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.tasks.denoising import Drawing
from service.tasks.text_to_image import TextToImage
from service.worker import encoding
from service.worker.frames import SpooledFile
from service.worker.pipelines import stock
from service.worker.pipelines.loading import Loaded, load
from service.worker.run import Made, Run

__all__ = ["compute", "load"]


def compute(run: Run, loaded: Loaded) -> Made:
    """Draw the picture. Raises Cancelled within a step of being told to halt; the pipeline stays usable."""
    params = run.params
    assert isinstance(params, TextToImage), f"task {TextToImage.TASK} got {type(params).__name__}"
    enlarge = run.model.enlarge
    size = {"width": params.width // enlarge, "height": params.height // enlarge}
    pixels = stock.call(run, loaded, size).images[0]  # (height, width, 3) float32, 0..1
    height, width = pixels.shape[:2]
    facts = {**stock.facts(params, loaded), "native_width": width, "native_height": height}
    picture = partial(delivered, pixels, params.width, params.height)
    return Made(facts, lambda: export(run, params, picture(), stock.sampler(loaded)))


def delivered(pixels: NDArray[np.float32], width: int, height: int) -> NDArray[np.uint8]:
    """A drawn picture (height, width, 3), 0..1, in the size in px that it is to have. Needs no device."""
    picture = (pixels * 255).round().astype(np.uint8)  # as diffusers rounds
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def export(run: Run, params: Drawing, picture: NDArray[np.uint8], sampler: str) -> tuple[SpooledFile, ...]:
    """Write the picture (height, width, 3) to a file that tells how it was made. Needs no device."""
    height, width = picture.shape[:2]
    texts = encoding.picture_texts(run.job, run.attempt, run.model.id, params, (width, height), sampler)
    data = encoding.picture(picture, params.format, texts)
    return (encoding.spool(run.folder, data, f"image/{params.format}", width=width, height=height),)
