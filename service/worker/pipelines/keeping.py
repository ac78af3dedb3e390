"""Inpainting where diffusers has no class for it: what the mask leaves is put back after every step.

The method of Blended Latent Diffusion (arXiv 2206.02779), as diffusers' own inpainting does it; theirs refuses
every UNet that has neither 4 nor 9 channels.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from PIL import Image

THEIRS = (4, 9)  # channels of the UNets that diffusers inpaints with


def is_needed(pipe: Any) -> bool:
    """Whether diffusers' own inpainting would refuse the pipeline."""
    unet = getattr(pipe, "unet", None)
    return unet is not None and unet.config.in_channels not in THEIRS


def keep(pipe: Any, image: Image.Image, mask: Image.Image, seed: int) -> None:
    """Have every step of `pipe`, a job's own copy, leave `image` as it is where `mask` is black.

    `image` and `mask` have the size that is drawn; `seed` starts the noise that lies on what is kept.
    """
    scheduler, original = pipe.scheduler, pipe.scheduler.step
    known = _latents(pipe, image)  # (1, channels, height, width)
    noise = torch.randn(known.shape, generator=torch.Generator("cpu").manual_seed(seed)).to(known)
    is_new = _weights(mask, known)  # (1, 1, height, width), 1 where it is made anew

    @wraps(original)
    def step(output: Any, timestep: Any, sample: Any, *rest: Any, **named: Any) -> Any:
        made, *others = original(output, timestep, sample, *rest, **named)
        later = scheduler.timesteps[scheduler.timesteps < timestep][:1]  # of the step that follows; none at the end
        kept = scheduler.add_noise(known, noise, later) if len(later) else known
        return (is_new * made + (1 - is_new) * kept, *others)

    scheduler.step = step


def _latents(pipe: Any, image: Image.Image) -> Any:
    vae = pipe.vae
    pixels = pipe.image_processor.preprocess(image).to(vae.device, vae.dtype)  # (1, 3, height, width), -1..1
    encoded = retrieve_latents(vae.encode(pixels), sample_mode="argmax")
    return (encoded - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor


def _weights(mask: Image.Image, known: Any) -> Any:
    height, width = known.shape[-2:]
    small = np.asarray(mask.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    return torch.from_numpy(small)[None, None].to(known)
