"""What every task shares that starts from noise and follows a prompt: its fields, private ones and phases."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from service.tasks.task import MAX_SEED, Params


class Denoising(Params, frozen=True, kw_only=True):
    """What any diffusion pipeline knows. The same params on workers of a class give the same result."""

    PRIVATE: ClassVar[frozenset[str]] = frozenset({"prompt", "negative_prompt"})
    PHASES: ClassVar[tuple[str, ...]] = ("loading_model", "preparing", "denoising", "decoding", "exporting")

    prompt: Annotated[str, Meta(min_length=1, max_length=4000, description="what to make")]
    negative_prompt: Annotated[str, Meta(max_length=4000, description="what to keep out")] = ""
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED, description="starts the noise; drawn when absent")]
    steps: Annotated[int, Meta(ge=1, le=150, description="denoising steps")]
    guidance: Annotated[float, Meta(ge=0.0, le=30.0, description="classifier-free guidance; 0 or 1 turns it off")]


class Drawing(Denoising, frozen=True, kw_only=True):
    """A task whose result is a picture."""

    format: Annotated[Literal["png", "webp", "jpeg"], Meta(description="of the file; png is lossless")] = "png"
