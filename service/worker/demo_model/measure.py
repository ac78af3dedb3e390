"""How well the demo model draws what it is told: accuracy by attribute and class over a fixed grid.

The grid is every shape in every size and place (large ones in the middle only), each with its own pair of
colours and its own seed. Every sample counts; none is drawn again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from torch import Tensor

from service.worker.demo_model import WEIGHTS
from service.worker.demo_model.checker import ATTRIBUTES, Reading, rates_right, read_pictures
from service.worker.demo_model.grammar import describe
from service.worker.demo_model.shapes import COLOURS, PLACES, SHAPES, SIZES, Scene, draw, render
from service.worker.demo_model.sheet import contact_sheet

BATCH = 16
STEPS = 20
GUIDANCE = 2.0


def main() -> None:
    """Draw the grid, read every picture, print the rates."""
    arguments = _arguments()
    torch.set_num_threads(1)
    pipeline = load(arguments.weights)
    scenes = grid_scenes(arguments.rounds)
    started = time.process_time()
    pictures = generate(pipeline, [describe(scene) for scene in scenes], arguments.steps, arguments.guidance)
    print(f"{len(scenes)} pictures, {(time.process_time() - started) / len(scenes):.3f} CPU s each")
    if arguments.sheet:
        contact_sheet(pictures[:: arguments.rounds], columns=11, scale=2).save(arguments.sheet, optimize=True)
    readings = read_pictures(pictures)
    print(f"generated              {_line(rates_right(scenes, readings))}")
    _print_classes(scenes, readings)
    drawn = render(draw(scenes, torch.Generator().manual_seed(0)))
    print(f"drawn by the renderer  {_line(rates_right(scenes, read_pictures(drawn)))}")
    print(f"through the autoencoder {_line(rates_right(scenes, read_pictures(reconstruct(pipeline, drawn))))}")


def load(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in float32, from the folder alone; the network is never asked."""
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def grid_scenes(rounds: int) -> list[Scene]:
    """The 88 layouts, each `rounds` times in a row, with the 90 pairs of colours dealt out in turn."""
    layouts = [
        (shape, size, place)
        for shape, size, place in product(SHAPES, SIZES, PLACES)
        if size != "large" or place == "middle"
    ]
    pairs = list(permutations(COLOURS, 2))
    scenes = []
    for number, (shape, size, place) in enumerate(layout for layout in layouts for _ in range(rounds)):
        # 37 has no factor in common with 90, so each pair comes once in 90 scenes.
        colour, background = pairs[number * 37 % len(pairs)]
        scenes.append(Scene(shape, colour, background, size, place))
    return scenes


def generate(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], steps: int = STEPS, guidance: float = GUIDANCE
) -> Tensor:
    """A picture per prompt, the n-th from seed n: (prompts, 3, 64, 64) 0..1."""
    parts = []
    for start in range(0, len(prompts), BATCH):
        part = list(prompts[start : start + BATCH])
        seeds = [torch.Generator().manual_seed(start + index) for index in range(len(part))]
        made = pipeline(part, num_inference_steps=steps, guidance_scale=guidance, generator=seeds, output_type="pt")
        parts.append(made.images)
    return torch.cat(parts)


def reconstruct(pipeline: StableDiffusionPipeline, pictures: Tensor) -> Tensor:
    """Pictures sent through the encoder and the decoder: (batch, 3, 64, 64) 0..1."""
    with torch.no_grad():
        made = [pipeline.vae(part * 2 - 1).sample / 2 + 0.5 for part in pictures.split(BATCH)]
    return torch.cat(made).clamp(0, 1)


def _print_classes(scenes: Sequence[Scene], readings: Sequence[Reading]) -> None:
    for attribute in ATTRIBUTES:
        for value in dict.fromkeys(getattr(scene, attribute) for scene in scenes):
            rows = [index for index, scene in enumerate(scenes) if getattr(scene, attribute) == value]
            rates = rates_right([scenes[row] for row in rows], [readings[row] for row in rows])
            right, all_right = rates[attribute], rates["all"]
            print(f"  {attribute} {value} ({len(rows)}): {attribute} {right:.1%}, all five {all_right:.1%}")


def _line(rates: dict[str, float]) -> str:
    return "  ".join(f"{name} {rate:.1%}" for name, rate in rates.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the demo model over a fixed grid of prompts and seeds.")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder to measure (default: the package's)")
    parser.add_argument("--rounds", type=int, default=4, help="pictures of each of the 88 layouts (default 4)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"denoising steps (default {STEPS})")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help=f"guidance scale (default {GUIDANCE})")
    parser.add_argument("--sheet", type=Path, help="where to write a contact sheet of each layout's first picture")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
