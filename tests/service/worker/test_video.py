"""Videos as files."""

from __future__ import annotations

import io

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
    read, rate = frames_of(path, 1000)
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
    assert len(frames_of(path, 5)[0]) == 5
