"""Which files of a repository are worth fetching; that they are is tested with the command (test_cli_models.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.worker.hub import chosen

SDXL = [
    "README.md", "model_index.json", "sd_xl_base_1.0.safetensors", "scheduler/scheduler_config.json",
    "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors",
    "text_encoder/model.onnx", "tokenizer/merges.txt", "tokenizer/vocab.json",
    "unet/config.json", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors",
    "vae_1_0/diffusion_pytorch_model.safetensors",
]  # fmt: skip
FOLDERS = ["", "scheduler", "text_encoder", "tokenizer", "unet", "vae"]


SHARDS = [name for name in SDXL if "-of-" in name]


@pytest.mark.parametrize(
    ("variant", "has_weights", "weights"),
    [
        ("fp16", True, ["text_encoder/model.fp16", *SHARDS, "vae/diffusion_pytorch_model.fp16"]),
        (None, True, ["text_encoder/model", *SHARDS, "vae/diffusion_pytorch_model"]),
        (None, False, []),
    ],
)
def test_the_variant_is_fetched_where_there_is_one(
    variant: str | None, has_weights: bool, weights: list[str]
) -> None:
    found = chosen(SDXL, FOLDERS[1:], variant, has_weights=has_weights)
    assert [name for name in found if name.endswith(".safetensors")] == [
        f"{name.removesuffix('.safetensors')}.safetensors" for name in weights
    ]
    assert "tokenizer/merges.txt" in found
    assert not any(name.endswith((".bin", ".onnx")) for name in found)


@given(st.sets(st.sampled_from(SDXL)), st.sampled_from(["fp16", None]), st.booleans())
def test_nothing_is_fetched_that_is_not_there_or_not_asked_for(
    names: set[str], variant: str | None, has_weights: bool
) -> None:
    found = chosen(names, FOLDERS, variant, has_weights=has_weights)
    assert set(found) <= names
    assert len(set(found)) == len(found)
    assert not any(name.startswith("vae_1_0/") for name in found)
    for folder in FOLDERS:
        had = {name for name in names - {"sd_xl_base_1.0.safetensors"} if name.rpartition("/")[0] == folder}
        had = {name for name in had if name.endswith(".safetensors")}
        plain = {name for name in had if "fp16" not in name}
        assert not (has_weights and plain) or had & set(found), "every network that has weights gets some"
