"""Which networks treat the rows of a batch apart, so that rows of several jobs can go through one call.

Listed is what the arguments of a method mean: `rows` count samples along their first dimension, `same` describe all
samples alike. A class or an argument that is not listed runs alone: never wrong, only slower.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Family(msgspec.Struct, frozen=True):
    """How the arguments of a network's method relate to the samples of a batch.

    `sample` and every one of `rows` have a row for each sample (a dict holds such tensors); `timestep` may also
    be a single value for all. `listed` are lists with an entry for each sample. `same` must be equal to be joined.
    `unread` are taken by the method and change nothing.
    """

    sample: str
    rows: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    same: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()


FAMILIES: Mapping[str, Family] = {
    "UNet2DConditionModel.forward": Family(  # Stable Diffusion, SDXL
        sample="sample",
        rows=frozenset({"encoder_hidden_states", "timestep_cond", "added_cond_kwargs", "class_labels"}),
    ),
    "SD3Transformer2DModel.forward": Family(
        sample="hidden_states", rows=frozenset({"encoder_hidden_states", "pooled_projections"})
    ),
    "FluxTransformer2DModel.forward": Family(
        sample="hidden_states",
        rows=frozenset({"encoder_hidden_states", "pooled_projections", "guidance"}),
        same=frozenset({"img_ids", "txt_ids"}),
    ),
    "QwenImageTransformer2DModel.forward": Family(
        sample="hidden_states",
        rows=frozenset({"encoder_hidden_states", "encoder_hidden_states_mask", "guidance"}),
        listed=frozenset({"img_shapes"}),
    ),
    "AutoencoderKL.decode": Family(sample="z", unread=frozenset({"generator"})),
    "AutoencoderTiny.decode": Family(sample="x", unread=frozenset({"generator"})),
}
"""By class and method."""
