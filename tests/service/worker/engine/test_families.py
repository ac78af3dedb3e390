"""Joined calls of the networks themselves: each row's answer is the one that it has alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

TOKENS = 5  # of text
CELLS = 4  # side of the packed latents


def qwen() -> tuple[Any, Callable[[int, float], dict[str, Any]]]:
    """A small Qwen-Image network, and what its pipeline calls it with."""
    import diffusers
    import torch

    network = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    ).eval()

    def words(seed: int, time: float) -> dict[str, Any]:
        chance = torch.Generator().manual_seed(seed)
        return {
            "hidden_states": torch.randn(1, CELLS * CELLS, 16, generator=chance),
            "timestep": torch.tensor([time]),
            "guidance": None,
            "encoder_hidden_states_mask": torch.ones(1, TOKENS, dtype=torch.long),
            "encoder_hidden_states": torch.randn(1, TOKENS, 16, generator=chance),
            "img_shapes": [[(1, CELLS, CELLS)]],
            "attention_kwargs": {},
            "return_dict": False,
        }

    return network, words


@pytest.mark.parametrize("family", [qwen])
def test_rows_at_different_times_are_answered_as_alone(family: Callable[[], Any]) -> None:
    import torch

    from service.worker.engine.calls import Call

    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        network, words = family()
        calls = [Call(network, (), words(seed, time), {}) for seed, time in ((1, 0.9), (2, 0.4), (3, 0.1))]
        assert calls[0].key is not None, "an argument is not understood, so it would never be joined"
        assert len({call.key for call in calls}) == 1
        alone = [call.alone()[0] for call in calls]
        together = [answer[0] for answer in Call.together(calls)]
    assert not torch.allclose(alone[0], alone[1])
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_pictures_of_another_shape_are_not_joined() -> None:
    import torch

    from service.worker.engine.calls import Call

    network, words = qwen()
    wide = {**words(1, 0.5), "img_shapes": [[(1, 2, 8)]]}  # as many cells, lying otherwise
    assert Call(network, (), words(1, 0.5), {}).key != Call(network, (), wide, {}).key
    unknown = {**words(1, 0.5), "additional_t_cond": torch.zeros(1)}
    assert Call(network, (), unknown, {}).key is None
