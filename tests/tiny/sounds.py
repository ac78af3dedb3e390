"""Tiny sound pipelines: Stable Audio (stereo, at most 2 s) and AudioLDM2 (mono, by a vocoder), both at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    GPT2Config,
    GPT2LMHeadModel,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Tokenizer,
)

from tests.tiny.images import autoencoder, t5_encoder, t5_tokenizer
from tests.tiny.seeded import seeded

RATE_HZ = 16_000


def sound_pipeline(family: str = "stable-audio") -> Any:
    """A pipeline of the family, always with the same weights."""
    pipe = seeded(SOUNDS[family])
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _stable_audio() -> diffusers.StableAudioPipeline:
    return diffusers.StableAudioPipeline(
        transformer=diffusers.StableAudioDiTModel(
            sample_size=2 * RATE_HZ // 64,  # latent cells: 64 samples each
            in_channels=3,
            num_layers=2,
            attention_head_dim=4,
            num_key_value_attention_heads=2,
            out_channels=3,
            cross_attention_dim=4,
            time_proj_dim=8,
            global_states_input_dim=8,
            cross_attention_input_dim=4,
        ).eval(),
        # Stable Audio's own scheduler needs torchsde, which the worker does not bring
        scheduler=diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=500, sigma_data=1.0, prediction_type="v_prediction"
        ),
        vae=diffusers.AutoencoderOobleck(
            encoder_hidden_size=6,
            downsampling_ratios=[8, 8],
            decoder_channels=3,
            decoder_input_channels=3,
            audio_channels=2,
            channel_multiples=[2, 4],
            sampling_rate=RATE_HZ,
        ).eval(),
        text_encoder=t5_encoder(),
        tokenizer=_bounded_tokenizer(),
        projection_model=diffusers.StableAudioProjectionModel(
            text_encoder_dim=32, conditioning_dim=4, min_value=0, max_value=32
        ).eval(),
    )


def _audioldm2() -> diffusers.AudioLDM2Pipeline:
    text = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 100}
    audio = {
        "spec_size": 8, "window_size": 4, "num_mel_bins": 8, "depths": [1, 1], "num_attention_heads": [1, 1],
        "hidden_size": 192, "patch_size": 2, "patch_stride": 2, "patch_embed_input_channels": 4,
    }  # fmt: skip
    language_model = GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_head=1, n_layer=1, vocab_size=100, n_positions=99, bos_token_id=1, eos_token_id=1)
    )
    language_model.config.max_new_tokens = 8
    return diffusers.AudioLDM2Pipeline(
        vae=autoencoder(4, in_channels=1, out_channels=1),
        text_encoder=ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16)).eval(),
        text_encoder_2=t5_encoder(),
        projection_model=diffusers.AudioLDM2ProjectionModel(
            text_encoder_dim=16, text_encoder_1_dim=32, langauge_model_dim=16
        ).eval(),
        language_model=language_model.eval(),
        tokenizer=_bounded_tokenizer(),
        tokenizer_2=_bounded_tokenizer(),
        feature_extractor=ClapFeatureExtractor(),
        unet=diffusers.AudioLDM2UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=32,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=(8, 16),
        ).eval(),
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
        vocoder=SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=8,
                sampling_rate=RATE_HZ,
                upsample_initial_channel=16,
                upsample_rates=[8, 8],
                upsample_kernel_sizes=[16, 16],
                resblock_kernel_sizes=[3],
                resblock_dilation_sizes=[[1, 3]],
                normalize_before=False,
                initializer_range=0.5,  # else it is too silent to be heard
            )
        ).eval(),
    )


def _bounded_tokenizer() -> T5Tokenizer:
    tokenizer = t5_tokenizer()
    tokenizer.model_max_length = 16
    return tokenizer


SOUNDS: Mapping[str, Callable[[], Any]] = {"stable-audio": _stable_audio, "audioldm2": _audioldm2}
"""What builds each pipeline."""
