"""Contact sheets: many small pictures on one, in reading order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_GAP_PX = 2
_GREY = 0.5


def contact_sheet(pictures: Tensor, columns: int, scale: int = 1) -> Image.Image:
    """The pictures (batch, 3, height, width) 0..1 in rows of columns, each pixel scale x scale."""
    pictures = pictures.float().clamp(0, 1).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    framed = F.pad(pictures, (0, _GAP_PX, 0, _GAP_PX), value=_GREY)  # (batch, 3, height, width)
    blanks = torch.full_like(framed[:1], _GREY).expand(-len(framed) % columns, -1, -1, -1)
    cells = torch.cat([framed, blanks]).unflatten(0, (-1, columns))  # (rows, columns, 3, height, width)
    sheet = cells.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (rows * height, columns * width, 3)
    return Image.fromarray((sheet * 255).round().byte().numpy())
