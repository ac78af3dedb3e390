from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from service.worker.previews import LatentMap, jpeg, latent_map, picture


def test_a_folders_map_gives_the_colours() -> None:
    colours = LatentMap(matrix=[(1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 0)], bias=(0.0, 0.0, 1.0))
    latents = np.zeros((4, 2, 3))
    latents[0], latents[1] = 0.5, 9.0
    assert picture(latents, colours).tolist() == [[[128, 255, 255]] * 3] * 2


@pytest.mark.parametrize("channels", [1, 3, 4, 16])
def test_without_a_map_any_latents_give_a_full_range_picture(channels: int) -> None:
    latents = np.random.default_rng(0).normal(size=(channels, 8, 6))
    pixels = picture(latents, None)
    assert pixels.shape == (8, 6, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_latents_that_are_no_numbers_still_give_a_picture() -> None:
    assert picture(np.full((4, 2, 2), np.nan), LatentMap(matrix=[(1, 1, 1)] * 4)).max() == 0


@pytest.mark.parametrize(
    ("width", "height", "size"), [(8, 8, (256, 256)), (128, 64, (256, 128)), (600, 1, (256, 1))]
)
def test_a_jpeg_has_its_longest_side_at_256_px(width: int, height: int, size: tuple[int, int]) -> None:
    data, *told = jpeg(np.zeros((height, width, 3), np.uint8))
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    assert image.size == size == tuple(told)


def test_a_jpeg_of_noise_stays_below_the_protocols_64_kib() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert len(jpeg(noise)[0]) < 64 << 10


def test_a_folder_may_have_no_map_or_a_broken_one(tmp_path: Path) -> None:
    assert latent_map(tmp_path) is None
    (tmp_path / "preview.json").write_text('{"matrix": "none"}')
    with pytest.raises(msgspec.ValidationError):
        latent_map(tmp_path)
