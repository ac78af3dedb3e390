"""A tiny Stable Diffusion x4 upscaler."""

from __future__ import annotations

import diffusers
from transformers import CLIPTextModel

from tests.tiny.images import autoencoder, clip_config, clip_tokenizer, unet
from tests.tiny.seeded import seeded


def upscaler() -> diffusers.StableDiffusionUpscalePipeline:
    """A pipeline that makes pictures four times as wide and high, always with the same weights."""
    pipe = seeded(_upscaler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _upscaler() -> diffusers.StableDiffusionUpscalePipeline:
    return diffusers.StableDiffusionUpscalePipeline(
        vae=autoencoder(4),
        text_encoder=CLIPTextModel(clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        unet=unet(32, attention_head_dim=4, in_channels=7, num_class_embeds=1000),
        low_res_scheduler=diffusers.DDPMScheduler(),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
        max_noise_level=350,
    )
