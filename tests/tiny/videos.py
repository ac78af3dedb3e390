"""Tiny video pipelines: Wan 2.1, Wan 2.2 with its two denoisers, LTX; and a Cosmos to be loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

from tests.tiny.images import t5_encoder, t5_tokenizer
from tests.tiny.seeded import seeded


def _wan_denoiser() -> diffusers.WanTransformer3DModel:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    ).eval()


def _wan_parts() -> dict[str, Any]:
    return {
        "tokenizer": t5_tokenizer(),
        "text_encoder": t5_encoder(),
        "vae": diffusers.AutoencoderKLWan(
            base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
        ).eval(),
        "scheduler": diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


def _wan() -> diffusers.WanPipeline:
    return diffusers.WanPipeline(transformer=_wan_denoiser(), **_wan_parts())


def _wan_two_denoisers() -> diffusers.WanPipeline:
    return diffusers.WanPipeline(
        transformer=_wan_denoiser(), transformer_2=_wan_denoiser(), boundary_ratio=0.875, **_wan_parts()
    )


def _ltx() -> diffusers.LTXPipeline:
    return diffusers.LTXPipeline(
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=1,
            caption_channels=32,
        ).eval(),
        vae=diffusers.AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False, False, False, False, False),
            upsample_residual=(False, False, False, False),
            upsample_factor=(1, 1, 1, 1),
            patch_size=1,
            patch_size_t=1,
        ).eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
    )


def save_cosmos(folder: Path) -> None:
    """Write a Cosmos as it is published: without the guardrail, which its class makes for itself."""
    diffusers.CosmosTextToWorldPipeline(
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=diffusers.CosmosTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            mlp_ratio=2,
            text_embed_dim=32,
            adaln_lora_dim=4,
            max_size=(4, 32, 32),
        ),
        vae=diffusers.AutoencoderKLCosmos(
            latent_channels=4,
            encoder_block_out_channels=(8, 8, 8, 8),
            decode_block_out_channels=(8, 8, 8, 8),
            attention_resolutions=(8,),
            resolution=64,
            num_layers=1,
            patch_size=4,
        ),
        scheduler=diffusers.EDMEulerScheduler(),
        safety_checker=torch.nn.Identity(),  # anything but None, for which it would be made here
    ).save_pretrained(folder)
    index = folder / "model_index.json"
    parts = json.loads(index.read_text())
    del parts["safety_checker"]
    index.write_text(json.dumps(parts))


VIDEOS: Mapping[str, Callable[[], Any]] = {"wan": _wan, "wan-2.2": _wan_two_denoisers, "ltx": _ltx}
"""What builds each pipeline."""


def video_pipeline(family: str) -> Any:
    """A pipeline of the family, always with the same weights."""
    pipe = seeded(VIDEOS[family])
    pipe.set_progress_bar_config(disable=True)
    return pipe
