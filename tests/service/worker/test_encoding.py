from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.tasks.text_to_image import TextToImage
from service.worker.encoding import picture_texts, png, spool

PARAMS = TextToImage(prompt="a fox", negative_prompt="blur", seed=9, steps=20, guidance=4.5, width=512, height=256)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_png_is_pixel_exact(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(png(pixels, {}))))
    assert np.array_equal(decoded, pixels)


def test_a_png_has_one_data_chunk_and_the_filter_up() -> None:
    import zlib

    pixels = np.zeros((600, 600, 3), np.uint8)
    data = png(pixels, {})
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start])
    rows = zlib.decompress(data[start + 4 : start + 4 + length])
    assert data.count(b"IDAT") == 1
    assert set(rows[:: 1 + 600 * 3]) == {2}


def test_a_smooth_picture_becomes_small() -> None:
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    pixels = np.repeat(ramp[:, None], 512, 1)[..., None].repeat(3, 2)
    assert len(png(pixels, {})) < pixels.nbytes / 50


@pytest.mark.parametrize("text", ["plain", "grün\nzwei", "狐 🦊", ""])
def test_text_chunks_come_back_as_they_were(text: str) -> None:
    data = png(np.zeros((2, 2, 3), np.uint8), {"parameters": text, "safelight": "{}"})
    image = Image.open(io.BytesIO(data))
    image.verify()  # checks every chunk's checksum
    assert dict(image.info) == {"parameters": text, "safelight": "{}"}


def test_parameters_are_written_as_picture_tools_write_them() -> None:
    texts = picture_texts("j1", 2, "demo", PARAMS, (512, 256), "DDIM")
    assert texts["parameters"] == (
        "a fox\nNegative prompt: blur\n"
        "Steps: 20, Sampler: DDIM, CFG scale: 4.5, Seed: 9, Size: 512x256, Model: demo"
    )


def test_the_safelight_chunk_holds_what_makes_the_picture_again() -> None:
    ours = json.loads(picture_texts("j1", 2, "demo", PARAMS, (512, 256), "DDIM")["safelight"])
    assert (ours["job"], ours["attempt"], ours["task"], ours["model"]) == ("j1", 2, "text-to-image", "demo")
    assert TextToImage(**ours["params"]) == PARAMS


def test_a_spooled_file_is_described_by_its_bytes(tmp_path: Path) -> None:
    one, two = (spool(tmp_path, b"same", "image/png", 8, 6) for _ in range(2))
    assert one.digest == hashlib.sha256(b"same").hexdigest()
    assert (one.bytes, one.media_type, one.width, one.height) == (4, "image/png", 8, 6)
    assert one.name != two.name
    assert (tmp_path / one.name).read_bytes() == b"same"
