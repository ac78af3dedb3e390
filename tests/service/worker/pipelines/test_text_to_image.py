"""The real pipeline in this process: what is drawn, what a cancel leaves behind, what cannot be loaded."""

from __future__ import annotations

import io
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from service.tasks.catalog import EMBEDDED
from service.tasks.text_to_image import TextToImage
from service.worker.demo_model import WEIGHTS
from service.worker.frames import Entered, FromChild, Shown, Stepped
from service.worker.models import ModelMissing
from service.worker.run import Cancelled, Run
from tests.service.worker.engine.alone import in_engine

DEMO = EMBEDDED["demo"]


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


class Desk:
    """Takes what a run sends, and halts it where a test says."""

    def __init__(self, folder: Path, *, halt_at: int | None = None, is_watched: bool = False) -> None:
        self.sent: list[FromChild] = []
        self._folder = folder
        self._halt_at = halt_at
        self._is_watched = is_watched

    def run(self, **changed: Any) -> Run:
        self.current = Run("j", 1, DEMO, params(**changed), self._folder, self._take, lambda: self._is_watched)
        return self.current

    def _take(self, frame: FromChild) -> None:
        self.sent.append(frame)
        halt_at = self._halt_at
        if halt_at is not None and isinstance(frame, Stepped) and frame.step >= halt_at:
            self.current.halt()


def drawn(pipeline: Any, loaded: Any, folder: Path, **changed: Any) -> np.ndarray:
    """The exported picture, read back."""
    made = in_engine(partial(pipeline.compute, Desk(folder).run(**changed), loaded))
    (file,) = made.export()
    return np.asarray(Image.open(io.BytesIO((folder / file.name).read_bytes())))


def count_hooks(pipe: Any) -> int:
    import torch

    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return sum(len(module._forward_pre_hooks) for network in networks for module in network.modules())


def test_the_same_params_give_the_same_picture(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    first, second = (drawn(pipeline, loaded, tmp_path) for _ in range(2))
    other = drawn(pipeline, loaded, tmp_path, seed=6)
    assert first.shape == (512, 512, 3)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_largest_seed_is_taken(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    assert drawn(pipeline, loaded, tmp_path, seed=2**53 - 1, steps=1).shape == (512, 512, 3)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 4.0])
def test_steps_are_counted_with_and_without_guidance(
    pipeline: Any, loaded: Any, tmp_path: Path, guidance: float
) -> None:
    desk = Desk(tmp_path)
    made = in_engine(partial(pipeline.compute, desk.run(guidance=guidance, steps=3), loaded))
    steps = [(frame.step, frame.steps) for frame in desk.sent if isinstance(frame, Stepped)]
    phases = [frame.phase for frame in desk.sent if isinstance(frame, Entered)]
    assert steps[0] == (0, 3)
    assert steps[-1] == (3, 3)
    assert phases == ["preparing", "denoising", "decoding"]
    assert made.facts["native_width"] == 64


def test_a_cancelled_run_stops_within_one_step(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    desk = Desk(tmp_path, halt_at=0)  # halted between the denoiser's start and its first block
    with pytest.raises(Cancelled):
        in_engine(partial(pipeline.compute, desk.run(steps=50), loaded))
    assert desk.current.step == 0
    assert "decoding" not in [frame.phase for frame in desk.sent if isinstance(frame, Entered)]


def test_a_cancel_leaves_the_pipeline_as_it_was(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    before = drawn(pipeline, loaded, tmp_path)
    for halt_at in (0, 1, 5):
        with pytest.raises(Cancelled):
            in_engine(partial(pipeline.compute, Desk(tmp_path, halt_at=halt_at).run(steps=50), loaded))
    assert np.array_equal(drawn(pipeline, loaded, tmp_path), before)


def test_no_hook_stays_behind(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    before = count_hooks(loaded.pipe)
    drawn(pipeline, loaded, tmp_path, steps=1)
    with pytest.raises(Cancelled):
        in_engine(partial(pipeline.compute, Desk(tmp_path, halt_at=0).run(), loaded))
    assert count_hooks(loaded.pipe) == before


def test_watching_changes_no_pixel(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    desk = Desk(tmp_path, is_watched=True)
    made = in_engine(partial(pipeline.compute, desk.run(), loaded))
    (file,) = made.export()
    watched = np.asarray(Image.open(io.BytesIO((tmp_path / file.name).read_bytes())))
    assert any(isinstance(frame, Shown) for frame in desk.sent)
    assert np.array_equal(watched, drawn(pipeline, loaded, tmp_path))


def test_steps_are_counted_without_a_step_callback(pipeline: Any, loaded: Any, tmp_path: Path) -> None:
    """As for the pipelines that have none: the hooks alone count, and divide once a run has taught them."""
    blind = pipeline.Loaded(loaded.pipe, "cpu", "float32", None)
    blind.inputs = loaded.inputs - {"callback_on_step_end"}
    desk = Desk(tmp_path)
    in_engine(partial(pipeline.compute, desk.run(steps=3), blind))
    assert [frame.step for frame in desk.sent if isinstance(frame, Stepped)][-1] == 3
    assert blind.calls_per_step == {True: 1}


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
