"""Pictures that a job starts from: opened, turned upright, in plain colours, and fitted to a size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from service.worker.engine.engine import current
from service.worker.failures import InvalidInput
from service.worker.run import Run

T = TypeVar("T")

FORMATS = ("PNG", "JPEG", "WEBP")

_opening = ThreadPoolExecutor(1, thread_name_prefix="opening")


def picture_of(run: Run, field: str = "image") -> Image.Image:
    """The picture of that param, RGB; what is transparent lies on white. Raises InvalidInput."""
    return beside_the_others(lambda: _flat(_opened(run, field), "white").convert("RGB"))


def mask_of(run: Run, field: str = "mask") -> Image.Image:
    """The picture of that param in greys; what is transparent is black. Raises InvalidInput."""
    return beside_the_others(lambda: _flat(_opened(run, field), "black").convert("L"))


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture, or mask, in exactly that size: its middle, when its shape is another."""
    if picture.size == (width, height):
        return picture
    # Lanczos swings over at edges: beside them a mask would not be black any more
    method = Image.Resampling.BILINEAR if picture.mode == "L" else Image.Resampling.LANCZOS
    return ImageOps.fit(picture, (width, height), method)


def beside_the_others(open_it: Callable[[], T]) -> T:
    """What `open_it` gives, from another thread: a large picture takes half a second, in which others compute."""
    return current().wait(_opening.submit(open_it))


def _opened(run: Run, field: str) -> Image.Image:
    with _usable(field), Image.open(run.inputs[field], formats=FORMATS) as file:
        upright = ImageOps.exif_transpose(file)
        upright.load()
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would cut off instead of scaling
        return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return upright


def _flat(picture: Image.Image, paper: str) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, paper), layer)


@contextmanager
def _usable(field: str) -> Iterator[None]:
    """Its headers were read when it was stored; that its pixels are whole shows only here."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidInput(
            f"the picture of params.{field} cannot be opened ({type(error).__name__}); send an undamaged file"
        ) from error
