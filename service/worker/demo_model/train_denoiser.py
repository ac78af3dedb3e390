"""Train the demo model's text encoder and UNet together, from scratch, on exact latents.

v-prediction with zero terminal signal-to-noise, without which no flat background comes out in its colour.
At first the loss looks at strong noise, where colours, place and shape are decided; later also at weak noise,
where outlines get clean.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from service.worker.demo_model.grammar import WORDS, describe, vary
from service.worker.demo_model.latents import BORDER, CELLS, CHANNELS, SCALING
from service.worker.demo_model.shapes import Scene
from service.worker.demo_model.tokenizer import TOKENS, build_tokenizer
from service.worker.demo_model.training import Run, learned_parameters

TEXT_WIDTH = 64
BATCH = 32
AVERAGE_DECAY = 0.998
EMPTY_SHARE = 0.10  # of prompts, for classifier-free guidance
PLAIN_SHARE = 0.30  # of the others, said as describe() says them
TIMESTEPS = 1000
DECIDING_SHARE = 0.4  # of the steps, with the loss on strong noise


def main() -> None:
    """Train both networks; a run that was ended goes on."""
    arguments = _arguments()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    tokenizer = build_tokenizer(WORDS, arguments.scratch / "tokenizer")
    train_denoiser(tokenizer, arguments.steps, arguments.seed, arguments.scratch / "denoiser.pt")


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIP text model of two layers, 64 wide."""
    end = tokenizer.eos_token_id
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = CLIPTextModel(config)
    # CLIP's own 0.02 is meant for width 512 and learns slowly at 64.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.3)
    return model


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet: plain convolutions at 16x16 and 8x8 cells, words attended to at 4x4."""
    return UNet2DConditionModel(
        sample_size=CELLS,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(24, 64, 96),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=8,
    )


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of training and sampling, with zero terminal signal-to-noise."""
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,  # of no effect with trailing spacing; 0 makes diffusers warn
    )


def train_denoiser(tokenizer: CLIPTokenizer, steps: int, seed: int, checkpoint: Path) -> None:
    """Trains both networks; what they learnt is the averages in the checkpoint."""
    text_encoder, unet, scheduler = build_text_encoder(tokenizer), build_unet(), build_scheduler()
    text_encoder.train()
    run = Run(learned_parameters(unet, text_encoder), steps, rate=1.5e-3, seed=seed, checkpoint=checkpoint)
    for batch in run.batches(BATCH):
        prompts = [draw_prompt(scene, run.rng) for scene in batch.scenes]
        words = text_encoder(tokenize(tokenizer, prompts))[0]  # (32, 24, 64)
        timesteps = draw_timesteps(BATCH, run.generator, in_middle=run.step % 2 == 1)
        latents = batch.latents * SCALING  # (32, 10, 16, 16)
        noise = torch.randn(latents.shape, generator=run.generator)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        velocity = scheduler.get_velocity(latents, noise, timesteps)
        variances = 1 - scheduler.alphas_cumprod[timesteps]  # (32,) of the noise, 0..1
        weights = variances if run.step < DECIDING_SHARE * steps else variances.sqrt()
        loss = velocity_loss(unet(noisy, timesteps, words).sample, velocity, weights)
        run.learn(loss, AVERAGE_DECAY)
        if run.step % 100 == 0:
            print(f"step {run.step} loss {run.mean_loss:.4f} cpu {time.process_time():.0f} s", flush=True)


def draw_prompt(scene: Scene, rng: random.Random) -> str:
    """A prompt for the scene: mostly varied, sometimes plain, sometimes empty."""
    if rng.random() < EMPTY_SHARE:
        return ""
    return describe(scene) if rng.random() < PLAIN_SHARE else vary(scene, rng)


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Token ids padded to the fixed length: (batch, 24) int64."""
    return tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def draw_timesteps(count: int, generator: torch.Generator, in_middle: bool) -> Tensor:
    """One noise level of each count-th part of 0..999, even or crowded in the middle: (count,) int64."""
    parts = torch.randperm(count, generator=generator)
    share = (parts + torch.rand(count, generator=generator)) / count  # (count,) 0..1
    if in_middle:  # half of these lie above level 655
        share = torch.special.ndtr(torch.special.ndtri(share.clamp(1e-4, 1 - 1e-4)) * 0.6 + 0.4)
    return (share * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)


def velocity_loss(made: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Squared error of the velocities with a weight per sample, in which the border counts for four channels.

    Outlines are harder than colours. Weighted by the noise's variance this is the error of the clean latents.
    """
    errors = (made - wanted).square().mean((2, 3)) * weights[:, None]  # (batch, 10)
    means = errors.mean(0) / SCALING**2  # (10,)
    return (means.sum() + 3 * means[BORDER].sum()) / (CHANNELS + 3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model's text encoder and UNet (a resumable run).")
    parser.add_argument("--scratch", type=Path, required=True, help="folder of the run's checkpoint, denoiser.pt")
    parser.add_argument("--steps", type=int, default=16000, help="batches of 32 (default 16000)")
    parser.add_argument("--seed", type=int, default=2, help="start of all chance (default 2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
