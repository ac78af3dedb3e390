"""What a picture shows, read without any network: named colours, and the template its shape overlaps best.

Independent of the model: it knows the renderer's geometry only, and so judges a generated picture by the same
measure as a drawn one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from service.worker.demo_model.shapes import (
    CENTRE_JITTER,
    COLOURS,
    PICTURE_PX,
    PLACES,
    SHAPES,
    SIZE_JITTER,
    SIZES,
    Drawing,
    Scene,
    colour_table,
    distances,
    inside,
)

ATTRIBUTES = ("shape", "colour", "background", "size", "place")
_TEMPLATE_PX = 32  # half the picture: 3,240 templates compare in 5 ms
_RIM_PX = 4


class Reading(msgspec.Struct, frozen=True):
    """What a picture shows; overlap is the soft intersection over union with the best template, 0..1."""

    scene: Scene
    overlap: float


def read_pictures(pictures: Tensor) -> list[Reading]:
    """A reading of each picture of (batch, 3, 64, 64) float, 0..1."""
    return [_read(picture) for picture in pictures.float().clamp(0, 1)]


def right_attributes(scene: Scene, reading: Reading) -> dict[str, bool]:
    """For each of ATTRIBUTES, whether the picture shows what the scene says."""
    return {name: getattr(scene, name) == getattr(reading.scene, name) for name in ATTRIBUTES}


def rates_right(scenes: Sequence[Scene], readings: Sequence[Reading]) -> dict[str, float]:
    """The share of pictures, 0..1, that have each of ATTRIBUTES right, and "all" for those with all five."""
    rows = [right_attributes(scene, reading) for scene, reading in zip(scenes, readings, strict=True)]
    rates = {name: sum(row[name] for row in rows) / len(rows) for name in ATTRIBUTES}
    return {**rates, "all": sum(all(row.values()) for row in rows) / len(rows)}


def _read(picture: Tensor) -> Reading:
    paper = _rim(picture).median(1).values  # (3,)
    away = (picture - paper[:, None, None]).norm(dim=0)  # (64, 64) distance from the background colour
    # The inner part of the shape, without its blended border, tells the colour.
    is_core = away > max(0.12, float(away.max()) * 0.6)
    ink = picture[:, is_core].median(1).values if is_core.sum() >= 4 else paper  # (3,)
    scene, overlap = _best_template(_mask(picture, paper, ink))
    named = list(COLOURS)
    colour, background = (named[int((colour_table() - seen).norm(dim=1).argmin())] for seen in (ink, paper))
    return Reading(Scene(scene.shape, colour, background, scene.size, scene.place), overlap)


def _rim(picture: Tensor) -> Tensor:
    """The pixels of the four borders, which no shape covers by half: (3, pixels)."""
    rows = torch.cat([picture[:, :_RIM_PX], picture[:, -_RIM_PX:]], 1).flatten(1)
    columns = torch.cat([picture[:, :, :_RIM_PX], picture[:, :, -_RIM_PX:]], 2).flatten(1)
    return torch.cat([rows, columns], 1)


def _mask(picture: Tensor, paper: Tensor, ink: Tensor) -> Tensor:
    """How far each pixel has gone from paper to ink: (32 * 32,), 0..1."""
    step = ink - paper
    along = ((picture - paper[:, None, None]) * step[:, None, None]).sum(0) / (step.square().sum() + 1e-6)
    return F.avg_pool2d(along.clamp(0, 1)[None], PICTURE_PX // _TEMPLATE_PX).flatten()


def _best_template(mask: Tensor) -> tuple[Scene, float]:
    masks, scenes = _templates()
    overlaps = torch.minimum(masks, mask).sum(1) / (torch.maximum(masks, mask).sum(1) + 1e-6)
    best = int(overlaps.argmax())
    return scenes[best], float(overlaps[best])


@cache
def _templates() -> tuple[Tensor, list[Scene]]:
    """Masks (templates, 32 * 32) of every shape, size and place, each at three sizes and nine centres."""
    steps = (-1, 0, 1)
    rows = list(product(SHAPES, SIZES, PLACES, steps, steps, steps))
    half_extents = torch.tensor([SIZES[size] * (1 + SIZE_JITTER * grow) for _, size, _, grow, _, _ in rows])
    centres = torch.tensor([PLACES[place] for _, _, place, _, _, _ in rows])
    centres = centres + CENTRE_JITTER * torch.tensor([[dx, dy] for *_, dx, dy in rows])
    # Rendered at twice the size and pooled, as a read picture is.
    none = torch.zeros(len(rows), 3)
    drawing = Drawing([shape for shape, *_ in rows], half_extents, centres, ink=none, paper=none)
    fine = inside(distances(drawing, PICTURE_PX))
    masks = F.avg_pool2d(fine[:, None], PICTURE_PX // _TEMPLATE_PX).flatten(1)
    return masks, [Scene(shape, "", "", size, place) for shape, size, place, *_ in rows]
