"""The demo model's latent code: what the encoder is taught to find and the denoiser learns to make.

16 x 16 cells of 4 px. Each holds its own mean colour (so that a linear preview works), the two colours of the
whole picture, and the squashed distance to the shape's border. With colours apart from outlines, a shape
learnt in red is known in blue; distances are smooth, so an outline may run anywhere between two cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from service.worker.demo_model.shapes import PICTURE_PX, Drawing, distances

CELL_PX = 4
CELLS = PICTURE_PX // CELL_PX
THUMBNAIL, INK, PAPER, BORDER = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)
CHANNELS = 10

# The pipeline's scaling_factor. A colour repeated over 256 cells shows through noise that hides any of them:
# at 1.0 colours were settled in the first three of twenty steps, where training hardly looked. After 1,000
# batches 23 % of backgrounds and 48 % of places were right; with half the signal, and a loss that looks at
# strong noise, 55 % and 84 %.
SCALING = 0.5

# Both bring a channel's spread to about 1, which the noise schedule and the decoder's soft clamp at 3 expect.
COLOUR_SCALE = 3.0
BORDER_SCALE = 1.7
BORDER_MIDDLE = 0.6  # mean of the squashed distances: most of a picture is outside
REACH_PX = 6.0  # distances are squashed by tanh: near the border they count, far away only the side does


def encode_drawing(drawing: Drawing, pictures: Tensor) -> Tensor:
    """The exact latents of rendered drawings: (batch, 10, 16, 16) float32, about -2.7..1.5.

    pictures are the drawings' own, (batch, 3, 64, 64) 0..1.
    """
    thumbnails = F.avg_pool2d(pictures, CELL_PX)  # (batch, 3, 16, 16)
    ink = drawing.ink[:, :, None, None].expand_as(thumbnails)
    paper = drawing.paper[:, :, None, None].expand_as(thumbnails)
    colours = (torch.cat([thumbnails, ink, paper], 1) - 0.5) * COLOUR_SCALE  # (batch, 9, 16, 16)
    squashed = torch.tanh(distances(drawing, CELLS) / REACH_PX)[:, None]  # (batch, 1, 16, 16)
    return torch.cat([colours, (squashed - BORDER_MIDDLE) * BORDER_SCALE], 1)
