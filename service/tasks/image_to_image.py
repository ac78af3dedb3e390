"""The task image-to-image: a picture made from another one."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.task import Digest
from service.tasks.text_to_image import TextToImage


class ImageToImage(TextToImage, frozen=True, kw_only=True):
    """A picture of what `prompt` says, begun from `image`; for a model that edits, `image` changed as it says.

    The picture has the size of `image`, as the model can draw it, where none is given.
    """

    TASK: ClassVar[str] = "image-to-image"
    RUNNER: ClassVar[str] = "service.worker.pipelines.image_to_image"
    INPUTS: ClassVar[tuple[str, ...]] = ("image",)

    image: Annotated[Digest, Meta(description="digest of the stored picture to begin from")]
    strength: Annotated[
        float, Meta(gt=0.0, le=1.0, description="how far to go from the picture: this share of the steps is run")
    ] = 0.6
