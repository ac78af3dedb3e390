"""Train the demo model's autoencoder: the encoder towards the exact latents, the decoder back to pictures.

The two never see each other's gradients, so the latents stay what latents.py says, and the denoiser may be
trained before, beside or after. The decoder is trained on noisy latents and so learns to pull a wobbly
outline towards the nearest clean shape.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

from service.worker.demo_model.autoencoder import build_autoencoder
from service.worker.demo_model.training import Run, learned_parameters

AVERAGE_DECAY = 0.998
# The most noise added to a latent channel of spread 1. Sampling leaves about 0.2 in a cell, and smooth
# errors over a few cells, which are the wobble of an outline.
NOISE = 0.4
WOBBLE = 0.3


def main() -> None:
    """Train the encoder, then the decoder; a run that was ended goes on."""
    arguments = _arguments()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    autoencoder = build_autoencoder()
    train_encoder(autoencoder, arguments.encoder_steps, arguments.seed, arguments.scratch / "encoder.pt")
    train_decoder(autoencoder, arguments.decoder_steps, arguments.seed, arguments.scratch / "decoder.pt")


def train_encoder(autoencoder: AutoencoderTiny, steps: int, seed: int, checkpoint: Path) -> None:
    """Teaches the encoder the exact latents by their squared error."""
    run = Run(learned_parameters(autoencoder.encoder), steps, rate=2e-3, seed=seed, checkpoint=checkpoint)
    for batch in run.batches(size=8):
        latents = autoencoder.encode(batch.pictures * 2 - 1).latents  # (8, 10, 16, 16)
        run.learn(F.mse_loss(latents, batch.latents), AVERAGE_DECAY)
        _report("encoder", run)
    run.keep_averages()


def train_decoder(autoencoder: AutoencoderTiny, steps: int, seed: int, checkpoint: Path) -> None:
    """Teaches the decoder pictures from noisy latents: three in four exact, one in four from the encoder."""
    run = Run(learned_parameters(autoencoder.decoder), steps, rate=1e-3, seed=seed, checkpoint=checkpoint)
    for batch in run.batches(size=4):
        pictures = batch.pictures * 2 - 1  # (4, 3, 64, 64)
        latents = batch.latents.clone()  # (4, 10, 16, 16)
        with torch.no_grad():
            latents[:1] = autoencoder.encode(pictures[:1]).latents
        spoilt = latents + sampling_noise(latents.shape, run.generator)
        run.learn(picture_loss(autoencoder.decode(spoilt).sample, pictures), AVERAGE_DECAY)
        _report("decoder", run)
    run.keep_averages()


def sampling_noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise like a denoiser's errors, cell by cell and in patches: (batch, channels, 16, 16)."""
    batch, channels, height, width = shape
    cells, patches = torch.rand(2, batch, 1, 1, 1, generator=generator)
    fine = torch.randn(shape, generator=generator) * cells * NOISE
    coarse = torch.randn(batch, channels, height // 2, width // 2, generator=generator) * patches * WOBBLE
    return fine + F.interpolate(coarse, scale_factor=2, mode="bilinear")


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Absolute and squared error of the pictures, and absolute error of their gradients: sharper borders."""
    across = F.l1_loss(made.diff(dim=-1), wanted.diff(dim=-1))
    down = F.l1_loss(made.diff(dim=-2), wanted.diff(dim=-2))
    return F.l1_loss(made, wanted) + F.mse_loss(made, wanted) + 0.7 * (across + down)


def _report(part: str, run: Run) -> None:
    if run.step % 100 == 0:
        print(f"{part} step {run.step} loss {run.mean_loss:.4f} cpu {time.process_time():.0f} s", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model's autoencoder (a resumable run).")
    parser.add_argument("--scratch", type=Path, required=True, help="folder of encoder.pt and decoder.pt")
    parser.add_argument("--encoder-steps", type=int, default=20000, help="batches of 8 (default 20000)")
    parser.add_argument("--decoder-steps", type=int, default=12000, help="batches of 4 (default 12000)")
    parser.add_argument("--seed", type=int, default=1, help="start of all chance (default 1)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
