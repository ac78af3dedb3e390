"""Make the shipped folder of the averaged weights in the training checkpoints: half precision, no paths.

The folder holds what diffusers reads, and preview.json: the linear map from latents to colours for previews.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from transformers import CLIPTokenizer

from service.worker.demo_model import WEIGHTS
from service.worker.demo_model.autoencoder import build_autoencoder
from service.worker.demo_model.latents import CELL_PX
from service.worker.demo_model.shapes import draw_scenes
from service.worker.demo_model.train_denoiser import build_scheduler, build_text_encoder, build_unet
from service.worker.demo_model.training import Batch, learned_parameters, load_averages

Preview = dict[str, Any]  # matrix: channels rows of red, green, blue; bias: red, green, blue

# save_pretrained writes where a part was loaded from, which is a path of the training machine.
_MACHINE_KEYS = ("_name_or_path", "name_or_path", "local_files_only", "is_local")


def main() -> None:
    """Assemble, fit the preview's colours, write the folder."""
    parser = argparse.ArgumentParser(description="Make the shipped folder from the training checkpoints.")
    parser.add_argument("--scratch", type=Path, required=True, help="folder of the training runs' checkpoints")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to replace (default: the package's)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = assemble(arguments.scratch)
    preview, error = fit_preview(pipeline.vae)
    print(f"preview rms error {error:.4f} of 1")
    write(pipeline, preview, arguments.out)


def assemble(scratch: Path) -> StableDiffusionPipeline:
    """The pipeline of the averaged weights, float32."""
    tokenizer = CLIPTokenizer.from_pretrained(scratch / "tokenizer")
    autoencoder, unet, text_encoder = build_autoencoder(), build_unet(), build_text_encoder(tokenizer)
    load_averages(learned_parameters(autoencoder.encoder), scratch / "encoder.pt")
    load_averages(learned_parameters(autoencoder.decoder), scratch / "decoder.pt")
    load_averages(learned_parameters(unet, text_encoder), scratch / "denoiser.pt")
    return StableDiffusionPipeline(
        vae=autoencoder.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def fit_preview(autoencoder: AutoencoderTiny) -> tuple[Preview, float]:
    """The least-squares linear map from scaled latents to a cell's mean colour 0..1, and its rms error."""
    batch = Batch(draw_scenes(1024, random.Random(0)), torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = autoencoder.encode(batch.pictures * 2 - 1).latents * autoencoder.config.scaling_factor
    inputs = F.pad(latents.permute(0, 2, 3, 1).flatten(0, 2), (0, 1), value=1.0)  # (cells, channels + 1)
    colours = F.avg_pool2d(batch.pictures, CELL_PX).permute(0, 2, 3, 1).flatten(0, 2)  # (cells, 3)
    solution = torch.linalg.lstsq(inputs, colours).solution  # (channels + 1, 3)
    error = (inputs @ solution - colours).square().mean().sqrt().item()
    rounded = [[round(value, 4) for value in row] for row in solution.tolist()]
    return {"matrix": rounded[:-1], "bias": rounded[-1]}, error


def write(pipeline: StableDiffusionPipeline, preview: Preview, folder: Path) -> None:
    """Replaces the folder by the pipeline in half precision; a reader sees the old or the new one, whole."""
    fresh, stale = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    pipeline.to(torch.float16).save_pretrained(fresh)
    (fresh / "preview.json").write_text(json.dumps(preview, indent=1) + "\n")
    for config in fresh.rglob("*.json"):
        _forget_machine(config)
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)


def _forget_machine(config: Path) -> None:
    settings = json.loads(config.read_text())
    for key in _MACHINE_KEYS:
        settings.pop(key, None)
    config.write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":
    main()
