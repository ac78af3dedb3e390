"""The demo model's world: one flat shape on a flat background, drawn from signed distances.

Scenes and their pictures live here; their words live in grammar.py and the reading of pictures in checker.py.
Geometry is in picture units: x to the right and y downwards, both -1..1 over the picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import msgspec
import torch
from torch import Tensor

PICTURE_PX = 64

# sRGB 0..255 of each named colour; the nearest two, yellow and orange, are 0.36 apart in 0..1 RGB.
COLOURS = {
    "red": (214, 39, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 218, 60),
    "green": (44, 150, 60),
    "blue": (36, 87, 200),
    "purple": (125, 60, 170),
    "pink": (245, 150, 190),
    "cyan": (70, 205, 215),
    "black": (22, 22, 24),
    "white": (245, 245, 245),
}
# Half-extents in picture units, a factor of 1.5 apart so that 7 % of jitter never confuses two sizes.
SIZES = {"small": 0.33, "medium": 0.50, "large": 0.75}
# Centres in picture units; "middle" is the place of a prompt that names none.
PLACES = {
    "middle": (0.0, 0.0),
    "left": (-0.42, 0.0),
    "right": (0.42, 0.0),
    "top": (0.0, -0.42),
    "bottom": (0.0, 0.42),
}

SIZE_JITTER = 0.07
CENTRE_JITTER = 0.05
COLOUR_JITTER = 0.03
EDGE_PX = 1.25  # width of the anti-aliased border

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]


class Scene(msgspec.Struct, frozen=True):
    """What one picture shows, in words of SHAPES, COLOURS (twice), SIZES and PLACES."""

    shape: str
    colour: str
    background: str
    size: str
    place: str


class Drawing(msgspec.Struct, frozen=True):
    """Scenes with their exact geometry and colours: what the renderer draws."""

    shapes: list[str]
    half_extents: Tensor  # (batch,) picture units
    centres: Tensor  # (batch, 2) x and y, picture units
    ink: Tensor  # (batch, 3) 0..1
    paper: Tensor  # (batch, 3) 0..1


def draw_scenes(count: int, rng: random.Random) -> list[Scene]:
    """Random scenes of two different colours; 60 % of the small and medium ones leave the middle."""
    return [_draw_scene(rng) for _ in range(count)]


def _draw_scene(rng: random.Random) -> Scene:
    colour, background = rng.sample(list(COLOURS), 2)
    size = rng.choice(list(SIZES))
    is_moved = size != "large" and rng.random() < 0.6
    place = rng.choice([place for place in PLACES if place != "middle"]) if is_moved else "middle"
    return Scene(rng.choice(list(SHAPES)), colour, background, size, place)


def draw(scenes: Sequence[Scene], generator: torch.Generator) -> Drawing:
    """The scenes with jittered size, centre and colours."""
    count = len(scenes)
    half_extents = torch.tensor([SIZES[scene.size] for scene in scenes])
    centres = torch.tensor([PLACES[scene.place] for scene in scenes])
    return Drawing(
        shapes=[scene.shape for scene in scenes],
        half_extents=half_extents * (1 + _jitter((count,), SIZE_JITTER, generator)),
        centres=centres + _jitter((count, 2), CENTRE_JITTER, generator),
        ink=_jittered_colours([scene.colour for scene in scenes], generator),
        paper=_jittered_colours([scene.background for scene in scenes], generator),
    )


def render(drawing: Drawing) -> Tensor:
    """Anti-aliased pictures: (batch, 3, 64, 64) float32, 0..1."""
    masks = inside(distances(drawing, PICTURE_PX))[:, None]  # (batch, 1, 64, 64)
    return drawing.ink[:, :, None, None] * masks + drawing.paper[:, :, None, None] * (1 - masks)


def inside(distances_px: Tensor) -> Tensor:
    """How far each pixel lies inside the shape, 0..1, from its signed distance in pixels."""
    return (0.5 - distances_px / EDGE_PX).clamp(0, 1)


def distances(drawing: Drawing, points: int) -> Tensor:
    """Signed distances to the border on a grid of points x points over the picture, negative inside.

    (batch, points, points) float32, in pixels of the 64 px picture.
    """
    axis = (torch.arange(points) + 0.5) / points * 2 - 1
    found = torch.empty(len(drawing.shapes), points, points)
    for shape, distance in SHAPES.items():
        rows = [row for row, name in enumerate(drawing.shapes) if name == shape]
        if rows:
            x = axis[None, None, :] - drawing.centres[rows, 0, None, None]  # (rows, 1, points)
            y = axis[None, :, None] - drawing.centres[rows, 1, None, None]  # (rows, points, 1)
            found[rows] = distance(x, y, drawing.half_extents[rows, None, None]) * (PICTURE_PX / 2)
    return found


def colour_table() -> Tensor:
    """The named colours in the order of COLOURS: (colours, 3) float32, 0..1."""
    return torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 255


def _jittered_colours(names: Sequence[str], generator: torch.Generator) -> Tensor:
    colours = torch.tensor([COLOURS[name] for name in names], dtype=torch.float32) / 255
    return (colours + _jitter((len(names), 3), COLOUR_JITTER, generator)).clamp(0, 1)


def _jitter(shape: tuple[int, ...], amount: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * amount


# Signed distances (negative inside, in picture units, exact near straight borders) of a shape of half-extent
# r centred on the origin; x is (rows, 1, points), y is (rows, points, 1), r is (rows, 1, 1).


def _circle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return (x * x + y * y).sqrt() - r


def _ring(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return ((x * x + y * y).sqrt() - r * 0.76).abs() - r * 0.24


def _square(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - r * 0.86


def _diamond(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return (x.abs() * 1.25 + y.abs()) / 1.6 - r * 0.625


def _cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    arm = r * 0.34
    across = torch.maximum(x.abs() - r, y.abs() - arm)
    upright = torch.maximum(x.abs() - arm, y.abs() - r)
    return torch.minimum(across, upright)


def _triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.maximum((2 * x.abs() - (y + r)) / math.sqrt(5), y - r * 0.80)


def _star(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Five points, one upright: fold the plane onto half a point and measure to its one edge."""
    angle = torch.atan2(x, -y)
    radius = (x * x + y * y).sqrt()
    folded = (angle - (angle / (2 * math.pi / 5)).round() * 2 * math.pi / 5).abs()
    tip, inner = r * 1.06, r * 1.06 * 0.42
    edge_x = inner * math.sin(math.pi / 5)
    edge_y = inner * math.cos(math.pi / 5) - tip
    across = radius * folded.sin() * edge_y - (radius * folded.cos() - tip) * edge_x
    return -across / (edge_x * edge_x + edge_y * edge_y).sqrt()


def _heart(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """The sextic heart curve; its cube root is about linear at the border, which anti-aliasing needs."""
    scale = r * 0.92
    u, v = x.abs() / scale, 0.12 - y / scale
    sextic = (u * u + v * v - 0.72) ** 3 - 1.6 * u * u * v**3
    return sextic.sign() * sextic.abs().clamp_min(1e-9) ** (1 / 3) * scale * 0.45


SHAPES: dict[str, Distance] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "heart": _heart,
}
