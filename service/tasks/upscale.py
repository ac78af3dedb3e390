"""The task upscale: a picture made larger, with detail that is drawn anew."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.denoising import Drawing
from service.tasks.task import Digest


class Upscale(Drawing, frozen=True, kw_only=True):
    """`image`, `factor` times as wide and high.

    A model that is an upscaler is asked for the detail; any other that can begin from a picture enlarges it by
    interpolation and draws it again with a low `strength`.
    """

    TASK: ClassVar[str] = "upscale"
    RUNNER: ClassVar[str] = "service.worker.pipelines.upscale"
    INPUTS: ClassVar[tuple[str, ...]] = ("image",)

    prompt: Annotated[str, Meta(max_length=4000, description="what the picture shows")] = ""
    image: Annotated[Digest, Meta(description="digest of the stored picture to enlarge")]
    factor: Annotated[int, Meta(ge=2, le=4, description="times as wide and high; at most 4096 px come of it")] = 2
    noise: Annotated[
        int, Meta(ge=0, le=350, description="upscalers: noise put on the picture, which lets more be drawn anew")
    ] = 20
    strength: Annotated[
        float, Meta(gt=0.0, le=1.0, description="other models: how far to go, as in image-to-image")
    ] = 0.3
