"""The task video-to-video: another video with the movement of one that was given."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.denoising import Denoising
from service.tasks.task import Digest


class VideoToVideo(Denoising, frozen=True, kw_only=True):
    """`video` drawn anew as `prompt` says, at its own frame rate."""

    TASK: ClassVar[str] = "video-to-video"
    RUNNER: ClassVar[str] = "service.worker.pipelines.video_to_video"
    INPUTS: ClassVar[tuple[str, ...]] = ("video",)
    RUN_TIMEOUT_S: ClassVar[float] = 4 * 3600.0

    video: Annotated[Digest, Meta(description="a stored video: the hex SHA-256 of its bytes")]
    strength: Annotated[
        float, Meta(gt=0.0, le=1.0, description="how far to go from the video: this share of the steps is run")
    ] = 0.6
    width: Annotated[int, Meta(ge=64, le=2048, multiple_of=16, description="px; the input is scaled to it")]
    height: Annotated[int, Meta(ge=64, le=2048, multiple_of=16, description="px")]
    frames: Annotated[int, Meta(ge=1, le=1000, description="of the input that are used, from its beginning")]
