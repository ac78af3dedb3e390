"""The task text-to-image: a picture from a prompt."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.denoising import Drawing


class TextToImage(Drawing, frozen=True, kw_only=True):
    """A picture of what `prompt` says."""

    TASK: ClassVar[str] = "text-to-image"
    RUNNER: ClassVar[str] = "service.worker.pipelines.text_to_image"
    TOGETHER: ClassVar[frozenset[str] | None] = frozenset({"width", "height"})

    width: Annotated[int, Meta(ge=64, le=4096, multiple_of=8, description="px")]
    height: Annotated[int, Meta(ge=64, le=4096, multiple_of=8, description="px")]
