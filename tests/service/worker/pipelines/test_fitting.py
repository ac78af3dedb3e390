"""Pictures that jobs start from, of every kind that is stored: opened as what they show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.pictures import read_picture
from service.tasks.catalog import EMBEDDED
from service.tasks.inpaint import Inpaint
from service.worker.run import Run
from tests.service.worker.engine.alone import in_engine

DIGEST = "0" * 64
GREY, WHITE, BLACK, RED = (128, 128, 128), (255, 255, 255), (0, 0, 0), (255, 0, 0)


def run(folder: Path) -> Run:
    params = Inpaint(
        prompt="x", seed=1, steps=1, guidance=1.0, width=64, height=64, image=DIGEST, mask=DIGEST
    )  # fmt: skip
    inputs = {"image": folder / "image", "mask": folder / "image"}
    return Run("j", 1, EMBEDDED["demo"], params, folder, lambda frame: None, lambda: False, inputs)


def opened(folder: Path, field: str = "image") -> np.ndarray:
    from service.worker.pipelines.fitting import mask_of, picture_of

    opening = picture_of if field == "image" else mask_of
    return np.asarray(in_engine(partial(opening, run(folder))))


def half_clear() -> Image.Image:
    """Red, and on the right transparent over whatever colour."""
    picture = Image.new("RGBA", (20, 10), (255, 0, 0, 255))
    picture.paste((0, 255, 0, 0), (10, 0, 20, 10))
    return picture


@pytest.mark.parametrize(
    ("picture", "kind", "left", "right"),
    [
        (lambda: Image.new("RGB", (20, 10), "red"), "PNG", RED, RED),
        (lambda: Image.new("L", (20, 10), 128), "PNG", GREY, GREY),
        (lambda: Image.new("1", (20, 10), 1), "PNG", WHITE, WHITE),
        (lambda: Image.new("RGB", (20, 10), "red").quantize(4), "PNG", RED, RED),
        (lambda: Image.fromarray(np.full((10, 20), 128 * 257, np.uint16)), "PNG", GREY, GREY),
        (lambda: Image.new("LA", (20, 10), (0, 0)), "PNG", WHITE, WHITE),
        (half_clear, "PNG", RED, WHITE),
        (half_clear, "WEBP", RED, WHITE),
        (lambda: Image.new("CMYK", (20, 10), (0, 255, 255, 0)), "JPEG", RED, RED),
        (lambda: Image.new("RGB", (20, 10), "red"), "MPO", RED, RED),
    ],
    ids=["rgb", "grey", "one bit", "palette", "16 bits", "clear grey", "clear", "clear webp", "cmyk", "phone"],
)
def test_a_picture_is_what_it_shows(
    tmp_path: Path, picture: Callable[[], Image.Image], kind: str, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    more: dict[str, Any] = {"WEBP": {"lossless": True}, "MPO": {"save_all": True, "append_images": [picture()]}}
    picture().save(tmp_path / "image", kind, **more.get(kind, {}))
    told = read_picture((tmp_path / "image").read_bytes())
    pixels = opened(tmp_path).astype(int)
    assert pixels.shape == (told.height, told.width, 3) == (10, 20, 3)
    assert np.abs(pixels[5, 5] - left).max() <= 4
    assert np.abs(pixels[5, 15] - right).max() <= 4


def test_what_is_transparent_in_a_mask_stays(tmp_path: Path) -> None:
    clear = Image.new("LA", (20, 10), (255, 255))
    clear.paste((255, 0), (10, 0, 20, 10))
    clear.save(tmp_path / "image", "PNG")
    mask = opened(tmp_path, "mask")
    assert mask.shape == (10, 20)
    assert (mask[5, 5], mask[5, 15]) == (255, 0)


def test_a_fitted_picture_keeps_its_shape_and_loses_its_rims() -> None:
    from service.worker.pipelines.fitting import fitted

    picture = Image.new("RGB", (300, 100), "blue")
    picture.paste((255, 0, 0), (100, 0, 200, 100))
    assert np.asarray(fitted(picture, 100, 100)).reshape(-1, 3).max(0).tolist() == [255, 0, 0]
    assert fitted(picture, 300, 100) is picture


def test_a_mask_stays_black_beside_its_edge_whatever_its_size() -> None:
    from service.worker.pipelines.fitting import fitted

    mask = Image.new("L", (100, 100))
    mask.paste(255, (50, 0, 100, 100))
    for side in (33, 77, 150, 512):
        scaled = np.asarray(fitted(mask, side, side))
        assert scaled[:, : round(side * 0.48)].max() == 0
        assert scaled[:, round(side * 0.53) :].min() == 255
