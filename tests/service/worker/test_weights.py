"""Whether files of weights are whole, by their names, headers and sizes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from service.tasks.catalog import EMBEDDED, Model, Weights
from service.worker.demo_model import WEIGHTS
from service.worker.weights import damage, hub_cache, located, look

TENSORS = {"a": np.ones((3, 2), np.float32), "b": np.zeros(5, np.float16)}


def entry(source: Path | str, **fields: Any) -> Model:
    return Model(id="m", tasks=("text-to-image",), title="", source=str(source), **fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model."""
    shutil.copytree(WEIGHTS, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that are written again and again."""
    return tmp_path_factory.mktemp("weights")


def test_the_embedded_model_is_whole() -> None:
    found = look(EMBEDDED["demo"])
    assert found.problems == []
    assert [file.name for file in found.files] == [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 40), max_size=4), st.data())
def test_a_file_is_whole_and_every_cut_or_addition_is_seen(
    place: Path, sizes: dict[str, int], data: st.DataObject
) -> None:
    path = place / "whole-or-not.safetensors"
    whole = save({name: np.zeros(size, np.uint8) for name, size in sizes.items()})
    path.write_bytes(whole)
    assert damage(path) is None
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert damage(path) is not None
    path.write_bytes(whole + b"x")
    assert damage(path) is not None


@given(st.binary(max_size=64))
def test_bytes_of_any_kind_are_judged_and_never_raise(place: Path, content: bytes) -> None:
    path = place / "any-kind.safetensors"
    path.write_bytes(content)
    assert damage(path) is None or isinstance(damage(path), str)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (
            lambda f: f.write_bytes(b"torn"),
            "unet/diffusion_pytorch_model.safetensors: it is no safetensors file (4",
        ),
        (lambda f: f.write_bytes(f.read_bytes()[:-9]), "it has 4736955 of 4736964 bytes of weights"),
        (lambda f: f.unlink(), "unet: there are no weights; put diffusion_pytorch_model.safetensors there"),
        (
            lambda f: f.rename(f.with_suffix(".bin")),
            "only pickled weights (diffusion_pytorch_model.bin), which are never",
        ),
        (lambda f: shutil.rmtree(f.parent), "unet: model_index.json names it, and there is no such folder"),
        (
            lambda f: (f.parents[1] / "model_index.json").write_text("[" * 100_000),
            "model_index.json: it cannot be read",
        ),
        (
            lambda f: (f.parents[1] / "model_index.json").write_text('{"unet": [1, 2]}'),
            "_class_name is not the name",
        ),
        (lambda f: (f.parents[1] / "model_index.json").write_text("{"), "model_index.json: it cannot be read"),
        (lambda f: (f.parents[1] / "model_index.json").unlink(), "source: its folder has no model_index.json"),
        (lambda f: shutil.rmtree(f.parents[1]), "source: there is nothing at its path"),
    ],
)
def test_what_is_wrong_is_named_without_a_path(folder: Path, harm: Any, says: str) -> None:
    harm(folder / "unet" / "diffusion_pytorch_model.safetensors")
    (problem,) = look(entry(folder)).problems
    assert says in problem
    assert str(folder) not in problem


def test_a_shard_that_is_missing_is_named(folder: Path) -> None:
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(TENSORS, folder / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors")
    unet.unlink()
    shards = {"a": "diffusion_pytorch_model-00001-of-00002.safetensors", "b": "other.safetensors"}
    unet.with_name(f"{unet.name}.index.json").write_text(json.dumps({"weight_map": shards}))
    found = look(entry(folder))
    assert found.problems == [
        "unet/other.safetensors: it cannot be read: No such file or directory; put the whole file there"
    ]
    assert "unet/diffusion_pytorch_model-00001-of-00002.safetensors" in [file.name for file in found.files]


def test_a_folder_of_transformers_is_looked_at_as_one_network(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_file(TENSORS, tmp_path / "model.safetensors")
    found = look(entry(tmp_path))
    assert ([file.name for file in found.files], found.problems) == (["model.safetensors"], [])


def test_every_part_of_an_entry_is_looked_at(folder: Path, tmp_path: Path) -> None:
    vae = Weights(source="madebyollin/sdxl-vae-fp16-fix", revision="a" * 40)
    (problem,) = look(entry(folder, vae=vae)).problems
    assert problem == (
        "vae: madebyollin/sdxl-vae-fp16-fix is not in the hub's cache; fetch it with: safelight models pull m"
    )


@pytest.mark.parametrize(
    "environment",
    [{"HF_HUB_CACHE": "/a/b"}, {"HF_HOME": "/home/hf"}, {"XDG_CACHE_HOME": "/x"}, {"HF_HUB_CACHE": "~/hub"}, {}],
)
def test_the_hubs_cache_is_where_the_hub_puts_it(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    from huggingface_hub import constants

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        assert str(hub_cache()) == importlib.reload(constants).HF_HUB_CACHE
        part = Weights(source="org/name", revision="b" * 40)
        assert located(part) == hub_cache() / "models--org--name" / "snapshots" / ("b" * 40)
    finally:
        monkeypatch.undo()
        importlib.reload(constants)
