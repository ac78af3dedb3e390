"""The embedded model draws what it is told, from its folder alone; its judge is a checker that can fail."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import msgspec  # noqa: E402

from service.worker.demo_model import WEIGHTS  # noqa: E402
from service.worker.demo_model.checker import rates_right, read_pictures, right_attributes  # noqa: E402
from service.worker.demo_model.grammar import WORDS, describe, vary  # noqa: E402
from service.worker.demo_model.latents import CELL_PX, CHANNELS, encode_drawing  # noqa: E402
from service.worker.demo_model.measure import generate, grid_scenes, load, reconstruct  # noqa: E402
from service.worker.demo_model.shapes import Scene, draw, draw_scenes, render  # noqa: E402
from service.worker.demo_model.tokenizer import TOKENS, build_tokenizer  # noqa: E402

# Measured on the shipped weights with the very pictures of these tests (docs/demo-model.md), less what another
# processor's rounding may change: all 176 of the grid right, 191 of 200 through the autoencoder.
GRID_ROUNDS = 2
THRESHOLDS = {"shape": 0.98, "colour": 0.99, "background": 0.99, "size": 0.99, "place": 0.99, "all": 0.98}
AUTOENCODER_THRESHOLD = 0.94
ENCODER_ERROR = 0.085  # rms; measured 0.074, of latents with a spread of about 1
PREVIEW_ERROR = 0.02  # rms of colours 0..1; measured 0.013


@pytest.fixture(scope="module")
def pipeline():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(WEIGHTS)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def drawn():
    """Two hundred scenes and the renderer's own pictures of them."""
    scenes = draw_scenes(200, random.Random(5))
    return scenes, render(draw(scenes, torch.Generator().manual_seed(5)))


def test_every_layout_of_the_grid_is_drawn_as_told(pipeline):
    scenes = grid_scenes(GRID_ROUNDS)
    pictures = generate(pipeline, [describe(scene) for scene in scenes])
    rates = rates_right(scenes, read_pictures(pictures))
    for name, least in THRESHOLDS.items():
        assert rates[name] >= least, f"{name}: {rates[name]:.3f}, measured when trained: see THRESHOLDS"


def test_a_picture_survives_the_autoencoder(pipeline, drawn):
    scenes, pictures = drawn
    rates = rates_right(scenes, read_pictures(reconstruct(pipeline, pictures)))
    assert rates["all"] >= AUTOENCODER_THRESHOLD


def test_the_same_seed_gives_the_same_picture(pipeline):
    prompts = ["a large red circle on a white background"]
    assert torch.equal(generate(pipeline, prompts, steps=4), generate(pipeline, prompts, steps=4))


def test_an_unknown_word_does_no_harm(pipeline):
    scenes = [scene for scene in grid_scenes(1) if scene.size == "large"]
    pictures = generate(pipeline, [f"{describe(scene)} qwzx" for scene in scenes])
    assert rates_right(scenes, read_pictures(pictures))["all"] >= 7 / 8


def test_a_prompt_far_outside_the_grammar_still_gives_a_picture(pipeline):
    prompt = "ein Foto von einem Hund 🐕, 8k, hyper-realistic, " * 20
    picture = generate(pipeline, [prompt], steps=4)
    assert picture.shape == (1, 3, 64, 64)
    assert bool(picture.isfinite().all())


def test_the_checker_reads_every_drawn_picture_right(drawn):
    scenes, pictures = drawn
    assert rates_right(scenes, read_pictures(pictures))["all"] >= 0.995


def test_the_checker_says_that_swapped_colours_are_wrong(drawn):
    scenes, _ = drawn
    swapped = [msgspec.structs.replace(scene, colour=scene.background, background=scene.colour) for scene in scenes]
    pictures = render(draw(swapped, torch.Generator().manual_seed(5)))
    rates = rates_right(scenes, read_pictures(pictures))
    assert rates["colour"] == rates["background"] == rates["all"] == 0.0
    assert rates["shape"] >= 0.995


@pytest.mark.parametrize(
    ("attribute", "other"),
    [("shape", "cross"), ("colour", "pink"), ("background", "black"), ("size", "medium"), ("place", "top")],
)
def test_the_checker_sees_one_wrong_attribute(attribute, other):
    told = Scene("star", "red", "blue", "small", "middle")
    shown = msgspec.structs.replace(told, **{attribute: other})
    (reading,) = read_pictures(render(draw([shown], torch.Generator().manual_seed(1))))
    assert [name for name, is_right in right_attributes(told, reading).items() if not is_right] == [attribute]


def test_the_checker_finds_no_shape_in_noise():
    noise = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert max(reading.overlap for reading in read_pictures(noise)) < 0.6


def test_each_word_of_the_grammar_is_one_token(pipeline):
    many = [word for word in WORDS if len(pipeline.tokenizer(word).input_ids) != 3]
    assert many == []


def test_every_phrasing_fits_the_tokens(pipeline):
    rng = random.Random(0)
    prompts = [vary(scene, rng) for scene in draw_scenes(1000, rng)]
    assert max(len(pipeline.tokenizer(prompt, truncation=False).input_ids) for prompt in prompts) <= TOKENS


def test_the_shipped_tokenizer_is_the_one_the_code_builds(pipeline, tmp_path):
    built = build_tokenizer(WORDS, tmp_path)
    assert built.get_vocab() == pipeline.tokenizer.get_vocab()
    prompt = "a small cyan heart on an orange background, left zzq"
    assert built(prompt).input_ids == pipeline.tokenizer(prompt).input_ids


def test_the_encoder_finds_the_exact_latents(pipeline):
    drawing = draw(draw_scenes(64, random.Random(3)), torch.Generator().manual_seed(3))
    pictures = render(drawing)
    with torch.no_grad():
        found = pipeline.vae.encode(pictures * 2 - 1).latents
    assert (found - encode_drawing(drawing, pictures)).square().mean().sqrt() < ENCODER_ERROR


def test_the_preview_map_shows_the_picture(pipeline, drawn):
    _, pictures = drawn
    preview = json.loads((WEIGHTS / "preview.json").read_text())
    matrix, bias = torch.tensor(preview["matrix"]), torch.tensor(preview["bias"])
    assert matrix.shape == (CHANNELS, 3)
    with torch.no_grad():
        latents = pipeline.vae.encode(pictures * 2 - 1).latents * pipeline.vae.config.scaling_factor
    shown = torch.einsum("bchw,cr->brhw", latents, matrix) + bias[:, None, None]
    wanted = torch.nn.functional.avg_pool2d(pictures, CELL_PX)
    assert (shown - wanted).square().mean().sqrt() < PREVIEW_ERROR


def test_the_weights_stay_small():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 10_000_000


def test_no_config_knows_the_training_machine():
    for path in WEIGHTS.rglob("*.json"):
        text = path.read_text()
        for trace in ("_name_or_path", "/work", "/home", "/root", "/tmp", str(Path.home())):
            assert trace not in text, f"{path.name} holds {trace}"
