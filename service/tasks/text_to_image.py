"""The task text-to-image: a picture from a prompt."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.task import MAX_SEED, Params


class TextToImage(Params, frozen=True, kw_only=True):
    """A picture of what `prompt` says; the same params on the same worker class give the same picture."""

    TASK: ClassVar[str] = "text-to-image"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"prompt", "negative_prompt"})
    PHASES: ClassVar[tuple[str, ...]] = ("loading_model", "preparing", "denoising", "decoding", "exporting")
    TOGETHER: ClassVar[frozenset[str] | None] = frozenset({"width", "height"})

    prompt: Annotated[str, Meta(min_length=1, max_length=4000, description="what to draw")]
    negative_prompt: Annotated[str, Meta(max_length=4000, description="what to keep out")] = ""
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED, description="starts the noise; drawn when absent")]
    steps: Annotated[int, Meta(ge=1, le=150, description="denoising steps")]
    guidance: Annotated[float, Meta(ge=0.0, le=30.0, description="classifier-free guidance; 0 or 1 turns it off")]
    width: Annotated[int, Meta(ge=64, le=4096, multiple_of=8, description="px")]
    height: Annotated[int, Meta(ge=64, le=4096, multiple_of=8, description="px")]
