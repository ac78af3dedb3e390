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
from tests.service.worker.pipelines.desk import Desk, model_at

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
            loaded[family] = load(model_at(folder, TextToVideo.TASK), "cpu", 1)
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


def desk(folder: Path, **options: Any) -> Desk:
    return Desk(folder, model_at(folder, TextToVideo.TASK), **options)


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
    from service.worker.pipelines import text_to_video

    of = desk(tmp_path)
    made = of.made(text_to_video, pipelines(family), text_params())
    (file,) = made.export()
    shape = {frame.shape for frame in frames_of(tmp_path, file)}
    with av.open(tmp_path / file.name) as container:
        stream, told = container.streams.video[0], json.loads(container.metadata["comment"])
        assert (stream.codec_context.name, stream.frames, stream.average_rate) == ("h264", 9, 8)
    assert (file.media_type, file.width, file.height, file.frames, file.fps) == ("video/mp4", 64, 64, 9, 8)
    assert shape == {(64, 64, 3)}
    assert (told["task"], told["params"]["prompt"]) == ("text-to-video", PROMPT)
    assert (made.facts["seed"], made.facts["frames"]) == (5, 9)
    assert of.phases == ["preparing", "denoising", "decoding"]
    assert (of.steps[0], of.steps[-1]) == ((0, 4), (4, 4))


@pytest.mark.parametrize("family", ["wan", "wan-2.2", "ltx"])
def test_steps_are_right_from_the_first_run_without_a_callback(pipelines: Any, tmp_path: Path, family: str) -> None:
    """Wan calls its denoiser twice a step, Wan 2.2 first one and then the other; the scheduler knows."""
    from service.worker.pipelines import text_to_video
    from service.worker.pipelines.loading import Loaded

    blind = Loaded(pipelines(family).pipe, "cpu", "float32", None)
    blind.inputs = blind.inputs - {"callback_on_step_end"}
    of, steps = desk(tmp_path), []
    hooks = [
        part.register_forward_hook(lambda *_: steps.append(of.current.step))
        for part in (blind.pipe.transformer, getattr(blind.pipe, "transformer_2", None))
        if part is not None
    ]
    of.made(text_to_video, blind, text_params())
    for hook in hooks:
        hook.remove()
    calls = 1 if family == "ltx" else 2
    assert steps == [step for step in range(4) for _ in range(calls)]


@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_the_middle_frame_is_shown(pipelines: Any, tmp_path: Path, family: str) -> None:
    from service.worker.pipelines import text_to_video

    of = desk(tmp_path, is_watched=True)
    of.made(text_to_video, pipelines(family), text_params())
    shown = next(frame for frame in of.sent if isinstance(frame, Shown))
    assert (shown.width, shown.height) == (256, 256)


def test_a_cancel_lands_within_a_step_and_leaves_the_pipeline_as_it_was(pipelines: Any, tmp_path: Path) -> None:
    from service.worker.pipelines import text_to_video

    def made() -> Any:
        (file,) = desk(tmp_path).made(text_to_video, pipelines("wan"), text_params()).export()
        return np.stack(list(frames_of(tmp_path, file)))

    before = made()
    for halt_at in (0, 2):
        of = desk(tmp_path, halt_at=halt_at)
        with pytest.raises(Cancelled):
            of.made(text_to_video, pipelines("wan"), text_params(steps=50))
        assert of.steps[-1][0] == of.current.step < 50
    assert np.array_equal(made(), before)


def test_a_video_becomes_another_with_the_model_that_makes_videos(
    pipelines: Any, tmp_path: Path, clip: Path
) -> None:
    from service.worker.pipelines import video_to_video

    of = desk(tmp_path)
    made = of.made(video_to_video, pipelines("wan"), video_params(), {"video": clip})
    (file,) = made.export()
    assert (file.media_type, file.width, file.height, file.frames, file.fps) == ("video/mp4", 64, 64, 9, 12)
    assert len(list(frames_of(tmp_path, file))) == 9
    assert (of.steps[0], of.steps[-1]) == ((0, 3), (3, 3))  # half of the six


def test_a_class_that_takes_no_video_says_so(pipelines: Any, tmp_path: Path, clip: Path) -> None:
    from service.worker.pipelines import video_to_video

    with pytest.raises(ModelMissing, match="diffusers has no class of VideoToVideoFamily for its LTXPipeline"):
        desk(tmp_path).made(video_to_video, pipelines("ltx"), video_params(), {"video": clip})


def test_a_cosmos_without_its_guardrail_says_what_to_install(tmp_path: Path) -> None:
    from service.worker.pipelines.loading import load
    from tests.tiny.videos import save_cosmos

    save_cosmos(tmp_path)
    says = "model tiny needs the library cosmos_guardrail, which is missing; install it where the worker runs"
    with pytest.raises(ModelMissing, match=says):
        load(model_at(tmp_path, TextToVideo.TASK), "cpu", 1)


def test_what_is_no_video_is_refused_in_words(pipelines: Any, tmp_path: Path) -> None:
    from service.worker.pipelines import video_to_video

    path = tmp_path / "not-a-video"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(
        InvalidInput, match=r"no video that can be decoded \(InvalidDataError\); send MP4"
    ) as raised:
        desk(tmp_path).made(video_to_video, pipelines("wan"), video_params(), {"video": path})
    assert str(tmp_path) not in str(raised.value)
