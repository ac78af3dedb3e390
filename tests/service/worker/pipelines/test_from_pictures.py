"""The tasks that start from pictures, in this process: the embedded model, and tiny pipelines of other families."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from service.tasks.image_to_image import ImageToImage
from service.tasks.inpaint import Inpaint
from service.tasks.task import Params
from service.tasks.text_to_image import TextToImage
from service.tasks.upscale import Upscale
from service.worker.failures import InvalidInput
from service.worker.models import ModelMissing
from service.worker.run import Cancelled
from tests.service.worker.pipelines.desk import DEMO, Desk

FAMILIES = ("sd", "sdxl", "sd3", "flux")
DIGEST = "0" * 64
DRAWN: dict[str, Any] = {
    "prompt": "a large red circle on a blue background",
    "seed": 5,
    "steps": 6,
    "guidance": 2.0,
}


@pytest.fixture(scope="module")
def demo() -> Any:
    from service.worker.pipelines.loading import load

    return load(DEMO, "cpu", 1)


@pytest.fixture(scope="module")
def tiny() -> Callable[[str], Any]:
    """A tiny pipeline of a family, as it is when loaded."""
    from service.worker.pipelines.loading import Loaded
    from tests.tiny.images import picture_pipeline

    return lambda family: Loaded(picture_pipeline(family), "cpu", "float32", None)


def circle(width: int = 512, height: int = 512, ink: str = "red", paper: str = "blue") -> Image.Image:
    picture = Image.new("RGB", (width, height), paper)
    ImageDraw.Draw(picture).ellipse((width * 0.15, height * 0.15, width * 0.85, height * 0.85), fill=ink)
    return picture


def right_half(width: int = 512, height: int = 512) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, (width // 2, 0, width, height))
    return mask


def image_params(**changed: Any) -> ImageToImage:
    return ImageToImage(**{**DRAWN, "width": 512, "height": 512, "image": DIGEST, **changed})


def inpaint_params(**changed: Any) -> Inpaint:
    return Inpaint(**{**DRAWN, "width": 512, "height": 512, "image": DIGEST, "mask": DIGEST, **changed})


def test_little_strength_keeps_the_picture_and_much_makes_the_prompts(demo: Any, tmp_path: Path) -> None:
    circle().save(tmp_path / "image", "PNG")
    asked = {"prompt": "a large green circle on a yellow background", "steps": 12}
    kept = Desk(tmp_path, image_params(**asked, strength=0.1), model=DEMO).made(demo)
    anew = Desk(tmp_path, image_params(**asked, strength=1.0), model=DEMO).made(demo)
    assert kept.shape == anew.shape == (512, 512, 3)
    assert kept[256, 256, 0] > 150 > kept[256, 256, 1], "still red"
    assert anew[256, 256, 1] > anew[256, 256, 0], "green"
    assert anew[20, 20, 0] > 150 > anew[20, 20, 2], "on yellow"


def test_what_the_mask_leaves_is_the_same_to_the_pixel(demo: Any, tmp_path: Path) -> None:
    before = circle()
    before.save(tmp_path / "image", "PNG")
    right_half().save(tmp_path / "mask", "PNG")
    asked = inpaint_params(prompt="a large yellow square on a green background", steps=12)
    after = Desk(tmp_path, asked, model=DEMO).made(demo)
    assert np.array_equal(after[:, :256], np.asarray(before)[:, :256])
    assert after[256, 300, 0] > 150 < after[256, 300, 1], "a yellow square"
    assert after[20, 490, 1] > 100 > after[20, 490, 0], "on green"


@pytest.mark.parametrize("strength", [0.01, 0.35, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_progress_counts_the_steps_that_are_run(
    tiny: Callable[[str], Any], tmp_path: Path, family: str, strength: float
) -> None:
    circle(32, 32).save(tmp_path / "image", "PNG")
    params = image_params(width=64, height=64, steps=7, strength=strength)
    desk = Desk(tmp_path, params)
    desk.made(tiny(family))
    steps = max(1, round(7 * strength))
    assert desk.steps[0] == (0, steps)
    assert desk.steps[-1] == (steps, steps)
    assert desk.phases == [phase for phase in ImageToImage.PHASES if phase not in ("loading_model", "exporting")]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_loaded_model_does_every_task_and_none_disturbs_the_other(
    tiny: Callable[[str], Any], tmp_path: Path, family: str
) -> None:
    loaded = tiny(family)
    circle(64, 64).save(tmp_path / "image", "PNG")
    right_half(64, 64).save(tmp_path / "mask", "PNG")
    size = {"width": 64, "height": 64, "steps": 3}
    text = TextToImage(**{**DRAWN, **size})
    drawn = Desk(tmp_path, text).made(loaded)
    changed = Desk(tmp_path, image_params(**size)).made(loaded)
    if family == "sd3":  # the inpainting of diffusers wants the 16 channels of the real one
        return
    filled = Desk(tmp_path, inpaint_params(**size)).made(loaded)
    assert not np.array_equal(changed, drawn)
    assert np.array_equal(filled[:, :32], np.asarray(circle(64, 64))[:, :32])
    assert np.array_equal(Desk(tmp_path, image_params(**size)).made(loaded), changed)
    assert np.array_equal(Desk(tmp_path, text).made(loaded), drawn)


@pytest.mark.parametrize("family", ["sd", "sdxl", "flux"])
def test_jobs_of_every_task_share_calls_and_make_the_pictures_they_make_alone(
    tiny: Callable[[str], Any], tmp_path: Path, family: str
) -> None:
    from service.worker.engine.engine import Engine
    from tests.service.worker.engine.test_pictures import Eager, is_same

    loaded = tiny(family)
    circle(64, 64).save(tmp_path / "image", "PNG")
    right_half(64, 64).save(tmp_path / "mask", "PNG")
    size = {"width": 64, "height": 64}
    asked = [
        TextToImage(**{**DRAWN, **size}),
        image_params(**size, strength=0.5, seed=8),
        inpaint_params(**size, steps=4),
        image_params(**size, strength=1.0, prompt="a blue star"),
    ]
    alone = [Desk(tmp_path, params).made(loaded) for params in asked]
    engine, desks = Engine(Eager()), [Desk(tmp_path, params) for params in asked]
    members = [engine.join(partial(desk.compute, loaded)) for desk in desks]
    while len(engine):
        engine.tick()
    assert [member.error for member in members] == [None] * 4
    together = [desk.exported(member.result) for desk, member in zip(desks, members, strict=True)]
    assert all(map(is_same, together, alone))
    assert all(max(member.shared) > 2 for member in members)


@pytest.mark.parametrize("kind", [image_params, inpaint_params])
def test_a_cancel_lands_within_a_step_and_leaves_the_pipeline_as_it_was(
    demo: Any, tmp_path: Path, kind: Callable[..., Params]
) -> None:
    circle().save(tmp_path / "image", "PNG")
    right_half().save(tmp_path / "mask", "PNG")
    before = Desk(tmp_path, kind(), model=DEMO).made(demo)
    desk = Desk(tmp_path, kind(steps=50), model=DEMO, halt_at=0)
    with pytest.raises(Cancelled):
        desk.made(demo)
    assert desk.run.step == 0
    assert np.array_equal(Desk(tmp_path, kind(), model=DEMO).made(demo), before)


def test_a_model_that_edits_is_given_picture_and_prompt_alone(tiny: Callable[[str], Any], tmp_path: Path) -> None:
    import diffusers

    from service.worker.pipelines.loading import Loaded

    pipe = diffusers.FluxKontextPipeline(**tiny("flux").pipe.components)
    pipe.set_progress_bar_config(disable=True)
    loaded = Loaded(pipe, "cpu", "float32", None)
    circle(64, 64).save(tmp_path / "image", "PNG")
    desk = Desk(tmp_path, image_params(width=64, height=64, steps=3, strength=0.4))
    assert desk.made(loaded).shape == (64, 64, 3)
    assert desk.steps[-1] == (3, 3), "it begins from noise: every step is run"


def test_guidance_is_felt_whatever_the_class_calls_it(tiny: Callable[[str], Any], tmp_path: Path) -> None:
    """A FLUX that is not distilled, as Qwen-Image: guidance is its true_cfg_scale."""
    loaded = tiny("flux")
    bare = {**loaded.pipe.transformer.config, "guidance_embeds": False}
    loaded.pipe.transformer = type(loaded.pipe.transformer).from_config(bare).eval()
    circle(64, 64).save(tmp_path / "image", "PNG")

    def drawn(**changed: Any) -> np.ndarray:
        return Desk(tmp_path, image_params(width=64, height=64, strength=1.0, **changed)).made(loaded)

    unguided, guided = drawn(guidance=1.0), drawn(guidance=4.0)
    assert not np.array_equal(guided, unguided)
    assert not np.array_equal(guided, drawn(guidance=4.0, negative_prompt="a blue square"))


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_any_model_that_begins_from_pictures_makes_them_larger(
    tiny: Callable[[str], Any], tmp_path: Path, family: str
) -> None:
    circle(40, 24).save(tmp_path / "image", "PNG")
    params = Upscale(**{**DRAWN, "image": DIGEST, "factor": 3, "strength": 0.2})
    assert Desk(tmp_path, params).made(tiny(family)).shape == (72, 120, 3)


def test_an_upscaler_does_it_its_own_way(tmp_path: Path) -> None:
    from service.worker.pipelines.loading import Loaded
    from tests.tiny.upscaler import upscaler

    circle(32, 16).save(tmp_path / "image", "PNG")
    loaded = Loaded(upscaler(), "cpu", "float32", None)
    for factor in (2, 4):
        desk = Desk(tmp_path, Upscale(**{**DRAWN, "image": DIGEST, "factor": factor}))
        assert desk.made(loaded).shape == (16 * factor, 32 * factor, 3)
        assert desk.steps[-1] == (6, 6)


def test_a_class_without_relatives_says_so(tmp_path: Path) -> None:
    from service.worker.pipelines.loading import Loaded
    from tests.tiny.upscaler import upscaler

    circle(32, 32).save(tmp_path / "image", "PNG")
    right_half(32, 32).save(tmp_path / "mask", "PNG")
    loaded = Loaded(upscaler(), "cpu", "float32", None)
    with pytest.raises(ModelMissing, match="take this task out of its catalogue entry"):
        Desk(tmp_path, inpaint_params(width=64, height=64)).made(loaded)


def test_a_picture_with_damaged_pixels_is_named(demo: Any, tmp_path: Path) -> None:
    Image.effect_noise((512, 512), 90).save(tmp_path / "image", "PNG")
    whole = bytearray((tmp_path / "image").read_bytes())
    whole[5000:9000] = bytes(4000)
    (tmp_path / "image").write_bytes(whole)
    with pytest.raises(InvalidInput, match=r"params\.image cannot be opened") as raised:
        Desk(tmp_path, image_params(), model=DEMO).made(demo)
    assert str(tmp_path) not in str(raised.value)
