"""The real pipeline in this process: what is drawn, what a cancel leaves behind, what cannot be loaded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from service.tasks.text_to_image import TextToImage
from service.worker.demo_model import WEIGHTS
from service.worker.failures import BadOutput
from service.worker.frames import Shown
from service.worker.models import ModelMissing
from service.worker.run import Cancelled
from tests.service.worker.pipelines.desk import DEMO, Desk


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """The pipeline module; importing it loads torch."""
    from service.worker.pipelines import text_to_image

    return text_to_image


@pytest.fixture(scope="module")
def loaded(pipeline: Any) -> Any:
    return pipeline.load(DEMO, "cpu", 1)


def params(**changed: Any) -> TextToImage:
    prompt = "a large red circle on a blue background"
    whole = {"prompt": prompt, "seed": 5, "steps": 6, "guidance": 4.0, "width": 512, "height": 512}
    return TextToImage(**{**whole, **changed})


def desk_of(folder: Path, **changed: Any) -> Desk:
    return Desk(folder, params(**changed), model=DEMO)


def drawn(loaded: Any, folder: Path, **changed: Any) -> np.ndarray:
    """The exported picture, read back."""
    return desk_of(folder, **changed).made(loaded)


def count_hooks(pipe: Any) -> int:
    import torch

    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return sum(len(module._forward_pre_hooks) for network in networks for module in network.modules())


def test_the_same_params_give_the_same_picture(loaded: Any, tmp_path: Path) -> None:
    first, second = (drawn(loaded, tmp_path) for _ in range(2))
    other = drawn(loaded, tmp_path, seed=6)
    assert first.shape == (512, 512, 3)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_largest_seed_is_taken(loaded: Any, tmp_path: Path) -> None:
    assert drawn(loaded, tmp_path, seed=2**53 - 1, steps=1).shape == (512, 512, 3)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 4.0])
def test_steps_are_counted_with_and_without_guidance(loaded: Any, tmp_path: Path, guidance: float) -> None:
    desk = desk_of(tmp_path, guidance=guidance, steps=3)
    made = desk.result(loaded)
    assert desk.steps[0] == (0, 3)
    assert desk.steps[-1] == (3, 3)
    assert desk.phases == ["preparing", "denoising", "decoding"]
    assert made.facts["native_width"] == 64


def test_a_cancelled_run_stops_within_one_step(loaded: Any, tmp_path: Path) -> None:
    desk = Desk(
        tmp_path, params(steps=50), model=DEMO, halt_at=0
    )  # halted between the denoiser's start and its first block
    with pytest.raises(Cancelled):
        desk.result(loaded)
    assert desk.run.step == 0
    assert "decoding" not in desk.phases


def test_a_cancel_leaves_the_pipeline_as_it_was(loaded: Any, tmp_path: Path) -> None:
    before = drawn(loaded, tmp_path)
    for halt_at in (0, 1, 5):
        with pytest.raises(Cancelled):
            Desk(tmp_path, params(steps=50), model=DEMO, halt_at=halt_at).result(loaded)
    assert np.array_equal(drawn(loaded, tmp_path), before)


def test_no_hook_stays_behind(loaded: Any, tmp_path: Path) -> None:
    before = count_hooks(loaded.pipe)
    drawn(loaded, tmp_path, steps=1)
    with pytest.raises(Cancelled):
        Desk(tmp_path, params(), model=DEMO, halt_at=0).result(loaded)
    assert count_hooks(loaded.pipe) == before


def test_watching_changes_no_pixel(loaded: Any, tmp_path: Path) -> None:
    desk = Desk(tmp_path, params(), model=DEMO, is_watched=True)
    watched = desk.made(loaded)
    assert any(isinstance(frame, Shown) for frame in desk.sent)
    assert np.array_equal(watched, drawn(loaded, tmp_path))


def test_steps_are_counted_without_a_step_callback(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    """As for the pipelines that have none: the hooks alone count, and divide once a run has taught them."""
    blind = pipeline.Loaded(loaded.pipe, "cpu", "float32", None)
    blind.inputs = loaded.inputs - {"callback_on_step_end"}
    desk = desk_of(tmp_path, steps=3)
    desk.result(blind)
    assert desk.steps[-1] == (3, 3)
    assert blind.calls_per_step == {True: 1}


def test_poisoned_weights_are_a_failure_and_no_black_picture(pipeline: Any, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_out.bias"] = np.full_like(tensors["conv_out.bias"], np.nan)
    save_file(tensors, file, metadata={"format": "pt"})
    loaded = pipeline.load(msgspec.structs.replace(DEMO, id="poisoned", source=str(folder)), "cpu", 1)
    with pytest.raises(BadOutput, match="no numbers"):
        desk_of(tmp_path, steps=2).result(loaded)


def test_a_black_picture_is_a_failure(pipeline: Any) -> None:
    from service.worker.pipelines.stock import check_numbers

    check_numbers([np.eye(2)])
    with pytest.raises(BadOutput, match="nothing but zeros"):
        check_numbers([np.zeros((4, 4, 3))])


def test_damaged_weights_are_missing_without_telling_their_path(pipeline: Any, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS, folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    model = msgspec.structs.replace(DEMO, id="torn", source=str(folder))
    with pytest.raises(ModelMissing, match="the weights of model torn cannot be loaded") as raised:
        pipeline.load(model, "cpu", 1)
    assert str(tmp_path) not in str(raised.value)


def test_pickled_weights_are_never_read(pipeline: Any, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    model = msgspec.structs.replace(DEMO, id="pickled", source=str(folder))
    with pytest.raises(ModelMissing):
        pipeline.load(model, "cpu", 1)
