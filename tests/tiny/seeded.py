"""Random weights that are the same every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def seeded(build: Callable[[], T]) -> T:
    """What `build` makes, always with the same weights; torch's own generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return build()
