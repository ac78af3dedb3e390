"""Latents as a picture lies, for previews. Some classes pack them into a row of tokens.

Of diffusers 0.42 30 classes unpack them as FLUX does and 12 as LTX; of the few others there are no previews.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

AS_FLUX = {"latents", "height", "width", "vae_scale_factor"}
AS_LTX = {"latents", "num_frames", "height", "width", "patch_size", "patch_size_t"}


def picture_in(latents: Any, pipe: Any, asked: Mapping[str, Any]) -> Any | None:
    """The first sample (channels, height, width), the middle frame of a video; None where that is not known.

    `asked` has the width and height in px, and num_frames, that `pipe` was called with.
    """
    if latents.ndim == 3:
        latents = _unpacked(latents, pipe, asked)
    if latents is not None and latents.ndim == 5:  # (batch, channels, frames, height, width)
        latents = latents[:, :, latents.shape[2] // 2]
    return latents[0] if latents is not None and latents.ndim == 4 else None


def _unpacked(latents: Any, pipe: Any, asked: Mapping[str, Any]) -> Any | None:
    """What was (batch, tokens, channels); None when the class does it in a way of its own."""
    unpack = getattr(pipe, "_unpack_latents", None)
    if unpack is None or not {"width", "height"} <= set(asked):
        return None
    names = set(inspect.signature(unpack).parameters)
    if names == AS_FLUX:
        patch = 2 * pipe.vae_scale_factor
        is_whole = latents.shape[1] == (asked["height"] // patch) * (asked["width"] // patch)
        return unpack(latents, asked["height"], asked["width"], pipe.vae_scale_factor) if is_whole else None
    if names == AS_LTX and "num_frames" in asked:
        sides = [asked[name] // pipe.vae_spatial_compression_ratio for name in ("height", "width")]
        frames = (asked["num_frames"] - 1) // pipe.vae_temporal_compression_ratio + 1
        patches = pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
        is_whole = latents.shape[1] * patches[0] ** 2 * patches[1] == frames * sides[0] * sides[1]
        return unpack(latents, frames, *sides, *patches) if is_whole else None
    return None
