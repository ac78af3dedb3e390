"""From latents to a small passing picture, by a linear map: a tenth of a millisecond where decoding takes many.

A model folder may bring the map as `preview.json`: {"matrix": [[r, g, b] for each channel], "bias": [r, g, b]},
applied to the latents as the denoiser sees them (scaled), giving RGB in 0..1.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FILE = "preview.json"
SIDE_PX = 256  # longest side; about 4-12 kB
QUALITY = 80


class LatentMap(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """A linear map from latent channels to RGB."""

    matrix: list[tuple[float, float, float]]
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


def latent_map(folder: Path) -> LatentMap | None:
    """The map that a model folder brings, if it does. Raises msgspec.ValidationError for a broken one."""
    path = folder / FILE
    return msgspec.json.decode(path.read_bytes(), type=LatentMap) if path.is_file() else None


def picture(latents: NDArray[Any], colours: LatentMap | None) -> NDArray[np.uint8]:
    """Latents (channels, height, width) as RGB (height, width, 3)."""
    cells = np.moveaxis(latents.astype(np.float32), 0, -1)  # (height, width, channels)
    if colours is not None and len(colours.matrix) == cells.shape[-1]:
        rgb = cells @ np.asarray(colours.matrix, np.float32) + np.asarray(colours.bias, np.float32)
        return _bytes(rgb)
    rgb = np.resize(cells[..., :3], (*cells.shape[:2], 3)) if cells.shape[-1] < 3 else cells[..., :3]
    low, high = rgb.min(), rgb.max()
    return _bytes((rgb - low) / max(float(high - low), 1e-6))


def jpeg(pixels: NDArray[np.uint8]) -> tuple[bytes, int, int]:
    """The picture as JPEG, its longest side 256 px, with its width and height in px."""
    height, width = pixels.shape[:2]
    factor = SIDE_PX / max(width, height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue(), *size


def _bytes(unit: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in 0..1, clipped, as bytes."""
    levels: NDArray[np.uint8] = (np.clip(np.nan_to_num(unit), 0, 1) * 255).round().astype(np.uint8)
    return levels
