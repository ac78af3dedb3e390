"""The task text-to-video: a video from a prompt."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.denoising import Denoising


class TextToVideo(Denoising, frozen=True, kw_only=True):
    """A silent video of what `prompt` says. Many models round `frames` to what their autoencoder can make."""

    TASK: ClassVar[str] = "text-to-video"
    RUNNER: ClassVar[str] = "service.worker.pipelines.text_to_video"
    RUN_TIMEOUT_S: ClassVar[float] = 4 * 3600.0  # a large model takes 10 s and more a step

    width: Annotated[int, Meta(ge=64, le=2048, multiple_of=16, description="px")]
    height: Annotated[int, Meta(ge=64, le=2048, multiple_of=16, description="px")]
    frames: Annotated[int, Meta(ge=1, le=1000, description="pictures in the video")]
    fps: Annotated[int, Meta(ge=1, le=60, description="frames a second")]
