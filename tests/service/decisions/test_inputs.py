"""Pictures that jobs start from: which size comes of them, and which are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decisions.inputs import check_inputs, sized
from service.pictures import Picture
from service.refusals import InvalidField
from service.tasks.catalog import Model
from service.tasks.image_to_image import ImageToImage
from service.tasks.inpaint import Inpaint
from service.tasks.text_to_image import TextToImage
from service.tasks.upscale import Upscale
from service.tasks.video_to_video import VideoToVideo

A, B = "a" * 64, "b" * 64
COMMON: dict[str, Any] = {"prompt": "x", "seed": 1, "steps": 4, "guidance": 1.0}
FREE = Model(id="free", tasks=("image-to-image",), title="", source=None)
SDXL = Model(id="sdxl", tasks=("image-to-image",), title="", source=None, defaults={"width": 1024, "height": 1024})
FIXED = Model(
    id="fixed", tasks=("image-to-image",), title="", source=None, sizes=((512, 512), (768, 512), (512, 768))
)


def picture(width: int, height: int) -> Picture:
    return Picture(media_type="image/png", width=width, height=height)


def size(model: Model, given: tuple[int, int], said: dict[str, int] | None = None) -> tuple[Any, Any]:
    found = sized(ImageToImage, model, {"image": A, **(said or {})}, {A: picture(*given)})
    return found.get("width"), found.get("height")


@pytest.mark.parametrize(
    ("model", "given", "wanted"),
    [
        (FREE, (800, 600), (800, 608)),
        (FREE, (8000, 6000), (1184, 880)),
        (SDXL, (1024, 1024), (1024, 1024)),
        (SDXL, (4032, 3024), (1184, 880)),
        (SDXL, (300, 200), (304, 192)),
        (SDXL, (20, 10), (64, 64)),
        (FIXED, (1000, 990), (512, 512)),
        (FIXED, (1920, 1080), (768, 512)),
        (FIXED, (1080, 1920), (512, 768)),
    ],
)
def test_the_result_has_the_size_of_the_picture_as_the_model_can_draw_it(
    model: Model, given: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert size(model, given) == wanted


@given(st.integers(1, 16_000), st.integers(1, 16_000))
def test_a_size_is_always_one_that_a_model_can_draw(width: int, height: int) -> None:
    drawn_width, drawn_height = size(SDXL, (width, height))
    assert drawn_width % 16 == drawn_height % 16 == 0
    assert 64 <= min(drawn_width, drawn_height) <= max(drawn_width, drawn_height) <= 4096
    if 1 / 4 <= width / height <= 4 and min(width, height) >= 64:
        assert drawn_width * drawn_height <= 1024 * 1024 * 1.05
        assert abs(math.log(drawn_width / drawn_height * height / width)) < math.log(1.3)


@pytest.mark.parametrize("said", [{"width": 512, "height": 256}, {"width": 512}, {"height": 256}])
def test_a_size_that_was_asked_for_stays(said: dict[str, int]) -> None:
    assert size(SDXL, (800, 600), said) == (said.get("width"), said.get("height"))


@pytest.mark.parametrize("image", [None, B, 3, ["x"], {"a": "b"}])
def test_without_a_stored_picture_nothing_is_filled_in(image: object) -> None:
    params = {"image": image}
    assert sized(ImageToImage, SDXL, params, {A: picture(800, 600)}) == params


def test_a_task_without_pictures_is_left_alone() -> None:
    assert sized(TextToImage, SDXL, {"image": A}, {A: picture(800, 600)}) == {"image": A}
    check_inputs(TextToImage(**COMMON, width=512, height=512), {})


FILM = Picture(media_type="video/mp4", width=64, height=48)


def refusal(params: Any, **pictures: Picture) -> str:
    with pytest.raises(InvalidField) as raised:
        check_inputs(params, {{"a": A, "b": B}[name]: found for name, found in pictures.items()})
    return str(raised.value)


def test_what_cannot_be_started_from_is_named_with_its_field() -> None:
    image = ImageToImage(**COMMON, width=512, height=512, image=A)
    inpaint = Inpaint(**COMMON, width=512, height=512, image=A, mask=B)
    upscale = Upscale(**COMMON, image=A, factor=4)
    film = VideoToVideo(**COMMON, width=512, height=512, video=A, frames=9)
    assert "params.image: no image aaaa" in refusal(image, b=picture(9, 9))
    assert "params.mask: no mask bbbb" in refusal(inpaint, a=picture(9, 9))
    assert "params.mask: it has 9 x 8 px and the image 9 x 9" in refusal(inpaint, a=picture(9, 9), b=picture(9, 8))
    assert "params.factor: 4 times 1025 x 10 px is more than 4096" in refusal(upscale, a=picture(1025, 10))
    assert f"params.image: {A} is video/mp4; name a stored image" in refusal(image, a=FILM)
    assert f"params.video: {A} is image/png; name a stored video" in refusal(film, a=picture(9, 9))
    check_inputs(film, {A: FILM})
    check_inputs(inpaint, {A: picture(9, 9), B: picture(9, 9)})
    check_inputs(upscale, {A: picture(1024, 10)})
