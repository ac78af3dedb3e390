"""The task text-to-image: any diffusers folder whose pipeline makes a picture from a prompt."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.tasks.text_to_image import TextToImage
from service.worker import encoding
from service.worker.frames import SpooledFile
from service.worker.pipelines import stock
from service.worker.pipelines.loading import Loaded, free_memory, load
from service.worker.run import Made, Run

__all__ = ["compute", "free_memory", "load"]


def compute(run: Run, loaded: Loaded) -> Made:
    """Draw the picture. Raises Cancelled within a step of being told to halt; the pipeline stays usable."""
    params = run.params
    assert isinstance(params, TextToImage), f"task {TextToImage.TASK} got {type(params).__name__}"
    enlarge = run.model.enlarge
    size = {"width": params.width // enlarge, "height": params.height // enlarge}
    pixels = stock.call(run, loaded, size).images[0]  # (height, width, 3) float32, 0..1
    height, width = pixels.shape[:2]
    facts = {**stock.facts(run, loaded), "native_width": width, "native_height": height}
    return Made(facts, partial(_export, run, params, pixels, stock.sampler(loaded)))


def _export(run: Run, params: TextToImage, pixels: NDArray[np.float32], sampler: str) -> tuple[SpooledFile, ...]:
    """Write the picture in the size that was asked for. Needs no device."""
    picture = (pixels * 255).round().astype(np.uint8)  # (height, width, 3), as diffusers rounds
    if picture.shape[:2] != (params.height, params.width):
        enlarged = Image.fromarray(picture).resize((params.width, params.height), Image.Resampling.LANCZOS)
        picture = np.asarray(enlarged)
    texts = encoding.picture_texts(run.job, run.attempt, run.model.id, params, sampler)
    data = encoding.picture(picture, params.format, texts)
    size = {"width": params.width, "height": params.height}
    return (encoding.spool(run.folder, data, f"image/{params.format}", **size),)
