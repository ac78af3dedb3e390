"""Sounds from tiny pipelines of classes without a step callback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from service.tasks.text_to_audio import TextToAudio
from service.worker.run import Cancelled
from tests.service.worker.pipelines.desk import Desk, tiny_at


@pytest.fixture(scope="module", params=["stable-audio", "audioldm2"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from service.worker.pipelines.text_to_audio import load
    from tests.tiny.sounds import sound_pipeline

    folder = tmp_path_factory.mktemp("sound")
    sound_pipeline(request.param).save_pretrained(folder)
    return load(tiny_at(folder), "cpu", 1)


def params(**changed: Any) -> TextToAudio:
    whole = {"prompt": "a star on the left", "seed": 5, "steps": 4, "guidance": 4.0, "seconds": 1.5}
    return TextToAudio(**{**whole, **changed})


@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_a_prompt_becomes_a_sound_that_says_how_it_was_made(loaded: Any, tmp_path: Path, kind: str) -> None:
    from tests.tiny.sounds import RATE_HZ

    desk = Desk(tmp_path, params(format=kind))
    made = desk.result(loaded)
    (file,) = made.export()
    with soundfile.SoundFile(tmp_path / file.name) as sound:
        wave, told = sound.read(), json.loads(sound.comment)
        assert (sound.samplerate, sound.format, sound.subtype) == (RATE_HZ, kind.upper(), "PCM_16")
    assert len(wave) == 1.5 * RATE_HZ
    assert wave.shape[1:] == ((2,) if "vocoder" not in loaded.pipe.components else ())
    assert np.abs(wave).max() > 0.01
    assert (file.media_type, file.seconds, file.sample_rate_hz) == (f"audio/{kind}", 1.5, RATE_HZ)
    assert (told["task"], told["params"]["seconds"]) == ("text-to-audio", 1.5)
    assert made.facts["sample_rate_hz"] == RATE_HZ
    assert desk.phases == ["preparing", "denoising", "decoding"]
    assert (desk.steps[0], desk.steps[-1]) == ((0, 4), (4, 4))


def test_a_cancel_lands_within_a_step_and_leaves_the_pipeline_as_it_was(loaded: Any, tmp_path: Path) -> None:

    def digest() -> str:
        (file,) = Desk(tmp_path, params()).result(loaded).export()
        return file.digest

    before = digest()
    desk = Desk(tmp_path, params(steps=100), halt_at=2)
    with pytest.raises(Cancelled):
        desk.result(loaded)
    assert desk.steps[-1][0] == desk.run.step < 100
    assert digest() == before


def test_another_seed_gives_another_sound(loaded: Any, tmp_path: Path) -> None:

    made = [Desk(tmp_path, params(seed=seed)).result(loaded) for seed in (1, 1, 2)]
    digests = {one.export()[0].digest for one in made}
    assert len(digests) == 2
