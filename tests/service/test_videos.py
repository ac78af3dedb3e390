"""What is taken for a video, and what is not, whatever the bytes are."""

from __future__ import annotations

import io
from contextlib import suppress

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.pictures import BadPicture, Picture
from service.videos import read_input, read_video
from service.worker.video import mp4

CLIP = mp4(np.zeros((5, 48, 64, 3), np.uint8), 8, "how it was made")


def sound_only() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def fragments() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def test_a_video_is_known_with_the_size_of_its_frames() -> None:
    assert read_input(CLIP) == Picture(media_type="video/mp4", width=64, height=48)


def test_a_video_in_fragments_is_one_too() -> None:
    assert read_video(fragments()).width == 32


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (CLIP[:-1], "is cut off before its end, or damaged"),
        (CLIP + b"x", "is cut off before its end, or damaged"),
        (CLIP[:32], "has no index or no frames"),
        (b"\0\0\0\x08ftyp", "has no index or no frames"),
        (sound_only(), "has no video track"),
        (b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 70_000, "more than 65536 boxes"),
    ],
)
def test_what_is_no_whole_video_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(BadPicture, match=says):
        read_video(data)


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, len(CLIP) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_video_never_breaks_the_reader(changes: list[tuple[int, int]]) -> None:
    data = bytearray(CLIP)
    for at, value in changes:
        data[at] = value
    with suppress(BadPicture):
        assert read_video(bytes(data)).media_type == "video/mp4"


@settings(max_examples=200, deadline=None)
@given(rest=st.binary(max_size=400))
def test_any_bytes_are_a_video_or_refused(rest: bytes) -> None:
    with pytest.raises(BadPicture):
        read_video(b"\0\0\0\x10ftypisom\0\0\0\0" + rest)
