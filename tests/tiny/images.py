"""Tiny picture pipelines: Stable Diffusion, SDXL, Stable Diffusion 3 and FLUX, 32 x 32 px unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import diffusers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from service.worker.demo_model.tokenizer import build_tokenizer
from tests.tiny.seeded import seeded

WORDS = ("a", "red", "blue", "green", "circle", "square", "star", "on", "the", "left", "large", "small")


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """One token for each of WORDS."""
    return build_tokenizer(WORDS, Path(mkdtemp(prefix="tiny-tokenizer-")))


def t5_tokenizer() -> T5Tokenizer:
    """One piece for each of WORDS, and single letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS] + [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def clip_config(**changed: Any) -> CLIPTextConfig:
    """A text encoder of two layers."""
    tokens = clip_tokenizer()
    return CLIPTextConfig(
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=tokens.model_max_length,
        projection_dim=32,
        **changed,
    )


def t5_encoder() -> T5EncoderModel:
    """A T5 encoder of one layer, width 32."""
    config = T5Config(
        vocab_size=len(t5_tokenizer()), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4, pad_token_id=0
    )
    return T5EncoderModel(config).eval()


def autoencoder(channels: int, **changed: Any) -> diffusers.AutoencoderKL:
    """8 pixels to a latent cell would need four levels; two are enough here."""
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=channels,
        sample_size=32,
        **changed,
    ).eval()


def unet(cross: int, in_channels: int = 4, **changed: Any) -> diffusers.UNet2DConditionModel:
    """A denoiser of two levels."""
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        **changed,
    ).eval()


def _sd() -> diffusers.StableDiffusionPipeline:
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(4),
        text_encoder=CLIPTextModel(clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        unet=unet(32, attention_head_dim=4),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> diffusers.StableDiffusionXLPipeline:
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(4),
        text_encoder=CLIPTextModel(clip_config()).eval(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            64,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=80,  # 6 * 8 + 32
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading"
        ),
    )


def _sd3() -> diffusers.StableDiffusion3Pipeline:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        ).eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(4, shift_factor=0.0609, scaling_factor=1.5),
        text_encoder=CLIPTextModelWithProjection(clip_config(hidden_act="gelu")).eval(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(hidden_act="gelu")).eval(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(),
        tokenizer_3=t5_tokenizer(),
    )


def _flux() -> diffusers.FluxPipeline:
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(1, shift_factor=0.0609, scaling_factor=1.5),
        text_encoder=CLIPTextModel(clip_config(hidden_act="gelu")).eval(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=True,
        ).eval(),
    )


PICTURES: Mapping[str, Callable[[], Any]] = {"sd": _sd, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux}
"""What builds each pipeline."""


def picture_pipeline(family: str) -> Any:
    """A pipeline of the family, always with the same weights."""
    pipe = seeded(PICTURES[family])
    pipe.set_progress_bar_config(disable=True)
    return pipe
