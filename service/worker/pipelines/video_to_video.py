"""The task video-to-video: any diffusers folder whose pipeline, or a sister of it, takes a video and a prompt."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from PIL import Image

from service.tasks.video_to_video import VideoToVideo
from service.worker import video
from service.worker.models import ModelMissing
from service.worker.pipelines import stock
from service.worker.pipelines.loading import Loaded, free_memory, load
from service.worker.pipelines.text_to_video import made
from service.worker.run import Made, Run

__all__ = ["compute", "free_memory", "load"]

SISTERS = {
    "AnimateDiffPipeline": "AnimateDiffVideoToVideoPipeline",
    "CogVideoXPipeline": "CogVideoXVideoToVideoPipeline",
    "WanPipeline": "WanVideoToVideoPipeline",  # of Wan 2.1: it knows no second denoiser
}
"""Another class around the same components: a model that is warm for text-to-video is warm for this."""


def compute(run: Run, loaded: Loaded) -> Made:
    """Make the video. Raises Cancelled within a step of being told to halt; the pipeline stays usable."""
    params = run.params
    assert isinstance(params, VideoToVideo), f"task {VideoToVideo.TASK} got {type(params).__name__}"
    pictures, fps = video.frames_of(run.inputs["video"], params.frames)
    more = {
        "video": [Image.fromarray(picture) for picture in pictures],
        "strength": params.strength,
        "width": params.width,
        "height": params.height,
        "num_frames": len(pictures),
    }
    steps = max(1, min(params.steps, int(params.steps * params.strength)))  # as diffusers leaves out the first ones
    return made(run, loaded, stock.call(run, loaded, more, _taking_video(run, loaded), steps).frames[0], fps)


def _taking_video(run: Run, loaded: Loaded) -> Any:
    """The pipeline, or its sister. Raises ModelMissing for a class that has none."""
    if "video" in loaded.inputs:
        return loaded.pipe
    name = type(loaded.pipe).__name__
    if name not in SISTERS or getattr(loaded.pipe, "transformer_2", None) is not None:
        raise ModelMissing(
            f"model {run.model.id} is a {name} that takes no video; give the task {VideoToVideo.TASK} to another "
            "model of the catalogue"
        )
    # without a dtype it would make float32 of everything, the shared components included
    pipe = getattr(diffusers, SISTERS[name]).from_pipe(loaded.pipe, torch_dtype=getattr(torch, loaded.dtype))
    pipe.set_progress_bar_config(disable=True)
    return pipe
