"""A tiny Stable Audio pipeline: stereo at 16 kHz, at most 2 s."""

from __future__ import annotations

import diffusers

from tests.tiny.images import t5_encoder, t5_tokenizer
from tests.tiny.seeded import seeded

RATE_HZ = 16_000


def sound_pipeline() -> diffusers.StableAudioPipeline:
    """The pipeline, always with the same weights."""
    pipe = seeded(_stable_audio)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _stable_audio() -> diffusers.StableAudioPipeline:
    tokenizer = t5_tokenizer()
    tokenizer.model_max_length = 16
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
        tokenizer=tokenizer,
        projection_model=diffusers.StableAudioProjectionModel(
            text_encoder_dim=32, conditioning_dim=4, min_value=0, max_value=32
        ).eval(),
    )
