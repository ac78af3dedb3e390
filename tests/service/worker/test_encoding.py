from __future__ import annotations

import hashlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from service.tasks.pretend import Pretend
from service.tasks.text_to_image import TextToImage
from service.worker.encoding import picture, picture_texts, png, spool
from service.worker.failures import describe

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
    one, two = (spool(tmp_path, b"same", "image/png", width=8, height=6) for _ in range(2))
    assert one.digest == hashlib.sha256(b"same").hexdigest()
    assert (one.bytes, one.media_type, one.width, one.height) == (4, "image/png", 8, 6)
    assert one.name != two.name
    assert (tmp_path / one.name).read_bytes() == b"same"


def told(data: bytes) -> tuple[str, str]:
    """The two texts of a JPEG or WebP, read as other tools read them: EXIF by Pillow, XMP by an XML parser."""
    image = Image.open(io.BytesIO(data))
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment[:8] == b"UNICODE\0"
    packet = ElementTree.fromstring(image.info["xmp"].decode().replace("\x00", ""))
    (record,) = packet.iter("{urn:safelight:made#}record")
    assert record.text
    return comment[8:].decode("utf-16-be"), record.text


@pytest.mark.parametrize(("kind", "most_error"), [("jpeg", 2.0), ("webp", 4.0)])
def test_a_lossy_picture_is_close_and_says_how_it_was_made(kind: Any, most_error: float) -> None:
    x, y = np.meshgrid(np.arange(96), np.arange(64))
    pixels = np.stack([x * 2, y * 3, (x + y)], -1).astype(np.uint8)
    texts = picture_texts("j1", 2, "demo", PARAMS, (512, 256), "DDIM")
    data = picture(pixels, kind, texts)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size) == (kind.upper(), (96, 64))
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).mean() < most_error
    comment, record = told(data)
    assert comment == texts["parameters"]
    assert json.loads(record) == json.loads(texts["safelight"])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["jpeg", "webp"]), prompt=st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)
)
def test_any_prompt_comes_back_as_it_was(kind: Any, prompt: str) -> None:
    texts = picture_texts("j1", 1, "demo", msgspec.structs.replace(PARAMS, prompt=prompt), (8, 8), "DDIM")
    comment, record = told(picture(np.zeros((8, 8, 3), np.uint8), kind, texts))
    assert comment == texts["parameters"]
    assert json.loads(record)["params"]["prompt"] == prompt


@pytest.mark.parametrize("letter", ["🦊", "&", "\x01", "\ufffe"])
def test_the_longest_prompts_fit_into_a_jpeg(letter: str) -> None:
    params = msgspec.structs.replace(PARAMS, prompt=letter * 4000, negative_prompt=letter * 4000)
    comment, record = told(
        picture(np.zeros((8, 8, 3), np.uint8), "jpeg", picture_texts("j", 1, "m", params, (8, 8), "DDIM"))
    )
    assert comment.count(letter) == 8000
    assert json.loads(record)["params"]["prompt"] == letter * 4000


def test_a_disk_that_fills_is_a_failure_of_its_own(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with pytest.raises(OSError) as full:
            spool(tmp_path, b"x" * 200_000, "image/png")
        failure = describe(full.value, "exporting", Pretend())
        assert (failure.kind, "--spool" in failure.message) == ("disk-full", True)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
