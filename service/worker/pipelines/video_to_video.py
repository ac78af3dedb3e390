"""The task video-to-video: any diffusers folder whose pipeline, or a sister of it, takes a video and a prompt."""

from __future__ import annotations

from typing import Any

import diffusers
from PIL import Image

from service.tasks.video_to_video import VideoToVideo
from service.worker import video
from service.worker.pipelines import stock
from service.worker.pipelines.fitting import beside_the_others, fitted
from service.worker.pipelines.image_to_image import begun
from service.worker.pipelines.loading import Loaded, inputs_of, load
from service.worker.pipelines.relatives import relative
from service.worker.pipelines.text_to_video import made
from service.worker.run import Made, Run

__all__ = ["compute", "load"]

SISTERS = {
    "AnimateDiffPipeline": "AnimateDiffVideoToVideoPipeline",
    "CogVideoXPipeline": "CogVideoXVideoToVideoPipeline",
    "WanPipeline": "WanVideoToVideoPipeline",  # of Wan 2.1: it knows no second denoiser
}
"""Another class around the same components: a model that is warm for text-to-video is warm for this."""


class VideoToVideoFamily:
    """What diffusers has for pictures only: the class that takes a video, for a pipeline."""

    @classmethod
    def from_pipe(cls, pipe: Any) -> Any:
        """The pipeline itself, or its sister. Raises ValueError for a class that has none."""
        if "video" in inputs_of(pipe):
            return pipe
        name = type(pipe).__name__
        if name not in SISTERS or getattr(pipe, "transformer_2", None) is not None:
            raise ValueError(f"{name} takes no video; use one of {', '.join(SISTERS)}")
        # without a dtype it would make float32 of everything, the shared components included
        return getattr(diffusers, SISTERS[name]).from_pipe(pipe, torch_dtype=pipe.dtype)


def compute(run: Run, loaded: Loaded) -> Made:
    """Make the video. Raises InvalidInput, or Cancelled within a step of being told to halt."""
    params = run.params
    assert isinstance(params, VideoToVideo), f"task {VideoToVideo.TASK} got {type(params).__name__}"
    run.enter("preparing")
    size = params.width, params.height
    frames, fps = beside_the_others(
        lambda: video.frames_of(
            run.inputs["video"], params.frames, lambda frame: fitted(Image.fromarray(frame), *size)
        )
    )
    pipe = relative(run.model.id, loaded, VideoToVideoFamily)
    more = {
        "video": frames,
        "width": params.width,
        "height": params.height,
        "num_frames": len(frames),
    }
    return made(run, params, loaded, stock.call(run, loaded, **begun(pipe, params, more)).frames[0], fps)
