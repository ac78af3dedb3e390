"""The task inpaint: a part of a picture made anew."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.image_to_image import ImageToImage
from service.tasks.task import Digest


class Inpaint(ImageToImage, frozen=True, kw_only=True):
    """`image` with what `prompt` says where `mask` is white; where it is black, not a pixel of it changes."""

    TASK: ClassVar[str] = "inpaint"
    RUNNER: ClassVar[str] = "service.worker.pipelines.inpaint"
    INPUTS: ClassVar[tuple[str, ...]] = ("image", "mask")

    mask: Annotated[Digest, Meta(description="digest of a stored picture of the same size; white is made anew")]
    strength: Annotated[
        float, Meta(gt=0.0, le=1.0, description="how far to go from what was there: this share of the steps is run")
    ] = 1.0
