"""Video tasks on tiny pipelines of the real classes: progress, previews, cancel, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from service.tasks.text_to_video import TextToVideo
from service.tasks.video_to_video import VideoToVideo
from service.worker.failures import InvalidInput
from service.worker.frames import Shown, SpooledFile
from service.worker.models import ModelMissing
from service.worker.run import Cancelled
from service.worker.video import mp4
from tests.service.worker.pipelines.desk import Desk, tiny_at

PROMPT = "a red circle on the left"


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family's pipeline, loaded from its folder as a worker does it."""
    from service.worker.pipelines.loading import load
    from tests.tiny.videos import video_pipeline

    loaded: dict[str, Any] = {}

    def of(family: str) -> Any:
        if family not in loaded:
            folder = tmp_path_factory.mktemp(family)
            video_pipeline(family).save_pretrained(folder)
            loaded[family] = load(tiny_at(folder), "cpu", 1)
        return loaded[family]

    return of


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of 12 frames, as a client may send one."""
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    frames[:, :, 20:40] = (200, 40, 40)
    path = tmp_path / "clip"
    path.write_bytes(mp4(frames, 12, "{}"))
    return path


def text_params(**changed: Any) -> TextToVideo:
    whole = {"prompt": PROMPT, "seed": 5, "steps": 4, "guidance": 4.0, "width": 64, "height": 64}
    return TextToVideo(**{**whole, "frames": 9, "fps": 8, **changed})


def video_params(**changed: Any) -> VideoToVideo:
    whole = {"prompt": PROMPT, "seed": 5, "steps": 6, "guidance": 4.0, "width": 64, "height": 64}
    return VideoToVideo(**{**whole, "video": "ab" * 32, "strength": 0.5, "frames": 9, **changed})


def frames_of(folder: Path, file: SpooledFile) -> Iterator[Any]:
    with av.open(folder / file.name) as container:
        yield from (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


@pytest.mark.parametrize("family", ["wan", "wan-2.2", "ltx"])
def test_a_prompt_becomes_a_video_that_says_how_it_was_made(pipelines: Any, tmp_path: Path, family: str) -> None:
    desk = Desk(tmp_path, text_params())
    made = desk.result(pipelines(family))
    (file,) = made.export()
    shape = {frame.shape for frame in frames_of(tmp_path, file)}
    with av.open(tmp_path / file.name) as container:
        stream, told = container.streams.video[0], json.loads(container.metadata["comment"])
        assert (stream.codec_context.name, stream.frames, stream.average_rate) == ("h264", 9, 8)
    assert (file.media_type, file.width, file.height, file.frames, file.fps) == ("video/mp4", 64, 64, 9, 8)
    assert shape == {(64, 64, 3)}
    assert (told["task"], told["params"]["prompt"]) == ("text-to-video", PROMPT)
    assert (made.facts["seed"], made.facts["frames"]) == (5, 9)
    assert desk.phases == ["preparing", "denoising", "decoding"]
    assert (desk.steps[0], desk.steps[-1]) == ((0, 4), (4, 4))


@pytest.mark.parametrize("family", ["wan", "wan-2.2", "ltx"])
def test_steps_are_right_from_the_first_run_without_a_callback(pipelines: Any, tmp_path: Path, family: str) -> None:
    """Wan calls its denoiser twice a step, Wan 2.2 first one and then the other; the scheduler knows."""
    from service.worker.pipelines.loading import Loaded

    blind = Loaded(pipelines(family).pipe, "cpu", "float32", None)
    blind.inputs = blind.inputs - {"callback_on_step_end"}
    desk, steps = Desk(tmp_path, text_params()), []
    hooks = [
        part.register_forward_hook(lambda *_: steps.append(desk.run.step))
        for part in (blind.pipe.transformer, getattr(blind.pipe, "transformer_2", None))
        if part is not None
    ]
    desk.result(blind)
    for hook in hooks:
        hook.remove()
    calls = 1 if family == "ltx" else 2
    assert steps == [step for step in range(4) for _ in range(calls)]


@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_the_middle_frame_is_shown(pipelines: Any, tmp_path: Path, family: str) -> None:
    desk = Desk(tmp_path, text_params(), is_watched=True)
    desk.result(pipelines(family))
    shown = next(frame for frame in desk.sent if isinstance(frame, Shown))
    assert (shown.width, shown.height) == (256, 256)


def test_a_cancel_lands_within_a_step_and_leaves_the_pipeline_as_it_was(pipelines: Any, tmp_path: Path) -> None:
    def made() -> Any:
        (file,) = Desk(tmp_path, text_params()).result(pipelines("wan")).export()
        return np.stack(list(frames_of(tmp_path, file)))

    before = made()
    for halt_at in (0, 2):
        desk = Desk(tmp_path, text_params(steps=50), halt_at=halt_at)
        with pytest.raises(Cancelled):
            desk.result(pipelines("wan"))
        assert desk.steps[-1][0] == desk.run.step < 50
    assert np.array_equal(made(), before)


def test_a_video_becomes_another_with_the_model_that_makes_videos(
    pipelines: Any, tmp_path: Path, clip: Path
) -> None:
    desk = Desk(tmp_path, video_params(), inputs={"video": clip})
    made = desk.result(pipelines("wan"))
    (file,) = made.export()
    assert (file.media_type, file.width, file.height, file.frames, file.fps) == ("video/mp4", 64, 64, 9, 12)
    assert len(list(frames_of(tmp_path, file))) == 9
    assert (desk.steps[0], desk.steps[-1]) == ((0, 3), (3, 3))  # half of the six


def test_a_class_that_takes_no_video_says_so(pipelines: Any, tmp_path: Path, clip: Path) -> None:
    with pytest.raises(ModelMissing, match="diffusers has no class of VideoToVideoFamily for its LTXPipeline"):
        Desk(tmp_path, video_params(), inputs={"video": clip}).result(pipelines("ltx"))


def test_a_cosmos_without_its_guardrail_says_what_to_install(tmp_path: Path) -> None:
    from service.worker.pipelines.loading import load
    from tests.tiny.videos import save_cosmos

    save_cosmos(tmp_path)
    says = "model tiny needs the library cosmos_guardrail, which is missing; install it where the worker runs"
    with pytest.raises(ModelMissing, match=says):
        load(tiny_at(tmp_path), "cpu", 1)


def test_what_is_no_video_is_refused_in_words(pipelines: Any, tmp_path: Path) -> None:
    path = tmp_path / "not-a-video"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(
        InvalidInput, match=r"no video that can be decoded \(InvalidDataError\); send MP4"
    ) as raised:
        Desk(tmp_path, video_params(), inputs={"video": path}).result(pipelines("wan"))
    assert str(tmp_path) not in str(raised.value)
