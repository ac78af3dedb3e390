"""The task text-to-video: any diffusers folder whose pipeline makes frames from a prompt."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.tasks.denoising import Denoising
from service.tasks.text_to_video import TextToVideo
from service.worker import encoding, video
from service.worker.frames import SpooledFile
from service.worker.pipelines import stock
from service.worker.pipelines.loading import Loaded, load
from service.worker.run import Made, Run

__all__ = ["compute", "load"]


def compute(run: Run, loaded: Loaded) -> Made:
    """Make the video. Raises Cancelled within a step of being told to halt; the pipeline stays usable."""
    params = run.params
    assert isinstance(params, TextToVideo), f"task {TextToVideo.TASK} got {type(params).__name__}"
    shape = {
        "width": params.width,
        "height": params.height,
        **dict.fromkeys(("num_frames", "video_length"), params.frames),
        **dict.fromkeys(("fps", "frame_rate"), params.fps),  # models that were taught the speed of things
    }
    return made(run, params, loaded, stock.call(run, loaded, shape).frames[0], params.fps)


def made(run: Run, params: Denoising, loaded: Loaded, frames: NDArray[np.float32], fps: float) -> Made:
    """The result of a video task: `frames` (frames, height, width, 3), 0..1, shown at `fps`."""
    count, height, width, _ = frames.shape
    facts: dict[str, Any] = {"native_width": width, "native_height": height, "frames": count}
    return Made(stock.facts(params, loaded) | facts, partial(_export, run, frames, fps))


def _export(run: Run, frames: NDArray[np.float32], fps: float) -> tuple[SpooledFile, ...]:
    """Write the video in the size that the pipeline made it. Needs no device."""
    count, height, width, _ = frames.shape
    pictures = (frames * 255).round().astype(np.uint8)
    data = video.mp4(pictures, fps, encoding.record(run.job, run.attempt, run.model.id, run.params))
    about = {"width": width, "height": height, "frames": count, "fps": fps}
    return (encoding.spool(run.folder, data, video.MEDIA_TYPE, **about),)
