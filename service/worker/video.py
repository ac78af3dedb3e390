"""Videos as files: H.264 in MP4, which every browser plays, and the frames of a file that a client sent."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from service.worker.failures import InvalidInput

MEDIA_TYPE = "video/mp4"

T = TypeVar("T")

# 4 ms of CPU a frame of 832 x 480 px; "medium" takes three times as long for a third of a decibel (docs/worker.md)
ENCODER = "libx264"
OPTIONS = {"preset": "veryfast", "crf": "18"}


def mp4(frames: NDArray[np.uint8], fps: float, record: str) -> bytes:
    """An MP4 of `frames` (frames, height, width, 3), sides even; `record` is its comment."""
    count, height, width, channels = frames.shape
    assert (channels, width % 2, height % 2) == (3, 0, 0), f"{frames.shape} is no RGB video with even sides"
    out = io.BytesIO()
    # room in front for the index, so that a browser can begin before it has the whole file
    index_bytes = 8192 + len(record.encode()) + 64 * count
    with av.open(out, "w", format="mp4", options={"moov_size": str(index_bytes)}) as container:
        container.metadata["comment"] = record
        stream: Any = container.add_stream(ENCODER, rate=_exact(fps), options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def _exact(fps: float) -> Fraction:
    """The rate as MP4 keeps it: 23.976 is 24000/1001."""
    return Fraction(fps).limit_denominator(1001)


def frames_of(path: Path, most: int, each: Callable[[NDArray[Any]], T]) -> tuple[list[T], float]:
    """What `each` makes of the first frames of a video, at most `most`, and its frames a second.

    A frame is (height, width, 3) uint8, turned as the file says. Raises InvalidInput.
    """
    frames: list[T] = []
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            for frame in container.decode(stream):
                picture = frame.to_ndarray(format="rgb24")
                frames.append(each(np.rot90(picture, round(frame.rotation / 90))))
                if len(frames) == most:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise InvalidInput(
            f"the input is no video that can be decoded ({type(error).__name__}); send MP4"
        ) from error
    if not frames or not rate:
        raise InvalidInput(f"the video has {len(frames)} frames at {rate} a second; send one that plays")
    return frames, float(rate)
