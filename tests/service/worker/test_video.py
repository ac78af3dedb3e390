"""Videos as files."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.worker.video import frames_of, mp4


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """A bright square that goes to the right."""
    video = np.full((frames, height, width, 3), 30, np.uint8)
    for index in range(frames):
        left = (index * 3) % (width - 8)
        video[index, 4:12, left : left + 8] = (220, 180, 40)
    return video


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 30),
    height=st.integers(8, 40).map(lambda half: 2 * half),
    width=st.integers(8, 40).map(lambda half: 2 * half),
    fps=st.sampled_from([1, 8, 24, 24000 / 1001, 60]),
    comment=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3000),
)
def test_every_frame_comes_back_nearly_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, frames: int, height: int, width: int, fps: float, comment: str
) -> None:
    video = moving(frames, height, width)
    data = mp4(video, fps, comment)
    path = tmp_path_factory.mktemp("video") / "file"
    path.write_bytes(data)
    read, rate = frames_of(path, 1000, np.asarray)
    assert len(read) == frames
    assert rate == pytest.approx(fps, rel=1e-4)
    assert np.abs(np.stack(read).astype(int) - video).mean() < 8
    with av.open(io.BytesIO(data)) as container:
        assert container.metadata.get("comment", "") == comment


def test_the_index_stands_in_front() -> None:
    data = mp4(moving(300, 32, 32), 24, "x" * 50_000)
    assert data.index(b"moov") < data.index(b"mdat")
    assert data[4:8] == b"ftyp"


def test_only_as_many_frames_are_read_as_are_wanted(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("video") / "file"
    path.write_bytes(mp4(moving(12, 32, 32), 24, ""))
    assert len(frames_of(path, 5, np.asarray)[0]) == 5


def test_a_video_that_was_filmed_upright_comes_upright(tmp_path: Path) -> None:
    """A phone stores it lying, with a matrix that turns it."""
    lying = np.zeros((3, 32, 64, 3), np.uint8)
    lying[:, :, :32] = 255  # the left half, which is the upper one after a quarter turn clockwise
    one = 1 << 16
    straight, turned = (struct.pack(">9i", *m) for m in (
        (one, 0, 0, 0, one, 0, 0, 0, 1 << 30), (0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30),
    ))  # fmt: skip
    data = mp4(lying, 8, "")
    track = data.index(b"tkhd")
    path = tmp_path / "file"
    path.write_bytes(data[:track] + data[track:].replace(straight, turned, 1))
    (frame, *_), _ = frames_of(path, 3, np.asarray)
    assert frame.shape == (64, 32, 3)
    assert frame[:30].mean() > 200 > 50 > frame[34:].mean()
